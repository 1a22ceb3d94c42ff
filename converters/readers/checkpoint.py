"""What a file holds once it is read: plain containers, named nodes and numpy arrays."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.limits import MAX_DEPTH, MAX_NODES
from pie_jax.errors import PackError


@dataclasses.dataclass(frozen=True)
class Node:
    """An object of a class that was not, and need not be, imported: its name and what was stored in it."""

    class_name: str  # with its module, such as "training.networks.Generator"
    state: dict[str, Any]


_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile
_WRAPPED_DEPTH = 3  # {"state_dict": {"generator": {"module.fc.weight": ...}}}


def unwrapped(tree: Any, *, depth: int = _WRAPPED_DEPTH, taken: list[str] | None = None) -> Any:
    """A tree whose dicts, down to `depth` levels, have lost the prefixes of torch's wrappers before every name.

    taken: gets each prefix that was taken off a dict, such as "module._orig_mod.".
    """
    whole = ""
    if not isinstance(tree, dict) or depth == 0:
        return tree
    while tree and all(isinstance(key, str) and key.startswith(_WRAPPERS) for key in tree):
        prefix = next(p for p in _WRAPPERS if next(iter(tree)).startswith(p))
        if not all(key.startswith(prefix) for key in tree):
            break
        tree = type(tree)((key.removeprefix(prefix), value) for key, value in tree.items())
        whole += prefix
    if whole and taken is not None:
        taken.append(whole)
    if any(isinstance(value, dict) for value in tree.values()):
        return {key: unwrapped(value, depth=depth - 1, taken=taken) for key, value in tree.items()}
    return tree


class Arrays(dict[str, np.ndarray]):
    """A state dict that knows the name that was looked up last, so that an error can tell it."""

    def __init__(self, arrays: dict[str, np.ndarray], lookups: list[str]):
        super().__init__(arrays)
        self._lookups = lookups

    def __getitem__(self, name: str) -> np.ndarray:
        self._lookups[:] = [name]
        return super().__getitem__(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One file, read: which container it is and what it holds (dict, list, tuple, Node, arrays, numbers, text)."""

    path: Path
    format: str  # one of `FORMATS`
    tree: Any
    prefix: str = ""  # what all names of this part began with in the file, such as "generator."
    aside: int = 0  # arrays of the file that are not in this part
    lookups: list[str] = dataclasses.field(default_factory=list, compare=False, repr=False)  # the last name, if any

    def at(self, prefix: str) -> Any:
        """The subtree at a dotted path ("g_ema", "G_ema.synthesis"); PackError where there is none."""
        value = self.tree
        for key in prefix.split(".") if prefix else ():
            children = _children(value)
            if key not in children:
                near = ", ".join(sorted(children)[:8])
                raise PackError(f"{self.path}: no {prefix!r} in it (there: {near}); it is another kind of file")
            value = children[key]
        return value

    def state_dict(self, *, prefix: str = "") -> dict[str, np.ndarray]:
        """`state_dict(self.at(prefix))`; PackError names an array with NaN or infinity."""
        return Arrays(state_dict(self.at(prefix), where=self.path), self.lookups)

    def sha256(self) -> str:
        """SHA-256 of the file, for a provenance record ("" for a folder)."""
        if self.path.is_dir():
            return ""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def state_dict(tree: Any, *, where: Any = "checkpoint") -> dict[str, np.ndarray]:
    """The arrays of a tree under their dotted names, in the file's order, all of them finite.

    A torch module (a Node with `_parameters`, `_buffers`, `_modules`) gives its parameters and persistent buffers, as
    its own state_dict would; a TensorFlow network (a Node with `variables`, `components`) its variables, the
    components' names first ("synthesis/4x4/Const/const"). Other leaves than arrays are left out.
    Errors: PackError (NaN or infinity, a tree that refers to itself or is too large to walk).
    """
    flat: dict[str, np.ndarray] = {}
    stack = [("", "", tree, 0)]
    visited = 0
    while stack:
        name, glue, value, depth = stack.pop()
        visited += 1
        if visited > MAX_NODES or depth > MAX_DEPTH:
            raise PackError(f"{where}: more than {MAX_NODES} entries or {MAX_DEPTH} levels; it is not a checkpoint")
        if isinstance(value, np.ndarray):
            if value.dtype.kind in "biuf":
                flat[name] = value
            continue
        if is_network(value):
            children = _network_children(value)
            glue = "/"
        else:
            children, glue = _children(value), "."
        for key, child in reversed(list(children.items())):
            stack.append((f"{name}{glue}{key}" if name else key, glue, child, depth + 1))
    seen: set[int] = set()
    for name, array in flat.items():
        if id(array) not in seen:
            check_finite(name, array, where=where)
            seen.add(id(array))
    return flat


def check_finite(name: str, array: np.ndarray, *, where: Any) -> None:
    """PackError naming the array when it holds NaN or infinity."""
    if array.dtype.kind == "f" and array.size:
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add.reduce(array, axis=None, dtype=np.float64)  # no temporary; not finite only if something is
        if not np.isfinite(total) and not np.all(np.isfinite(array)):
            count = int(array.size - np.count_nonzero(np.isfinite(array)))
            raise PackError(f"{where}: {name} holds {count} values that are NaN or infinite; the training that made "
                            "it had diverged or the file is damaged: use another checkpoint")


def _children(value: Any) -> dict[str, Any]:
    if isinstance(value, Node):
        state = value.state
        if all(isinstance(state.get(part), dict) for part in ("_parameters", "_buffers", "_modules")):
            volatile = state.get("_non_persistent_buffers_set")
            volatile = volatile if isinstance(volatile, set) else ()
            buffers = {k: v for k, v in state["_buffers"].items() if k not in volatile}
            return {**state["_parameters"], **buffers, **state["_modules"]}
        return {str(k): v for k, v in state.items()}
    if isinstance(value, dict):
        return {str(k): v for k, v in value.items()}
    if isinstance(value, list | tuple):
        return {str(i): v for i, v in enumerate(value)}
    return {}


def is_network(value: Any) -> bool:
    """Is it a TensorFlow network: a Node with (name, array) variables and components?"""
    if not isinstance(value, Node) or not isinstance(value.state.get("variables"), list):
        return False
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], np.ndarray | np.generic)
                for pair in value.state["variables"])
    return pairs and isinstance(value.state.get("components", {}), dict)


def _network_children(node: Node) -> dict[str, Any]:
    own = {str(k): np.asarray(v) for k, v in node.state["variables"]}
    return {**own, **{str(k): v for k, v in node.state.get("components", {}).items()}}
