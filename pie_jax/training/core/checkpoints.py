"""The checkpoint of a training: one `.npz` of flattened leaves, replaced atomically, read with `allow_pickle=False`."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.errors import InputError, PieError
from pie_jax.io import read_npz, write_npz

_TERMS = "terms/"


def _flatten(state: Any) -> dict[str, np.ndarray]:
    flat = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        flat[jax.tree_util.keystr(path)] = np.asarray(leaf)
    return flat


def save_checkpoint(path: pathlib.Path, state: Any, *, seconds: float, terms: dict[str, float] | None = None) -> None:
    """Write the state, the seconds of training so far and the running means of the terms to `path` (.npz), atomically.

    Raises ResourceError.
    """
    flat = _flatten(state) | {"seconds": np.asarray(seconds, np.float64)}
    flat |= {f"{_TERMS}{name}": np.asarray(value, np.float64) for name, value in (terms or {}).items()}
    write_npz(path, flat)


def load_checkpoint(path: pathlib.Path, template: Any) -> tuple[Any, float, dict[str, float]]:
    """The state saved at `path`, in the structure of `template`, its seconds and its terms.

    Raises PieError: they do not fit.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(template)
    try:
        saved = read_npz(path)
    except InputError as error:
        raise PieError(f"{path}: not a checkpoint ({error}); pass --restart to start anew") from error
    restored = []
    for tree_path, leaf in leaves:
        name = jax.tree_util.keystr(tree_path)
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        expected = jax.eval_shape(jax.random.key_data, leaf).shape if is_key else np.shape(leaf)
        if name not in saved or saved[name].shape != tuple(expected):
            got = saved[name].shape if name in saved else "nothing"
            raise PieError(f"{path}: {name} has {got} where this configuration has {tuple(expected)}; "
                           "pass --restart, or another --run")
        value = jnp.asarray(saved[name])
        restored.append(jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)) if is_key else value)
    terms = {name.removeprefix(_TERMS): float(value) for name, value in saved.items() if name.startswith(_TERMS)}
    return jax.tree_util.tree_unflatten(treedef, restored), float(saved["seconds"]), terms
