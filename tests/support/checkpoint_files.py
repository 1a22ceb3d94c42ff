"""Writes small checkpoints in the exact layout of each public container, with numpy and pickle alone.

Nothing here shares code with the reader: pickles come from Python's own pickler, which is told to write names
(`Global`) that need not exist.
"""

import collections
import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np

TYPES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "u1": "ByteStorage",
         "b1": "BoolStorage"}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class Global:
    """A name that a pickle mentions, such as Global("os.system")."""

    def __init__(self, name):
        self.name = name

    def __call__(self):
        raise AssertionError("only written, never called")


class Call:
    """An object that a pickle builds: a global called with arguments, then given a state and dict items."""

    def __init__(self, name, arguments, state=None, items=None):
        self.name, self.arguments, self.state, self.items = name, arguments, state, items


class Storage:
    """The memory of one tensor."""

    def __init__(self, array):
        self.array = array


class Pickler(pickle._Pickler):
    """Tensors become `_rebuild_tensor_v2` of a storage that `store` names."""

    def __init__(self, file, *, store=None, protocol=2):
        super().__init__(file, protocol)
        self.store = store

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            module, _, name = obj.name.rpartition(".")
            self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
            return
        if isinstance(obj, Storage) and self.store == "bytes":
            self.save_reduce(Global("torch.storage._load_from_bytes"), (inner_storage(obj.array),), obj=obj)
            return
        super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        if isinstance(obj, Storage) and callable(self.store):
            return self.store(obj)
        return None

    def reducer_override(self, obj):
        if isinstance(obj, Call):
            items = None if obj.items is None else iter(obj.items.items())
            return Global(obj.name), obj.arguments, obj.state, None, items
        if isinstance(obj, np.ndarray) and self.store is not None:
            base = obj if obj.base is None or obj.flags.c_contiguous else obj.base
            flat = np.ascontiguousarray(base).reshape(-1)
            strides = tuple(s // obj.itemsize for s in obj.strides)
            return (Global("torch._utils._rebuild_tensor_v2"),
                    (Storage(flat), 0, obj.shape, strides, False, collections.OrderedDict()))
        return NotImplemented


def pickled(tree, *, store=None, protocol=2):
    """The bytes of one pickle."""
    file = io.BytesIO()
    Pickler(file, store=store, protocol=protocol).dump(tree)
    return file.getvalue()


def storage_type(array):
    return Global("torch." + TYPES[array.dtype.str[1:]])


def inner_storage(array):
    """What torch writes where a storage is pickled by itself."""
    body = pickled(Storage(array), store=lambda s: ("storage", storage_type(array), "0", "cpu", array.size, None))
    heads = b"".join(pickled(value) for value in (LEGACY_MAGIC, 1001, {"little_endian": True}))
    return heads + body + pickled(["0"]) + struct.pack("<q", array.size) + array.tobytes()


def torch_zip(path, tree, *, extra=(), compression=zipfile.ZIP_STORED):
    """`torch.save` of today; `extra` are more members, such as TorchScript's code."""
    storages = []

    def store(storage):
        storages.append(storage.array)
        return ("storage", storage_type(storage.array), str(len(storages) - 1), "cpu", storage.array.size)

    data = pickled(tree, store=store)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        for i, array in enumerate(storages):
            archive.writestr(f"archive/data/{i}", array.tobytes())
        archive.writestr("archive/version", "3\n")
        for name, body in extra:
            archive.writestr(f"archive/{name}", body)
    return path


def torchscript(path, tree):
    """An archive of `torch.jit.save`: Calls of "__torch__.X" with a state, code beside them."""
    return torch_zip(path, tree, extra=(("constants.pkl", pickled(())), ("code/__torch__.py", "import os")))


def torch_legacy(path, tree):
    """`torch.save` before 1.6."""
    storages = []

    def store(storage):
        storages.append(storage.array)
        return ("storage", storage_type(storage.array), str(len(storages) - 1), "cuda:0", storage.array.size, None)

    data = b"".join(pickled(v) for v in (LEGACY_MAGIC, 1001, {"little_endian": True, "protocol_version": 1001}))
    data += pickled(tree, store=store)
    data += pickled([str(i) for i in range(len(storages))])
    for array in storages:
        data += struct.pack("<q", array.size) + array.tobytes()
    path.write_bytes(data)
    return path


def easy_dict(items):
    """NVIDIA's dict whose keys are attributes."""
    return Call("dnnlib.util.EasyDict", (), None, items)


def module(class_name, *, parameters=None, buffers=None, modules=None, volatile=(), source="", **attributes):
    """A torch module under NVIDIA's persistence: its source travels as text."""
    parameters = {k: Call("torch._utils._rebuild_parameter", (v, True, collections.OrderedDict()))
                  for k, v in (parameters or {}).items()}
    state = {"training": False, "_parameters": collections.OrderedDict(parameters),
             "_buffers": collections.OrderedDict(buffers or {}), "_non_persistent_buffers_set": set(volatile),
             "_modules": collections.OrderedDict(modules or {}), **attributes}
    meta = easy_dict({"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state})
    return Call("torch_utils.persistence._reconstruct_persistent_obj", (meta,))


def persistence(path, networks, *, protocol=4):
    """A pickle of NVIDIA's PyTorch repositories: {"G": ..., "D": ..., "G_ema": ...}."""
    path.write_bytes(pickled(networks, store="bytes", protocol=protocol))
    return path


def tf_network(variables, *, components=None, static_kwargs=None, build_func_name="G_main", version=4):
    """One `dnnlib.tflib.network.Network`."""
    state = {"version": version, "name": "G", "static_kwargs": easy_dict(static_kwargs or {}),
             "components": easy_dict(components or {}), "build_func_name": build_func_name,
             "build_module_src": "import os", "variables": list(variables.items())}
    return Call("dnnlib.tflib.network.Network", (), state)


def tf_pickle(path, network, *, protocol=4):
    """(G, D, Gs) of NVIDIA's TensorFlow repositories."""
    other = tf_network({"lod": np.float32(0.0)})
    path.write_bytes(pickled((other, other, network), protocol=protocol))
    return path


def safetensors(path, arrays, *, header=None, tail=b""):
    """safetensors; `header` replaces the honest one."""
    names = {"<f4": "F32", "<i8": "I64", "<u2": "BF16"}
    body, entries = b"", {"__metadata__": {"format": "pt"}}
    for name, array in arrays.items():
        entries[name] = {"dtype": names[array.dtype.str], "shape": list(array.shape),
                         "data_offsets": [len(body), len(body) + array.nbytes]}
        body += array.tobytes()
    text = json.dumps(entries if header is None else header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body + tail)
    return path


def t7(path, value):
    """Torch7 binary: None, numbers, strings, dicts, lists, arrays (float) and (class name, dict) objects."""
    count = 0

    def index():
        nonlocal count
        count += 1
        return struct.pack("<i", count)

    def text(string):
        return struct.pack("<i", len(string)) + string.encode()

    def write(value):
        if value is None:
            return struct.pack("<i", 0)
        if isinstance(value, bool):
            return struct.pack("<ii", 5, value)
        if isinstance(value, int | float):
            return struct.pack("<id", 1, value)
        if isinstance(value, str):
            return struct.pack("<i", 2) + text(value)
        if isinstance(value, list):
            value = {i + 1: item for i, item in enumerate(value)}
        if isinstance(value, dict):
            head = struct.pack("<i", 3) + index() + struct.pack("<i", len(value))
            return head + b"".join(write(k) + write(v) for k, v in value.items())
        if isinstance(value, np.ndarray):
            head = struct.pack("<i", 4) + index() + text("V 1") + text("torch.FloatTensor")
            shape = struct.pack(f"<i{value.ndim}q", value.ndim, *value.shape)
            strides = struct.pack(f"<{value.ndim}q", *(s // value.itemsize for s in value.strides))
            storage = struct.pack("<i", 4) + index() + text("V 1") + text("torch.FloatStorage")
            return head + shape + strides + struct.pack("<q", 1) + storage + struct.pack("<q", value.size) + \
                value.astype("<f4").tobytes()
        name, state = value
        return struct.pack("<i", 4) + index() + text("V 1") + text(name) + write(state)

    path.write_bytes(write(value))
    return path


def lying_zip(path, *, declared, stored):
    """One deflated member "a.npy" of `stored` zeros that declares `declared` bytes in both headers."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflater.compress(b"\0" * stored) + deflater.flush()
    name, crc = b"a.npy", zlib.crc32(b"\0" * stored)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(body), declared, len(name), 0) + name + body
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(body), declared, len(name), 0, 0, 0,
                          0, 0, 0) + name
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)
    return path


def safetensors_index(path, shards):
    """The index beside shards: {file: {name: array}}."""
    names = {name: file for file, arrays in shards.items() for name in arrays}
    size = sum(array.nbytes for arrays in shards.values() for array in arrays.values())
    path.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": names}))
    return path


def tflite(*, weights, settings):
    """A TensorFlow Lite file: a convolution by `weights` [O, h, w, I] and a custom operator with `settings`."""
    import flatbuffers
    from flatbuffers import flexbuffers

    b = flatbuffers.Builder(1024)

    def vector(values, size, prepend):
        b.StartVector(size, len(values), size)
        for value in reversed(values):
            prepend(value)
        return b.EndVector()

    def table(slots, **fields):
        """fields: fN=(kind, value); kinds of flatbuffers.Builder, or "Offset"."""
        b.StartObject(slots)
        for name, (kind, value) in fields.items():
            number = int(name[1:])
            if kind == "Offset":
                b.PrependUOffsetTRelativeSlot(number, value, 0)
            else:
                getattr(b, f"Prepend{kind}Slot")(number, value, 0)
        return b.EndObject()

    def offsets(values):
        return vector(values, 4, b.PrependUOffsetTRelative)

    def integers(values):
        return vector(values, 4, b.PrependInt32)

    raw = weights.astype("<f4").tobytes()
    data = vector(list(raw), 1, b.PrependByte)
    buffers = offsets([table(1), table(1, f0=("Offset", data))])
    name = b.CreateString("Custom")
    codes = offsets([table(4, f0=("Int8", 3), f3=("Int32", 3)),
                     table(4, f0=("Int8", 32), f1=("Offset", name), f3=("Int32", 32))])
    tensors = []
    for label, shape, buffer in (("x", (1, 4, 4, 3), 0), ("k", weights.shape, 1), ("y", (1, 4, 4, 2), 0),
                                 ("z", (1, 2), 0)):
        text, sizes = b.CreateString(label), integers(shape)
        tensors.append(table(4, f0=("Offset", sizes), f2=("Uint32", buffer), f3=("Offset", text)))
    tensors = offsets(tensors)
    options = table(6, f1=("Int32", 1), f2=("Int32", 1))
    first = table(9, f1=("Offset", integers([0, 1])), f2=("Offset", integers([2])), f4=("Offset", options))
    custom = vector(list(flexbuffers.Dumps(settings)), 1, b.PrependByte)
    second = table(9, f0=("Uint32", 1), f1=("Offset", integers([2])), f2=("Offset", integers([3])),
                   f5=("Offset", custom))
    graph = table(5, f0=("Offset", tensors), f1=("Offset", integers([0])), f2=("Offset", integers([3])),
                  f3=("Offset", offsets([first, second])))
    graphs = offsets([graph])
    model = table(5, f1=("Offset", codes), f2=("Offset", graphs), f4=("Offset", buffers))
    b.Finish(model, file_identifier=b"TFL3")
    return bytes(b.Output())
