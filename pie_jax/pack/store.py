"""Packs on disk: Orbax folders under a manifest, written atomically, checked when read."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pie_jax.config import (
    CameraConfig,
    EnergyConfig,
    RigNetConfig,
    from_dict,
    to_dict,
)
from pie_jax.errors import PackError, ResourceError, printable
from pie_jax.face3d.morphable import MorphableModel
from pie_jax.io import cause_of, clear_unfinished, locked_folder, replace_file, shown
from pie_jax.pack.parts import PARTS, is_network
from pie_jax.pack.pool import Pool
from pie_jax.pack.schema import check_weights
from pie_jax.pack.storage import array_hash, read_arrays, write_arrays
from pie_jax.pack.types import Manifest, Pack, PackConfigs

FORMAT = 1
_PART_FOLDER = re.compile(r"\.?([a-z0-9_]+)-[0-9a-f]{12}(?:-\d+)?(?:\..*)?")  # a part's, or the one it is written to
_LARGEST_COUNT = 65536  # of layers, channels, pixels in a config
# stored as float32 whatever the part's storage: geometry, in model units or in units of the portrait
_KEEP_FLOAT32 = ("mean_shape", "mean_albedo", "w_mean", "output_mean", "output_std")


# --------------------------------------------------------------------------------------- writing
def update_part(path: str | os.PathLike, name: str, weights: Any, *, config: Any=None, record: Mapping | None = None,
                storage: str = "float16", check: bool = True) -> None:
    """Write one part of the pack at `path` (made if it is not there) and put it into the manifest, atomically.

    Args:
      path: folder of the pack.
      name: one of `PARTS`.
      weights: nested dict of arrays; for "morphable" a MorphableModel, for "pool" a Pool.
      config: the network's config; None keeps the one in the manifest (and must be None for the last two).
      record: what made it (command, seed, steps, held-out metrics): stored under "training".
      storage: "float16" halves the size of large arrays that survive it (relative error < 1e-3); "float32" keeps all.
      check: compare with `schema` before writing.
    Errors: PackError (wrong arrays), ResourceError (no permission, disk full), ValueError (unknown name).
    """
    if name not in PARTS:
        raise ValueError(f"name: expected one of {tuple(PARTS)}, got {name!r}")
    if storage not in ("float16", "float32"):
        raise ValueError(f"storage: expected 'float16' or 'float32', got {storage!r}")
    static = {}
    if isinstance(weights, Pool):
        weights = weights.to_arrays()
    elif dataclasses.is_dataclass(weights):
        weights, static = _arrays_and_static(weights)
    tree = _nested_numpy(weights, storage)
    with _writing(path) as (folder, manifest):
        configs = configs_of(manifest)
        if is_network(name):
            configs = configs.with_part(name, config) if config is not None else configs
            if check:
                check_weights(name, tree, configs, where=str(folder))
        sha = array_hash(tree)
        part_folder = f"{name}-{sha[:12]}"
        write_arrays(folder, part_folder, tree, sha)
        size = sum(f.stat().st_size for f in (folder / part_folder).rglob("*") if f.is_file())
        manifest["configs"] = _configs_dict(configs)
        manifest["parts"][name] = {"folder": part_folder, "sha256": sha, "storage": storage, "bytes": size}
        if static:
            manifest["parts"][name]["static"] = static
        if record is not None:
            manifest["training"][name] = dict(record)


def update_configs(path: str | os.PathLike, *, camera: CameraConfig | None = None, energy: EnergyConfig | None = None,
                   record: Mapping | None = None, **entries) -> None:
    """Replace the camera or the energy defaults of the pack at `path`, atomically.

    `record` is stored under training/energy or training/camera; `entries` are plain
    manifest entries (name, licence ...).
    """
    with _writing(path) as (_, manifest):
        changes = {k: v for k, v in (("camera", camera), ("energy", energy)) if v is not None}
        manifest["configs"] = _configs_dict(dataclasses.replace(configs_of(manifest), **changes))
        manifest.update(entries)
        if record is not None:
            manifest["training"]["energy" if energy is not None else "camera"] = dict(record)


def save_pack(path: str | os.PathLike, pack: Pack, *, storage: str = "float16") -> None:
    """Write a whole pack (every part it has) to the folder `path`; parts it has not are left alone there."""
    entries = {k: v for k, v in pack.manifest.items() if k not in ("format", "configs", "parts", "training")}
    update_configs(path, camera=pack.configs.camera, energy=pack.configs.energy, **entries)
    training = pack.manifest.get("training", {})
    for name, weights in pack.weights.items():
        update_part(path, name, weights, config=pack.configs.of(name), record=training.get(name), storage=storage)
    for name in (name for name in PARTS if not is_network(name)):
        if getattr(pack, name) is not None:
            update_part(path, name, getattr(pack, name), record=training.get(name), storage=storage)


@contextlib.contextmanager
def _writing(path) -> Iterator[tuple[Path, dict]]:
    """The pack's folder, locked, and its manifest, which replaces the old one when the block ends well."""
    folder = Path(path).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(folder):
            if (folder / "manifest.json").exists():
                manifest = dict(read_manifest(folder))
            else:
                manifest = {"format": FORMAT, "name": folder.name}
            manifest.setdefault("configs", _configs_dict(PackConfigs()))
            manifest.setdefault("parts", {})
            manifest.setdefault("training", {})
            _clear(folder, manifest)  # what writers that were killed have left
            yield folder, manifest
            manifest["sha256"] = manifest_hash(manifest)
            replace_file(folder / "manifest.json", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
            _clear(folder, manifest)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot write the pack ({error.strerror or error}); "
                            "choose a folder you may write to, with free space") from error


def _clear(folder: Path, manifest: Mapping) -> None:
    """Remove folders of parts that the manifest does not name, and unfinished ones; only what has our own names."""
    clear_unfinished(folder)
    named = {entry["folder"] for entry in manifest["parts"].values()}
    for path in folder.iterdir():
        match = _PART_FOLDER.fullmatch(path.name)
        if match and match[1] in PARTS and path.name not in named and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _nested_numpy(tree, storage: str, name: str = ""):
    if isinstance(tree, Mapping):
        return {str(k): _nested_numpy(v, storage, str(k)) for k, v in sorted(tree.items())}
    array = np.asarray(tree)
    if array.dtype.kind == "V" or array.dtype == np.float64:  # bfloat16 and float64 are stored as float32
        array = array.astype(np.float32)
    if storage == "float16" and array.dtype == np.float32 and name not in _KEEP_FLOAT32:
        array = _half(array) if array.ndim >= 2 and array.size >= 1024 else array
    return array


def _half(array: np.ndarray) -> np.ndarray:
    """float16 where no element is off by more than 1e-3 of the array's root mean square plus its own size."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    error = np.abs(half.astype(np.float32) - array)
    allowed = 1e-3 * (np.sqrt(np.mean(np.square(array))) + np.abs(array))
    return half if np.all(error <= allowed) else array  # an overflow is inf > allowed


def _arrays_and_static(value) -> tuple[dict, dict]:
    arrays, static = {}, {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if isinstance(item, tuple | str | int | float | bool):
            static[field.name] = list(item) if isinstance(item, tuple) else item
        elif item is not None:
            arrays[field.name] = item
    return arrays, static


# --------------------------------------------------------------------------------------- reading
def find_pack(path_or_name: str | os.PathLike) -> Path:
    """The folder of a pack: an existing folder, or a name among those that ship with the package."""
    path = Path(path_or_name)
    shipped = Path(__file__).parent.parent / "packs"
    for folder in (path, shipped / path) if len(path.parts) == 1 else (path,):
        if (folder / "manifest.json").is_file():
            return folder.absolute()
    names = sorted(p.parent.name for p in shipped.glob("*/manifest.json"))
    known = f"packs that ship: {', '.join(names)}" if names else "no pack ships with this installation"
    raise PackError(f"{path_or_name}: not a pack (no manifest.json in it); give the folder of a pack ({known})")


def read_manifest(path: str | os.PathLike) -> Manifest:
    """manifest.json of a pack's folder, checked; PackError if it is damaged or of a newer format."""
    file = Path(path) / "manifest.json"
    try:
        manifest = Manifest(json.loads(file.read_text()))
        if manifest["format"] > FORMAT:
            raise PackError(f"{file}: written in format {manifest['format']}, this version reads up to {FORMAT}; "
                            "upgrade pie_jax")
        _check_values(manifest.get("configs", {}), "configs")
        _check_texts(manifest)
        for name in ("parts", "configs", "training"):
            if not isinstance(manifest.get(name, {}), dict):
                raise ValueError(f"{name}: expected an object")
        configs_of(manifest)
        for name, entry in manifest.get("parts", {}).items():
            _check_entry(name, entry)
        if "sha256" not in manifest and any(re.fullmatch("[0-9a-f]{64}", str(v)) for v in manifest.values()):
            raise ValueError("its SHA-256 has lost its name: it was changed or damaged")
        if manifest.get("sha256", manifest_hash(manifest)) != manifest_hash(manifest):
            raise ValueError("its SHA-256 is not the one it names: it was changed or damaged")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackError(f"{shown(file)}: cannot be read ({cause_of(error)}); download or make the pack "
                        "again") from error
    return manifest


def manifest_hash(manifest: Mapping) -> str:
    """SHA-256 of all that a manifest says but this hash itself."""
    said = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _check_values(value: Any, where: str) -> None:
    """ValueError unless every number below is finite, every count small enough to be one."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            _check_values(each, f"{where}/{name}")
    elif isinstance(value, list):
        for each in value:
            _check_values(each, where)
    elif isinstance(value, int) and not -1 <= value <= _LARGEST_COUNT:
        raise ValueError(f"{where}: expected at most {_LARGEST_COUNT}, got {value:.3g}")
    elif isinstance(value, float) and not abs(value) < 1e9:
        raise ValueError(f"{where}: expected a finite number, got {value}")


def _check_texts(value: Any) -> None:
    """ValueError unless every name and text below is one that a terminal only shows."""
    if isinstance(value, str):
        if not value.isprintable():
            raise ValueError(f"holds control characters: {printable(value, longest=60)}")
    elif isinstance(value, Mapping | list):
        for each in [*value, *(value.values() if isinstance(value, Mapping) else ())]:
            _check_texts(each)


def _check_entry(name: str, entry: Mapping) -> None:
    """ValueError unless a part lies directly in its pack, under the name that `update_part` makes."""
    sha = entry["sha256"]
    if not isinstance(sha, str) or not re.fullmatch("[0-9a-f]{64}", sha):
        raise ValueError(f"{name}: its sha256 is none")
    if not re.fullmatch("[a-z0-9_]+", name) or entry["folder"] != f"{name}-{sha[:12]}":
        raise ValueError(f"{name}: its folder is not called {name}-{sha[:12]}")


def configs_of(manifest: Mapping) -> PackConfigs:
    """The configs in a manifest; ValueError names an unknown field."""
    data = dict(manifest.get("configs", {}))
    kinds = {name: part.config for name, part in PARTS.items() if part.config not in (None, RigNetConfig)}
    kinds |= {"camera": CameraConfig, "energy": EnergyConfig}
    unknown = sorted(set(data) - set(kinds) - {"rignets"})
    if unknown:
        raise ValueError(f"configs: unknown entry {unknown[0]!r}")
    rignets = tuple(from_dict(RigNetConfig, c) for c in data.pop("rignets", ()))
    made = {name: None if value is None else from_dict(kinds[name], value) for name, value in data.items()}
    shared: dict[str, Any] = {name: made.pop(name) for name in ("camera", "energy") if name in made}
    configs = PackConfigs(rignets=rignets, **shared)
    for name, config in made.items():
        if config is not None:
            configs = configs.with_part(name, config)
    return configs


def _configs_dict(configs: PackConfigs) -> dict:
    """The inverse of `configs_of`: one entry a part."""
    data = to_dict(configs)
    data.pop("others")
    return data | {name: to_dict(config) for name, config in configs.others}


def load_pack(path_or_name: str | os.PathLike, *, parts: tuple[str, ...] | None = None,
              check: bool = True) -> Pack:
    """Load a pack onto the default device, float32.

    Args:
      path_or_name: the folder of a pack, or the name of one that ships ("demo").
      parts: only these of `PARTS`; None loads all that the manifest names.
      check: compare every array with the module's own shapes and every part with its SHA-256.
    Errors: PackError naming the file, the cause and the next step.
    """
    folder = find_pack(path_or_name)
    for attempt in range(3):
        manifest = read_manifest(folder)
        names = [n for n in PARTS if n in manifest.get("parts", {}) and (parts is None or n in parts)]
        try:
            trees = {name: read_arrays(folder, name, manifest["parts"][name], check=check) for name in names}
            break
        except FileNotFoundError as error:  # a writer has just replaced that part, or it is really gone
            if attempt == 2:
                raise PackError(f"{error}; the pack is incomplete: download or make it again") from error
            time.sleep(0.2)
    configs = configs_of(manifest)
    if check:
        for name in trees:
            if is_network(name):
                check_weights(name, trees[name], configs, where=str(folder))
    trees = jax.device_put(jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == np.float16 else a, trees))
    static = {k: tuple(v) if isinstance(v, list) else v
              for k, v in manifest["parts"].get("morphable", {}).get("static", {}).items()}
    try:
        morphable = MorphableModel(**trees.pop("morphable"), **static) if "morphable" in trees else None
        pool = Pool.from_arrays(trees.pop("pool")) if "pool" in trees else None
    except (TypeError, ValueError, KeyError, OSError) as error:
        raise PackError(f"{folder}: {error}; the pack belongs to another version: make it again") from error
    return Pack(weights=trees, morphable=morphable, pool=pool, configs=configs, manifest=manifest)
