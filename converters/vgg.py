"""VGG-16 for the perceptual term and VGG-Face for recognition: `python -m converters.vgg FILE --pack DIR`.

    torchvision vgg16-*.pth                    -> perceptual   (plain features at PIE's layers)
    the same with --heads LPIPS's vgg.pth      -> perceptual   (LPIPS)
    a whole LPIPS state dict                   -> perceptual   (LPIPS)
    VGG-Face: vgg_face_dag.pth, prlz77's names, VGG_FACE.t7, MatConvNet vgg-face.mat  -> recognition

Sources of the layouts: pytorch/vision models/vgg.py; richzhang/PerceptualSimilarity lpips/lpips.py;
albanie/pytorch-mcn; prlz77/vgg-face.pytorch; Parkhi et al. (BMVC 2015) and its MatConvNet and Torch7 releases.

--check REFERENCE.npz: `images_01` [B, R, R, 3] RGB in 0..1, and any of the features by name (conv1_1 .. conv5_3 after
ReLU at the images' own size; fc6, fc7_pre, fc7 of images resized to the network's) as [B, h, w, C] or [B, N].
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from converters.converting import Converted, run
from converters.readers import Checkpoint, Node, read
from converters.table import Ignored, Rule, map_tensors
from pie_jax.cli.command import Parser
from pie_jax.config import VGGConfig
from pie_jax.errors import PackError
from pie_jax.nn.vgg import CONVOLUTIONS

LPIPS_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
FACE_MEAN_RGB = (129.186279296875, 104.76238250732422, 93.59396362304688)  # of 0..255; albanie's vgg_face_dag
TORCHVISION = dict(zip(CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)))  # index in `features`
_SLICE = {name: f"net.slice{name[4]}.{index}" for name, index in TORCHVISION.items()}
LICENCES = {
    "torchvision": "BSD 3-Clause (torchvision; trained on ImageNet)",
    "lpips": "BSD 2-Clause (PerceptualSimilarity), on torchvision's BSD 3-Clause VGG-16",
    "face": "CC BY-NC 4.0 (VGG-Face, University of Oxford): non-commercial",
}


def hwio(kernel: np.ndarray) -> np.ndarray:
    """[O, I, h, w] of torch -> [h, w, I, O]."""
    return kernel.transpose(2, 3, 1, 0)


def flat_kernel(kernel: np.ndarray, *, channels: int, side: int) -> np.ndarray:
    """A Linear [O, C h w] on a flattened CHW map -> [h, w, C, O]."""
    return kernel.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)


def recognise(checkpoint: Checkpoint) -> str | None:
    """The layout's name, or None: "torchvision", "lpips", "lpips-heads", "dag", "prlz77", "t7" or "matconvnet"."""
    tree = checkpoint.tree
    if checkpoint.format == "t7":
        return "t7" if isinstance(tree, Node) and tree.class_name == "nn.Sequential" else None
    if checkpoint.format == "mat":
        return "matconvnet" if isinstance(_network(tree).get("layers"), list) else None
    if not isinstance(tree, Mapping):
        return None
    names = set(tree)
    for layout, needed in (("lpips", {"net.slice1.0.weight", "lin0.model.1.weight"}),
                           ("lpips-heads", {"lin0.model.1.weight"}),
                           ("torchvision", {"features.0.weight", "features.28.weight"}),
                           ("dag", {"conv1_1.weight", "conv5_3.weight", "fc7.weight"}),
                           ("prlz77", {"conv_1_1.weight", "conv_5_3.weight", "fc7.weight"})):
        if needed <= names and not (layout == "torchvision" and "features.30.weight" in names):  # that is VGG-19
            return layout
    return None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The part that the file holds; PackError where it is no VGG, or its heads come without their network."""
    layout = recognise(checkpoint)
    heads = getattr(arguments, "heads", None)
    if layout == "lpips-heads":
        raise PackError(f"{checkpoint.path}: LPIPS's linear heads alone; give torchvision's VGG-16 as FILE and this "
                        "file as --heads")
    if heads is not None and layout != "torchvision":
        raise PackError(f"{checkpoint.path}: --heads goes with torchvision's VGG-16, which this is not")
    if layout == "torchvision":
        return _torchvision(checkpoint, None if heads is None else read(heads))
    if layout == "lpips":
        return _lpips(checkpoint)
    if layout == "matconvnet":
        return _matconvnet(checkpoint)
    if layout == "t7":
        return _torch7(checkpoint)
    if layout in ("dag", "prlz77"):
        bgr, pattern = layout == "prlz77", "conv_{}" if layout == "prlz77" else "conv{}"
        tensors = checkpoint.state_dict()
        names = {name: pattern.format(name[4:]) for name in CONVOLUTIONS} | {f: f for f in ("fc6", "fc7", "fc8")}
        return _face(checkpoint, tensors, {name: (f"{s}.weight", f"{s}.bias") for name, s in names.items()}, bgr=bgr,
                     layout=f"VGG-Face, {'prlz77/vgg-face.pytorch' if bgr else 'albanie vgg_face_dag'}")
    raise PackError(f"{checkpoint.path}: no VGG-16, LPIPS or VGG-Face; known are torchvision's, LPIPS's, "
                    "vgg_face_dag.pth, VGG_FACE.t7 and MatConvNet's vgg-face.mat")


# ------------------------------------------------------------------------------------ perceptual
def _torchvision(checkpoint: Checkpoint, heads: Checkpoint | None) -> Converted:
    tensors = checkpoint.state_dict()
    config = VGGConfig(width=tensors["features.0.weight"].shape[0])
    if heads is not None:
        tensors |= heads.state_dict()
        config = dataclasses.replace(config, layers=LPIPS_LAYERS, heads=True)
    sources = {name: f"features.{index}" for name, index in TORCHVISION.items()}
    known = [Ignored(pattern="classifier.*", why="the perceptual term reads convolutions only")]
    notes = ()
    if heads is not None:
        notes = (f"linear heads of {heads.path.name}: the perceptual term is LPIPS",)
    return _perceptual(checkpoint, tensors, config, sources, known, notes, layout="torchvision VGG-16")


def _lpips(checkpoint: Checkpoint) -> Converted:
    tensors = checkpoint.state_dict()
    config = VGGConfig(width=tensors["net.slice1.0.weight"].shape[0], layers=LPIPS_LAYERS, heads=True)
    mean, std = (np.asarray(VGGConfig().mean_rgb) / 255, np.asarray(VGGConfig().std_rgb) / 255)

    def same(expected):
        return lambda array: bool(np.allclose(np.ravel(array), expected, atol=1e-6))

    known = [Ignored(pattern="lins.*", why="the linear heads a second time"),
             Ignored(pattern="scaling_layer.shift", why="the network's own mean", holds=same(2 * mean - 1)),
             Ignored(pattern="scaling_layer.scale", why="the network's own deviation", holds=same(2 * std))]
    return _perceptual(checkpoint, tensors, config, _SLICE, known, ("the perceptual term is LPIPS",),
                       layout="LPIPS, VGG")


def _perceptual(checkpoint, tensors, config: VGGConfig, sources, known, notes, *, layout: str) -> Converted:
    from pie_jax.nn.vgg import layers_needed

    needed = layers_needed(config)
    rules = _convolutions({name: (f"{sources[name]}.weight", f"{sources[name]}.bias") for name in needed}, config, hwio)
    if config.heads:
        rules += [Rule(target=f"head_{name}", source=f"lin{i}.model.1.weight", layout=_head,
                       shape=(1, _channels(config, name), 1, 1)) for i, name in enumerate(config.layers)]
    known += [Ignored(pattern=f"{sources[name]}.*", why=f"beyond {needed[-1]}, the deepest layer the term reads")
              for name in CONVOLUTIONS if name not in needed]
    weights, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout=layout)
    return Converted(part="perceptual", weights=weights, config=config, layout=layout, table=table, notes=notes,
                     licence=LICENCES["lpips" if config.heads else "torchvision"])


def _head(array: np.ndarray) -> np.ndarray:
    if array.min() < 0:
        raise PackError("a linear head of LPIPS has a negative weight, which its training excludes; another file?")
    return array.reshape(-1)


# ----------------------------------------------------------------------------------- recognition
def _face(checkpoint: Checkpoint, tensors: dict[str, np.ndarray], names: dict[str, tuple[str, str]], *, bgr: bool,
          layout: str, mean_rgb: tuple[float, ...] = FACE_MEAN_RGB, matlab: bool = False,
          notes: tuple[str, ...] = ()) -> Converted:
    """names: layer -> its (kernel, bias) in `tensors`; bgr: conv1_1 reads blue first, folded into its kernel."""
    lacking = [source for pair in names.values() for source in pair if source not in tensors]
    if lacking:
        raise PackError(f"{checkpoint.path}: lacks {lacking[0]} ({len(lacking)} tensors in all); another VGG-Face?")
    width, fc_width = len(np.ravel(tensors[names["conv1_1"][1]])), len(np.ravel(tensors[names["fc6"][1]]))
    positions = tensors[names["fc6"][0]].size / (fc_width * 8 * width)
    side = round(positions**0.5)
    if side < 1 or side * side != positions:
        raise PackError(f"{checkpoint.path}: fc6 has {tensors[names['fc6'][0]].size} weights, which fit no square map "
                        f"of {8 * width} channels; another network?")
    config = VGGConfig(width=width, resolution=32 * side, layers=(), fc_width=fc_width,
                       mean_rgb=(float(mean_rgb[0]), float(mean_rgb[1]), float(mean_rgb[2])), std_rgb=(1.0, 1.0, 1.0))

    def kernel(array: np.ndarray) -> np.ndarray:
        return array if matlab else hwio(array)

    def first(array: np.ndarray) -> np.ndarray:
        return kernel(array)[:, :, ::-1] if bgr else kernel(array)

    rules = _convolutions({name: names[name] for name in CONVOLUTIONS}, config, kernel, first=first, matlab=matlab)
    for name, source in (("fc6", names["fc6"]), ("fc7", names["fc7"])):
        if name == "fc6":
            shape = (side, side, 8 * width, fc_width) if matlab else (fc_width, 8 * width * side * side)
            layout_of = (lambda a: a) if matlab else (lambda a: flat_kernel(a, channels=8 * width, side=side))
        else:
            shape = (1, 1, fc_width, fc_width) if matlab else (fc_width, fc_width)
            layout_of = (lambda a: a[0, 0]) if matlab else np.transpose
        rules += [Rule(target=f"{name}/kernel", source=source[0], layout=layout_of, shape=shape),
                  Rule(target=f"{name}/bias", source=source[1], layout=np.ravel)]
    known = [Ignored(pattern=source.replace("[", "[[]"), why="the classes; the descriptor is fc7")
             for source in names["fc8"]]
    weights, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout=layout)
    return Converted(part="recognition", weights=weights, config=config, layout=layout, table=table, notes=notes,
                     licence=LICENCES["face"])


def _torch7(checkpoint: Checkpoint) -> Converted:
    modules = checkpoint.tree.state.get("modules", [])
    tensors, order = {}, []
    for i, module in enumerate(modules, 1):
        if isinstance(module, Node) and "weight" in module.state:
            key = f"{i}.{module.class_name}"
            kernel = module.state["weight"]
            if "Convolution" in module.class_name and kernel.ndim == 2:  # SpatialConvolutionMM: [O, I * 9]
                kernel = kernel.reshape(kernel.shape[0], -1, 3, 3)
            tensors |= {f"{key}.weight": kernel, f"{key}.bias": module.state["bias"]}
            order.append(key)
    layers = [*CONVOLUTIONS, "fc6", "fc7", "fc8"]
    if len(order) != len(layers):
        raise PackError(f"{checkpoint.path}: {len(order)} layers with weights, VGG-Face has {len(layers)}")
    tensors = _finite(tensors, checkpoint)
    return _face(checkpoint, tensors, {name: (f"{key}.weight", f"{key}.bias") for name, key in zip(layers, order)},
                 bgr=True, layout="VGG-Face, Torch7",
                 notes=("blue-first input folded into conv1_1; the mean is VGG-Face's in RGB order",))


def _network(tree) -> Mapping:
    """MatConvNet's struct: at the top level, or under `net` (Oxford's archive)."""
    tree = tree if isinstance(tree, Mapping) else {}
    return tree["net"] if isinstance(tree.get("net"), Mapping) else tree


def _matconvnet(checkpoint: Checkpoint) -> Converted:
    network = _network(checkpoint.tree)
    tensors, names = {}, {}
    for layer in network["layers"]:
        pair = layer.get("weights")  # older files have filters and biases; relu and pooling have an empty one, or none
        pair = pair if isinstance(pair, list) else [layer.get("filters"), layer.get("biases")]
        if len(pair) == 2 and all(isinstance(a, np.ndarray) and a.size for a in pair):
            name = str(layer["name"])
            kernel = np.asarray(pair[0])
            kernel = kernel.reshape(*kernel.shape, *(1,) * (4 - kernel.ndim))  # MATLAB drops last axes of length 1
            tensors |= {f"{name}.weights[0]": kernel, f"{name}.weights[1]": np.asarray(pair[1])}
            names[name] = (f"{name}.weights[0]", f"{name}.weights[1]")
    missing = sorted({*CONVOLUTIONS, "fc6", "fc7", "fc8"} - set(names))
    if missing or len(names) != len(CONVOLUTIONS) + 3:
        raise PackError(f"{checkpoint.path}: a MatConvNet file, but not VGG-Face: lacks {missing[:3]} among its "
                        f"{len(names)} layers with weights")
    normalization = (network.get("meta") or {}).get("normalization") or network.get("normalization") or {}
    mean, notes = normalization.get("averageImage"), ()
    if isinstance(mean, np.ndarray) and mean.size % 3 == 0 and mean.shape[-1] == 3:
        mean_rgb = tuple(mean.reshape(-1, 3).astype(np.float64).mean(axis=0))
    else:
        mean_rgb, notes = FACE_MEAN_RGB, ("no averageImage in the file: VGG-Face's published mean is used",)
    return _face(checkpoint, _finite(tensors, checkpoint), names, bgr=False, mean_rgb=mean_rgb, matlab=True,
                 layout="VGG-Face, MatConvNet", notes=notes)


def _finite(tensors: dict[str, np.ndarray], checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return dataclasses.replace(checkpoint, tree=tensors).state_dict()


# ----------------------------------------------------------------------------------------- common
def _channels(config: VGGConfig, name: str) -> int:
    return config.width * min(2 ** (int(name[4]) - 1), 8)


def _convolutions(names: dict[str, tuple[str, str]], config: VGGConfig, layout: Callable, *,
                  first: Callable | None = None, matlab: bool = False) -> list[Rule]:
    rules, inputs = [], 3
    for name in CONVOLUTIONS[:len(names)]:
        outputs = _channels(config, name)
        shape = (3, 3, inputs, outputs) if matlab else (outputs, inputs, 3, 3)
        rules += [Rule(target=f"{name}/kernel", source=names[name][0], shape=shape,
                       layout=first if first is not None and name == "conv1_1" else layout),
                  Rule(target=f"{name}/bias", source=names[name][1], layout=np.ravel)]
        inputs = outputs
    return rules


def forward(converted: Converted, reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The features of reference["images_01"] that the reference stores."""
    from pie_jax.nn.layers import apply
    from pie_jax.nn.vgg import VGG

    if "images_01" not in reference:
        return {}
    images = np.asarray(reference["images_01"], np.float32)
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or images.shape[1] < 32:
        raise PackError(f"images_01 of the reference has shape {list(images.shape)}; expected [B, R, R, 3] of 32 px or "
                        "more")
    config = converted.config
    wanted = [name for name in reference if name in (*CONVOLUTIONS, "fc6", "fc7", "fc7_pre")]
    layers = tuple(name for name in wanted if name in CONVOLUTIONS and name in converted.weights)
    found: dict[str, np.ndarray] = {}
    if layers:  # at the reference's own size: a convolution has no other
        read_at = dataclasses.replace(config, resolution=images.shape[1], fc_width=0, num_classes=0, layers=layers)
        if config.heads:
            read_at = dataclasses.replace(read_at, layers=config.layers)
        found |= apply(VGG(read_at), converted.weights, images)
    if config.fc_width and set(wanted) - set(layers):
        found |= {name: value for name, value in apply(VGG(config), converted.weights, images).items()
                  if name not in layers}
    return {name: found[name] for name in wanted if name in found}


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("--heads", metavar="FILE", help="LPIPS's linear heads, to go with torchvision's VGG-16")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run(argv, kind="vgg", description="Convert VGG-16, LPIPS or VGG-Face into a part of a pack.",
               convert=convert, recognise=recognise, forward=forward, extra=_add_arguments)


if __name__ == "__main__":
    sys.exit(main())
