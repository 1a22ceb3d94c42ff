"""The files of one embedded photo: embedding.npz, synthesis.png, grid.png, energy.png, report.json."""

from __future__ import annotations

import dataclasses
import pathlib
import time
import warnings
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax import __version__
from pie_jax.cli import figures
from pie_jax.config import to_dict
from pie_jax.embed.photos import Photo
from pie_jax.errors import NumericsError, PackError
from pie_jax.io import replace_file, save_png, shown, write_json
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding, ReachWarning, edit_portrait, render_params, synthesise
from pie_jax.portrait.matching import match, start_params
from pie_jax.runtime import backend, threads

if TYPE_CHECKING:
    from PIL import Image

# What the grid shows of each control.
_YAWS = (18.0, -18.0)
_EXPRESSIONS = ("jaw_open", "smile")
_EXPRESSION_SIGMAS = 2.0
_LIGHT = (60.0, 20.0, 0.7)
_GROUND = np.float32(0.6)


def write_results(pack: Pack, photo: Photo, portrait: np.ndarray, embedding: Embedding, *, settings: str, seconds: dict,
                  pack_folder: pathlib.Path) -> dict:
    """Write all files into `photo.folder`, report.json last; returns the report. Raises ResourceError.

    portrait: [H, W, 3] in 0..1, as it was embedded. settings: `settings_hash` of the run.
    """
    folder = photo.folder
    began = time.perf_counter()
    synthesis = synthesis_of(pack, embedding)
    sheet = grid(pack, portrait, embedding, synthesis, title=photo.path.name)
    edit_seconds = time.perf_counter() - began
    report = dict(embedding.report)
    report["seconds"] = {key: round(float(value), 3) for key, value in
                         {**report["seconds"], **seconds, "edit": edit_seconds}.items()}
    report["match"] = match(pack.manifest, report["metrics"])
    done = settings if report["outcome"] == "finished" else None  # what failed is done again by a rerun
    report |= {"photo": {"name": photo.path.name, "sha256": photo.sha256}, "settings": done, "version": __version__,
               "jax": jax.__version__, "device": jax.devices()[0].device_kind, "config": to_dict(embedding.config),
               "pack": {"name": embedding.pack_name, "hash": embedding.pack_hash, "folder": str(pack_folder)}}
    if (chosen := backend()).is_cpu:
        report["bounds"] = {"threads": threads(), **dataclasses.asdict(chosen.bounds)}
    if embedding.photo is not None:
        fitted = embedding.photo
        report["photo"] |= {"file": f"photo{photo.path.suffix.lower()}", "size": list(fitted.size),
                            "square": [round(v, 2) for v in dataclasses.astuple(fitted.square)],
                            "fit_px224": round(fitted.residual_px, 2), "landmarks_by": fitted.landmarks_by}
        replace_file(folder / report["photo"]["file"], photo.path.read_bytes())
    facts = {"version": __version__, "pack": embedding.pack_name, "pack_hash": embedding.pack_hash}
    embedding.save(folder / "embedding.npz")
    save_png(folder / "synthesis.png", synthesis, metadata={**facts, "kind": "synthesis"})
    save_png(folder / "grid.png", sheet, metadata={**facts, "kind": "grid"})
    save_png(folder / "energy.png", chart(embedding, title=photo.path.name), metadata={**facts, "kind": "chart"})
    write_json(folder / "report.json", report)
    return report


def synthesis_of(pack: Pack, embedding: Embedding) -> np.ndarray:
    """[H, W, 3] in 0..1: what the code gives back."""
    if embedding.synthesis is not None:
        return embedding.synthesis
    image = synthesise(pack, jnp.asarray(embedding.w_plus)[None])[0]
    return np.nan_to_num(np.asarray(image, np.float32)).clip(0.0, 1.0)


def grid(pack: Pack, portrait: np.ndarray, embedding: Embedding, synthesis: np.ndarray, *,
         title: str = "") -> Image.Image:
    """Portrait, synthesis, rendering and one edit of each control, labelled; what a pack cannot do is left out."""
    numbers = embedding.report["metrics"]
    tiles = [figures.Tile(image=portrait, label="portrait", detail="the photo"),
             figures.Tile(image=synthesis, label="synthesis",
                          detail=f"{numbers['psnr_db'] or 0:.1f} dB, SSIM {numbers['ssim'] or 0:.2f}")]
    params = start_params(pack.manifest, embedding, None)
    if params is not None and pack.morphable is not None:
        image, coverage = render_params(pack, params)
        shown_image = image * coverage[..., None] + _GROUND * (1 - coverage[..., None])
        tiles.append(figures.Tile(image=shown_image, label="rendering", detail="its face parameters"))
    for label, detail, request in sample_edits(pack, embedding):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ReachWarning)  # nobody asked for this edit
                image = edit_portrait(pack, embedding, **request)
        except (PackError, NumericsError):  # a rig, or what it needs, is missing, or gives no number
            continue
        tiles.append(figures.Tile(image=image, label=label, detail=detail))
    return figures.grid(tiles, columns=6, title=shown(title))


def sample_edits(pack: Pack, embedding: Embedding) -> list[tuple[str, str, dict[str, Any]]]:
    """(label, detail, request) of one edit of each control, away from where the portrait is already."""
    params = start_params(pack.manifest, embedding, None)
    if params is None:
        return []
    now = round(float(np.degrees(params.rotation[1]))) + 0.0  # + 0.0: no -0
    yaw = max(_YAWS, key=lambda angle: abs(angle - now))
    edits: list[tuple[str, str, dict[str, Any]]] = [("pose", f"yaw {yaw:+.0f}° (was {now:+.0f}°)", {"yaw": yaw})]
    names = pack.morphable.expression_names if pack.morphable is not None else ()
    name = next((n for n in _EXPRESSIONS if n in names), names[0] if names else None)
    if name is not None:
        edits.append(("expression", f"{name} = {_EXPRESSION_SIGMAS:g}", {"expression": {name: _EXPRESSION_SIGMAS}}))
    edits.append(("illumination", f"from {_LIGHT[0]:+.0f}°, {_LIGHT[1]:.0f}° up", {"light": _LIGHT}))
    return edits


def chart(embedding: Embedding, *, title: str) -> Image.Image:
    """Each term over steps, with a rule where a stage begins."""
    trace = {("total" if name == "energy" else name): values for name, values in embedding.trace.items()}
    length = max((len(values) for values in trace.values()), default=0)
    marks, at = {}, 0
    for stage in embedding.config.stages:
        if stage.steps:
            marks[at] = {"w": "W", "w_plus": "W+"}[stage.space]
        at += stage.steps
    return figures.energy_chart(np.arange(1, length + 1), trace, marks=marks, title=f"{shown(title)}: energy")
