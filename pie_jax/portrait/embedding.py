"""The result of embedding one portrait, and its file."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import numpy as np

from pie_jax.arrays import Absent
from pie_jax.config import EmbedConfig, from_dict, to_dict
from pie_jax.errors import InputError, PieError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.io import encode_png, is_picture, read_npz, shown, write_npz
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.portrait.synthesis import as_pack, synthesise

FORMAT = 1
_LARGEST_CODE = 1e6  # what no generator has a use for
_NAMED = 5  # embeddings that a message names at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding:
    """A code of the generator that gives the portrait back, and all that an edit needs beside the pack.

    Arrays are numpy float32 on the host. What a part of the pack would have told is None where the pack lacks it.
    """

    w_plus: np.ndarray  # [L, D]
    params: FaceParams | Absent  # fields [n], read from the synthesis: what edits start from
    portrait_params: FaceParams | Absent  # fields [n], read from the photo
    landmarks: np.ndarray | None  # [66, 2] x, y of the synthesis, in 0..1 of the face crop
    portrait_landmarks: np.ndarray | None  # [66, 2] of the photo
    trace: dict[str, np.ndarray]  # "energy" and each term: [steps] over all stages, NaN where not reached
    config: EmbedConfig
    pack_name: str
    pack_hash: str
    report: dict  # metrics, seconds, outcome: JSON-able
    photo: FittedPhoto | None = None  # the photo itself, where it was found to be one and the pack can fit it
    synthesis: np.ndarray | None = None  # [H, W, 3] in 0..1: what w_plus gives back, until it is saved

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the photo's portrait, or what the pack of this name gives back, if it is there."""
        if self.photo is not None:
            return encode_png(self.photo.portrait)
        try:
            pack = as_pack(self.pack_name)
        except PieError:
            return None
        return encode_png(np.asarray(synthesise(pack, self.w_plus[None])[0])) if pack.hash == self.pack_hash else None

    def save(self, path: str | os.PathLike) -> None:
        """Write one .npz, whole or not at all. Raises ResourceError."""
        arrays = {"w_plus": np.asarray(self.w_plus, np.float32)}
        for name in ("params", "portrait_params"):
            if getattr(self, name) is not None:
                arrays[name] = np.asarray(getattr(self, name).to_vector(), np.float32)
        for name in ("landmarks", "portrait_landmarks"):
            if getattr(self, name) is not None:
                arrays[name] = np.asarray(getattr(self, name), np.float32)
        arrays |= {f"trace/{name}": np.asarray(values, np.float32) for name, values in self.trace.items()}
        if self.photo is not None:
            arrays |= {f"photo/{name}": array for name, array in self.photo.to_arrays().items()}
        facts = {"format": FORMAT, "pack_name": self.pack_name, "pack_hash": self.pack_hash,
                 "config": to_dict(self.config), "report": self.report}
        arrays["facts"] = np.array(json.dumps(facts, sort_keys=True))
        write_npz(path, arrays, compress=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Embedding:
        """Read what `save` wrote; a folder means the embedding.npz in it. Nothing in the file is executed.

        Raises:
          InputError: missing, damaged, of a newer format, or not an embedding.
        """
        path = pathlib.Path(path)
        if path.is_dir():
            path = path / "embedding.npz"
        if not path.is_file():
            raise InputError(f"{shown(path)}: no embedding here; {_instead(path.parent)}")
        if is_picture(path):
            raise InputError(f"{shown(path)}: is a photo; embed it first: python -m pie_jax.embed {shown(path)} -o OUT")
        try:
            arrays = read_npz(path)
            facts = json.loads(str(arrays.pop("facts")))
            if facts["format"] > FORMAT:
                raise InputError(f"{shown(path)}: written in format {facts['format']}, this version reads up to "
                                 f"{FORMAT}; upgrade pie_jax")
            trace = {name.removeprefix("trace/"): a for name, a in arrays.items() if name.startswith("trace/")}
            photo = {name.removeprefix("photo/"): a for name, a in arrays.items() if name.startswith("photo/")}
            own, of_portrait = (_params(arrays[name]) if name in arrays else None
                                for name in ("params", "portrait_params"))
            return cls(w_plus=_latent(arrays["w_plus"]), landmarks=arrays.get("landmarks"), trace=trace, params=own,
                       portrait_params=of_portrait,
                       portrait_landmarks=arrays.get("portrait_landmarks"), pack_name=str(facts["pack_name"]),
                       pack_hash=str(facts["pack_hash"]), config=from_dict(EmbedConfig, facts["config"]),
                       report=_report(facts["report"]),
                       photo=FittedPhoto.from_arrays(photo) if photo else None)
        except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            cause = " ".join(str(error).split())[:120] or type(error).__name__
            raise InputError(f"{shown(path)}: not an embedding, or damaged ({cause}); embed the photo again") from None


def _instead(folder: pathlib.Path) -> str:
    """What to name instead of a folder without an embedding."""
    found = sorted(shown(path.parent) for path in folder.glob("*/embedding.npz"))[:_NAMED]
    if found:
        return f"name one of {', '.join(found)}"
    return "make one with python -m pie_jax.embed PHOTO -o OUT"


def _report(stored: dict) -> dict:
    """The report as it is called today: older files say "figures" for its metrics."""
    return {"metrics" if name == "figures" else name: value for name, value in dict(stored).items()}


def _latent(array: np.ndarray) -> np.ndarray:
    if array.ndim != 2 or array.dtype != np.float32 or not (np.abs(array) < _LARGEST_CODE).all():
        raise ValueError(f"w_plus: expected finite float32 [L, D], got {array.dtype} {list(array.shape)}, values up to "
                         f"{np.abs(array).max(initial=0.0):.3g}")
    return array


def _params(vector: np.ndarray) -> FaceParams:
    if vector.ndim != 1:
        raise ValueError(f"params: expected [257], got {list(vector.shape)}")
    if vector.dtype != np.float32 or not np.isfinite(vector).all():
        raise ValueError("params: expected finite float32 values")
    return FaceParams.from_vector(vector)
