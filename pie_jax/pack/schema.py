"""The modules are the schema: what arrays a network part must have, and the check against it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pie_jax.arrays import Weights
from pie_jax.errors import PackError
from pie_jax.pack.parts import PARTS
from pie_jax.pack.types import PackConfigs
from pie_jax.programs import kept_json


def schema(part: str, configs: PackConfigs) -> Weights:
    """The tree of `jax.ShapeDtypeStruct` that the module itself says a network part has.

    Nothing is computed: every module is traced by `jax.eval_shape` on an input of batch 1, once in a process.
    """
    return jax.tree.map(lambda leaf: leaf, _traced(part, configs.of(part)))  # dictionaries of the caller's own


@functools.lru_cache(maxsize=128)
def _traced(part: str, config: Any) -> Weights:
    if config is None:
        raise ValueError(f"part: no config for {part!r}")

    def shapes(module, *inputs):
        structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
        return jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x), *structs)["params"]

    if part == "generator":
        networks = importlib.import_module(f"pie_jax.nn.{config.architecture}")
        return {
            "mapping": shapes(networks.Mapping(config), (1, config.z_dim)),
            "synthesis": shapes(networks.Synthesis(config), (1, config.num_layers, config.w_dim)),
            "w_mean": jax.ShapeDtypeStruct((config.w_dim,), jnp.float32),
        }
    entry = PARTS[part]
    if entry.network:
        return shapes(entry.module(config), *entry.inputs(config))
    from pie_jax.face3d.morphable import FaceParams
    from pie_jax.nn import rignet

    face = jax.eval_shape(lambda: FaceParams.from_vector(jnp.zeros((1, 257))))
    rig_input = jax.eval_shape(lambda a: rignet.rig_input(config, a, a), face)
    return shapes(rignet.RigNet(config), (1, config.num_layers, config.w_dim), rig_input.shape)


@functools.lru_cache(maxsize=128)
def _shapes(part: str, config: Any) -> dict[str, list[int]]:
    def shapes() -> dict[str, list[int]]:
        return {name: list(leaf.shape) for name, leaf in flatten(_traced(part, config)).items()}

    return kept_json(f"shapes-{part}", config, shapes)


def check_weights(part: str, weights: Weights, configs: PackConfigs, *, where: str = "weights") -> None:
    """PackError unless `weights` has exactly the keys and shapes that the module declares."""
    expected, got = _shapes(part, configs.of(part)), flatten(weights)
    differences = (("lacks", set(expected) - set(got)), ("has an unknown", set(got) - set(expected)))
    for problem, names in differences:
        if names:
            raise PackError(f"{where}: the part {part!r} {problem} array {min(names)!r} (and {len(names) - 1} more); "
                            "it belongs to another config: train or convert it again")
    for name in expected:
        if list(expected[name]) != list(got[name].shape):
            raise PackError(f"{where}: {part}/{name} has shape {list(got[name].shape)}, expected "
                            f"{expected[name]}; it belongs to another config: train or convert it again")


def flatten(tree: Any, *, prefix: str = "") -> dict:
    """A nested dict as one dict of sorted "a/b/c" names."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat = {}
    for key in sorted(tree):
        flat |= flatten(tree[key], prefix=f"{prefix}/{key}" if prefix else str(key))
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict:
    """The nested dict of "a/b/c" names, the inverse of `flatten`."""
    tree: dict = {}
    for path, value in flat.items():
        *folders, leaf = path.split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[leaf] = value
    return tree


