"""What the globals of weight files build: the whole list. A name that is not here is refused.

Builders return our own pending objects, because a pickle fills an object (BUILD) after it has been stored elsewhere;
`finish` turns a tree of them into plain containers, Nodes and numpy arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from converters.readers.arrays import Storage, Tensor, strided
from converters.readers.checkpoint import Node
from converters.readers.limits import MAX_DEPTH, MAX_NODES, Limits
from converters.readers.machine import Buildable, Name, scalar_key, store
from converters.readers.unsafe_file import UnsafeFileError, brief

_NUMERIC = re.compile(r"^[<>|=]?(b1|[iu][1248]|f[248])$")


class PendingDtype(Buildable):
    """A numpy.dtype: a numeric type code, then its byte order."""

    def __init__(self, arguments: tuple):
        code = arguments[0] if arguments else None
        if not isinstance(code, str) or not _NUMERIC.match(code):
            raise UnsafeFileError(f"an array of type {brief(code)}; weights are numbers")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise UnsafeFileError("a numpy type with an unknown state")
        self.dtype = self.dtype.newbyteorder(state[1])


class PendingArray(Buildable):
    """A numpy.ndarray, empty until its state (version, shape, type, fortran order, bytes) comes."""

    def __init__(self):
        self.array = np.zeros(0)

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafeFileError("a numpy array with an unknown state")
        _, shape, dtype, fortran, raw = state
        self.array = array_of(raw, dtype, shape, "F" if fortran else "C")


class PendingNode(Buildable):
    """An instance of a class that is only named."""

    def __init__(self, class_name: str, state: dict | None = None):
        self.class_name, self.state = class_name, {} if state is None else state

    def build(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, dict):
                self.state.update(part)
            elif part is not None:
                raise UnsafeFileError(f"state of {self.class_name} that is a {type(part).__name__}")


def array_of(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """The array of pickled pieces, a view of `raw` where that is possible; UnsafeFileError unless the sizes agree."""
    if isinstance(raw, str):  # Python 2 wrote bytes as text
        raw = raw.encode("latin-1")
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not isinstance(dtype, PendingDtype) or not isinstance(raw, bytes | memoryview) or order not in ("C", "F"):
        raise UnsafeFileError("a numpy array that is not made of numbers")
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UnsafeFileError(f"an array of shape {brief(shape)}")
    flat = np.frombuffer(raw, dtype.dtype) if len(raw) else np.zeros(0, dtype.dtype)
    return native(flat.reshape(shape, order=order))


def native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order."""
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def _scalar(arguments: tuple) -> Any:
    dtype, raw = arguments
    return array_of(raw, dtype, (), "C")[()]


def _mapping(arguments: tuple) -> dict:
    result: dict = {}
    items = arguments[0] if arguments else ()
    if isinstance(items, dict):
        return dict(items)
    for pair in items if isinstance(items, list | tuple) else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UnsafeFileError("a dict made of other things than pairs")
        store(result, list(pair))
    return result


def _sequence(arguments: tuple) -> list:
    return list(arguments[0]) if arguments else []


def _set(arguments: tuple) -> set:
    return {scalar_key(item) for item in (arguments[0] if arguments else ())}


def _encode(arguments: tuple) -> bytes:
    if not isinstance(arguments[0], str) or arguments[1:] not in (("latin1",), ("latin-1",)):
        raise UnsafeFileError("text in an unknown encoding")
    return arguments[0].encode("latin-1")


def _bytes(arguments: tuple) -> bytes:
    if arguments == ():
        return b""
    if len(arguments) == 2 and isinstance(arguments[0], str):
        return arguments[0].encode("latin-1")
    if len(arguments) == 1 and isinstance(arguments[0], bytes | memoryview):
        return bytes(arguments[0])
    raise UnsafeFileError("bytes of an unknown form")


def _reconstructor(arguments: tuple) -> Any:
    cls = arguments[0]
    if not isinstance(cls, Name):
        raise UnsafeFileError("an object of no class")
    return {} if cls.name in ("collections.OrderedDict", *_DICTS) else PendingNode(cls.name)


def _persistent_object(arguments: tuple) -> PendingNode:
    meta = arguments[0]
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str) \
            or not isinstance(meta.get("state"), dict):
        raise UnsafeFileError("a persistent object of an unknown form")
    return PendingNode(meta["class_name"], meta["state"])  # its module_src stays text


def _tensor(arguments: tuple) -> Tensor:
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, Storage):
        raise UnsafeFileError("a tensor without a storage")
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _node(name: str) -> Callable[[tuple], PendingNode]:
    return lambda arguments: PendingNode(name, {"arguments": list(arguments)} if arguments else None)


_TENSOR_TYPES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")

BASE: dict[str, Callable[[tuple], Any] | None] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda arguments: _mapping(arguments[1:]),
    "builtins.dict": _mapping, "builtins.list": _sequence, "builtins.set": _set, "builtins.frozenset": _set,
    "builtins.bytes": _bytes, "builtins.bytearray": _bytes, "builtins.object": None,
    "builtins.tuple": lambda arguments: tuple(_sequence(arguments)), "collections.deque": _sequence,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructor,
    "numpy.ndarray": None,
    "numpy.dtype": PendingDtype,
    "numpy._core.multiarray._reconstruct": lambda arguments: PendingArray(),
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": lambda arguments: array_of(*arguments),
}

TORCH: dict[str, Callable[[tuple], Any] | None] = BASE | {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda arguments: arguments[0],
    "torch._utils._rebuild_parameter_with_state": lambda arguments: arguments[0],
    "torch.Size": lambda arguments: tuple(arguments[0]) if arguments else (),
    "torch.device": lambda arguments: str(arguments[0]),
    "torch.jit._pickle.build_intlist": _sequence, "torch.jit._pickle.build_doublelist": _sequence,
    "torch.jit._pickle.build_boollist": _sequence, "torch.jit._pickle.build_tensorlist": _sequence,
    "torch.jit._pickle.restore_type_tag": lambda arguments: arguments[0],
    "torch.storage.UntypedStorage": None, "torch.storage.TypedStorage": None,
} | {f"torch.{kind}Storage": None for kind in _TENSOR_TYPES} | {f"torch.cuda.{kind}Storage": None
                                                                for kind in _TENSOR_TYPES}

# Settings and notes that people keep beside the weights: their arguments and state are kept under the class's name, as
# inert as text. None of these classes is imported, made or called.
_NOTES = (
    "argparse.Namespace", "types.SimpleNamespace", "pathlib.Path", "pathlib.PurePath",
    *(f"{module}.{pure}{system}Path" for module in ("pathlib", "pathlib._local") for pure in ("", "Pure")
      for system in ("Posix", "Windows")),
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta", "timezone")),
    "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "builtins.complex", "builtins.range", "builtins.slice",
    "torch.torch_version.TorchVersion", "torch.memory_format", "torch.dtype",
    *(f"omegaconf.{kind}" for kind in (
        "dictconfig.DictConfig", "listconfig.ListConfig", "base.Metadata", "base.ContainerMetadata",
        "base.SCMode", "nodes.AnyNode", "nodes.StringNode", "nodes.IntegerNode", "nodes.FloatNode",
        "nodes.BooleanNode", "nodes.PathNode")),
)
_TYPES_ONLY = ("builtins.int", "builtins.float", "builtins.bool", "builtins.str", "builtins.type", "typing.Any",
               *(f"numpy.{kind}" for kind in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool_",
                                              "bool")),
               *(f"torch.{kind}" for kind in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8",
                                              "bool", "contiguous_format", "channels_last")))
# dicts under another name: they become dicts
_DICTS = ("easydict.EasyDict", "addict.addict.Dict", "munch.Munch", "munch.DefaultMunch", "bunch.Bunch",
          "yacs.config.CfgNode", "fvcore.common.config.CfgNode", "ml_collections.config_dict.config_dict.ConfigDict",
          "pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict",
          "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
          "collections.Counter", "dnnlib.util.EasyDict")

# torch.storage._load_from_bytes is added by `plain`, which reads the bytes without a second pickle of torch's.
KNOWN: dict[str, Callable[[tuple], Any] | None] = TORCH | {
    **{name: _node(name) for name in _NOTES}, **dict.fromkeys(_TYPES_ONLY), **dict.fromkeys(_DICTS, _mapping),
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "dnnlib.tflib.network.Network": _node("dnnlib.tflib.network.Network"),
    "chumpy.ch.Ch": _node("chumpy.ch.Ch"),
    "chumpy.reordering.Select": _node("chumpy.reordering.Select"),
    "scipy.sparse.csc.csc_matrix": _node("scipy.sparse.csc_matrix"),
    "scipy.sparse._csc.csc_matrix": _node("scipy.sparse.csc_matrix"),
}


def finish(tree: Any, limits: Limits) -> Any:
    """The tree with every pending object replaced by what it stands for; what was shared stays shared.

    Errors: UnsafeFileError where a container holds itself, or is too deep or too large.
    """
    done: dict[int, Any] = {}
    keep: list[Any] = []  # an id stays one object's for as long as that object lives
    active: set[int] = set()

    def visit(value: Any, depth: int) -> Any:
        if value is None or isinstance(value, str | int | float | bool | bytes | np.generic):
            return value
        if id(value) in done:
            return done[id(value)]
        if id(value) in active:
            raise UnsafeFileError("a container that holds itself")
        if depth > MAX_DEPTH or len(done) > MAX_NODES:
            raise UnsafeFileError(f"more than {MAX_DEPTH} levels or {MAX_NODES} containers")
        active.add(id(value))
        result = convert(value, depth + 1)
        active.discard(id(value))
        done[id(value)] = result
        keep.append(value)
        return result

    def convert(value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {key: visit(item, depth) for key, item in value.items()}
        if isinstance(value, list):
            return [visit(item, depth) for item in value]
        if isinstance(value, tuple):
            return tuple(visit(item, depth) for item in value)
        if isinstance(value, set):
            return set(value)
        if isinstance(value, Tensor):
            return value.array(limits)
        if isinstance(value, PendingArray):
            return value.array
        if isinstance(value, np.ndarray):
            return value
        if isinstance(value, PendingDtype):
            return str(value.dtype)
        if isinstance(value, Name):
            return value.name
        if isinstance(value, memoryview):
            return bytes(value)
        if isinstance(value, Storage):
            return value.flat()
        if isinstance(value, PendingNode):
            return resolve(Node(value.class_name, visit(value.state, depth)), limits)
        raise UnsafeFileError(f"a {type(value).__name__}")

    return visit(tree, 0)


def resolve(node: Node, limits: Limits) -> Any:
    """The array that a chumpy or scipy.sparse node stands for (public FLAME files), or the node itself."""
    state = node.state
    if node.class_name == "chumpy.ch.Ch":
        return np.asarray(_array(state, "x"))
    if node.class_name == "chumpy.reordering.Select":
        index, shape = _array(state, "idxs"), state.get("preferred_shape")
        limits.take("a chumpy selection", 8 * (index.size + _array(state, "a").size))
        picked = _array(state, "a").ravel()[index]
        return picked.reshape(tuple(int(n) for n in shape)) if shape else picked
    if node.class_name == "scipy.sparse.csc_matrix":
        shape = tuple(int(n) for n in state.get("_shape", state.get("shape", ())))
        data, rows, starts = (_array(state, name) for name in ("data", "indices", "indptr"))
        if len(shape) != 2 or min(shape) < 0 or any(a.ndim != 1 for a in (data, rows, starts)) or \
                len(starts) != shape[1] + 1 or len(data) != len(rows) or starts[0] != 0 or \
                starts[-1] != len(rows) or np.any(starts[1:] < starts[:-1]) or (len(rows) and rows.min() < 0):
            raise UnsafeFileError("a sparse matrix whose parts do not agree")
        limits.take("a sparse matrix", shape[0] * shape[1] * data.itemsize)
        dense = np.zeros(shape, data.dtype)
        np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), np.diff(starts))), data)
        return dense
    return node


def _array(state: dict, name: str) -> np.ndarray:
    value = strided(state.get(name))
    if value is None:
        raise UnsafeFileError(f"an object without its array {name!r}")
    return value
