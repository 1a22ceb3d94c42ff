"""A small pack that embeds, edits and trains in a second, its photos, and the commands that are put to trial."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.random_pack import random_pack
from benchmarks.raster import grid_head
from pie_jax.config import (
    CONTROLS,
    CameraConfig,
    DFRConfig,
    EnergyConfig,
    GeneratorConfig,
    LandmarkConfig,
    RegressorConfig,
    RigNetConfig,
    VGGConfig,
)
from pie_jax.io import read_json, save_png
from pie_jax.pack import Pack, PackConfigs, load_pack, read_manifest, save_pack

_W_DIM = 16
# what differs from run to run, or from folder to folder; Orbax names its files at random
_TIMES = ("seconds", "steps_per_second", "items_per_second", "command", "folder", "bytes")


def small_pack(*, full: bool = False) -> Pack:
    """Random weights at 32 px; the energy is the one term that compiles in a second.

    full: with the networks of all other terms too.
    """
    generator = GeneratorConfig(resolution=32, z_dim=_W_DIM, w_dim=_W_DIM, mapping_layers=2, channel_base=128,
                                channel_max=8)
    sizes = {"num_layers": generator.num_layers, "w_dim": _W_DIM}
    configs = PackConfigs(
        generator=generator, regressor=RegressorConfig(stage_sizes=(1, 1), bottleneck=False, width=4, resolution=16),
        landmarks=LandmarkConfig(stacks=1, width=8, depth=1, resolution=32), dfr=DFRConfig(hidden=(8, 8), **sizes),
        rignets=tuple(RigNetConfig(control=control, width=4, hidden_width=4, **sizes) for control in sorted(CONTROLS)),
        camera=CameraConfig(crop_x=0.125, crop_y=0.125, crop_size=0.75),
        energy=EnergyConfig(terms=("synthesis",), render_resolution=16, samples=1))
    if full:
        face = VGGConfig(width=4, resolution=32, layers=(), fc_width=8, num_classes=4)
        configs = dataclasses.replace(configs, recognition=face, perceptual=VGGConfig(
            width=4, resolution=32, layers=("conv1_2", "conv2_2")))
    return random_pack(configs, pool=12, head=grid_head(9, 16))


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """A folder with `pack`, photos `a.png` to `d.png`, a rig to convert, and `done/a`, an embedding to edit."""

    folder: pathlib.Path

    def copy(self, folder: pathlib.Path) -> pathlib.Path:
        """All of it in a new folder, which is returned."""
        return pathlib.Path(shutil.copytree(self.folder, folder))


def make_world(folder: pathlib.Path) -> World:
    """Write everything but `done`, which the embed command makes."""
    folder.mkdir(parents=True)
    save_pack(folder / "pack", small_pack())
    rng = np.random.default_rng(0)
    for name in "abcd":
        save_png(folder / f"{name}.png", np.kron(rng.uniform(size=(8, 8, 3)), np.ones((8, 8, 1))))
    layers = read_manifest(folder / "pack")["configs"]["generator"]
    count = 2 * int(np.log2(layers["resolution"])) - 2
    rig = {}
    for i in range(count):
        for part, (outputs, inputs) in {"encoder": (4, _W_DIM), "decoder": (_W_DIM, 4 + 257)}.items():
            rig[f"{part}.{i}.weight"] = rng.normal(size=(outputs, inputs)).astype(np.float32)
            rig[f"{part}.{i}.bias"] = rng.normal(size=outputs).astype(np.float32)
    np.savez(folder / "rig.npz", **rig)
    return World(folder=folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command on a world that is its working folder, and the folders that hold what it makes."""

    module: str
    argv: tuple[str, ...]
    made: tuple[str, ...]

    def main(self) -> Callable[[list[str]], int]:
        import importlib

        return importlib.import_module(self.module).main


EMBED = Command(module="pie_jax.embed", made=("out",), argv=(
    "a.png", "b.png", "--pack", "pack", "-o", "out", "--steps", "100,50", "--batch", "1"))
EMBED_ONE = Command(module="pie_jax.embed", made=("done",), argv=(
    "a.png", "--pack", "pack", "-o", "done", "--steps", "2,1"))
TRAIN = Command(module="pie_jax.training.dfr", made=("run", "codes", "pack"), argv=(
    "--pack", "pack", "--run", "run", "--codes", "codes", "--count", "40", "--steps", "64", "--batch", "4",
    "--hidden", "8,8"))
CONVERT = Command(module="converters.rignet", made=("pack",), argv=("rig.npz", "--control", "pose", "--pack", "pack"))
EDIT = Command(module="pie_jax.edit", made=("frames",), argv=(
    "done/a", "--pack", "pack", "--sweep", "yaw=-9:9:6", "--save", "frames"))
COMMANDS = {"embed": EMBED, "train": TRAIN, "convert": CONVERT, "edit": EDIT}


# ------------------------------------------------------------------------------------------- results
def contents(folder: pathlib.Path, made: tuple[str, ...]) -> dict[str, str]:
    """A hash of each result below `folder`, without the times that differ from run to run.

    Of a pack: its manifest and, as it is loaded, each of its parts.
    """
    found = {}
    for name in made:
        if name == "pack":
            manifest = read_manifest(folder / name)
            found["pack"] = _hash(_untimed({key: value for key, value in manifest.items() if key != "sha256"}))
            load_pack(folder / name)
            continue
        for path in sorted(p for p in (folder / name).rglob("*") if p.is_file() and not p.name.startswith(".")):
            said = _said(path)
            if said is not None:
                found[str(path.relative_to(folder))] = _hash(said)
    return found


def leftovers(folder: pathlib.Path) -> list[str]:
    """What only a run at work should have: unfinished files, and a pack's parts that its manifest does not name."""
    found = [path for path in folder.rglob("*") if path.name.endswith(".part") or path.name == "begun.json"]
    if (folder / "pack/manifest.json").is_file():
        named = {entry["folder"] for entry in read_manifest(folder / "pack")["parts"].values()}
        found += [path for path in (folder / "pack").iterdir() if path.is_dir() and path.name not in named]
    return sorted(str(path.relative_to(folder)) for path in found)


def _said(path: pathlib.Path) -> Any:
    if path.name in ("index.html", "log.jsonl"):  # of times alone what is not said elsewhere
        return None
    if path.suffix == ".csv":
        return [line.split(",")[0] for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        return _untimed(read_json(path))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _untimed(json.loads(str(arrays[name]))) if arrays[name].dtype.kind == "U" else
                    hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in arrays.files if name != "seconds"}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _untimed(each) for name, each in value.items() if name not in _TIMES}
    return [_untimed(each) for each in value] if isinstance(value, list) else value


def _hash(said: Any) -> str:
    return said if isinstance(said, str) else hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


