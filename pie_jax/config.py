"""Descriptions of networks, energies and runs: frozen, validated, hashable by value, no jax.

A config says what something is; the arrays it needs are weights and live elsewhere. All configs
survive `to_dict` / `from_dict`, which is how a pack's manifest and a run's report store them.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

_Config = TypeVar("_Config")
CONTROLS = ("pose", "expression", "illumination")
IN_BFLOAT16 = ("generator", "perceptual", "regressor", "recognition")  # parts of a pack that can be
TERMS = ("synthesis", "identity", "edit", "invariance", "recognition")
LANDMARKS = 66


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A StyleGAN generator. Defaults: StyleGAN2 config-f at 1024 px (arXiv 1912.04958)."""

    architecture: str = "stylegan2"  # or "stylegan1"
    resolution: int = 1024
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    mapping_linear_output: bool = False  # the last mapping layer has no activation (published networks: it has)
    channel_base: int = 32768  # channels at resolution r: channel_base / r, kept in channel_min..channel_max
    channel_max: int = 512
    channel_min: int = 1
    synthesis: str = "skip"  # stylegan2: an image at each resolution, summed; "resnet": residual blocks, one image
    clamp: float | None = None  # activations are clamped to +-clamp where a checkpoint says so
    bias_before_blur: bool = False  # stylegan1: up-sampling layers of rosinality/style-based-gan-pytorch
    instance_norm_eps: float = 1e-8  # stylegan1; 1e-5 there

    def __post_init__(self):
        _require(self.architecture in ("stylegan1", "stylegan2"), f"architecture: unknown {self.architecture!r}")
        _require(self.synthesis in ("skip", "resnet"), f"synthesis: unknown {self.synthesis!r}")
        _require(_is_power_of_two(self.resolution) and 8 <= self.resolution <= 1024,
                 f"resolution: expected a power of two in 8..1024, got {self.resolution}")

    @property
    def num_layers(self) -> int:
        """L, the number of style inputs of W+ (18 at 1024 px)."""
        return 2 * int(math.log2(self.resolution)) - 2

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        return tuple(2**k for k in range(2, int(math.log2(self.resolution)) + 1))

    def channels(self, resolution: int) -> int:
        return max(min(self.channel_base // resolution, self.channel_max), self.channel_min)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """VGG-16 (arXiv 1409.1556) features; `width` 64 is the published network, smaller ones scale every layer."""

    width: int = 64
    resolution: int = 256  # the image is resized to this (area) before the first layer
    layers: tuple[str, ...] = ("conv1_1", "conv1_2", "conv3_2", "conv4_2")
    fc_width: int = 0  # > 0 adds fc6 and fc7 of that width (4096 in VGG-Face)
    num_classes: int = 0  # > 0 adds fc8
    heads: bool = False  # LPIPS's linear heads (arXiv 1801.03924): features whose mean squares sum to its distance
    mean_rgb: tuple[float, float, float] = (123.675, 116.28, 103.53)  # of 0..255 RGB
    std_rgb: tuple[float, float, float] = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressorConfig:
    """MoFA regressor: a ResNet (v1.5) from a face crop to the 257 FaceParams."""

    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True  # ResNet-50 in its public form; False: basic blocks
    width: int = 64
    resolution: int = 224  # of the crop it reads, in [0, 1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Portrait to code, in rounds: a ResNet of basic blocks that sees the portrait beside what its last code gives."""

    num_layers: int
    w_dim: int
    axes: int  # principal axes of W in which it says what to change
    resolution: int = 256  # of the portraits it reads, averaged down, in [0, 1]
    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)  # each but the first halves the map, and the stem does
    width: int = 64
    hidden: int = 512
    common_only: bool = False  # layers are changed together, none has a change of its own
    rounds: int = 2  # it was trained for


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandmarkConfig:
    """Stacked-hourglass heat-map network with sub-pixel soft-argmax, 66 points."""

    stacks: int = 4
    width: int = 256
    depth: int = 4  # down-samplings inside an hourglass
    resolution: int = 256  # of the crop it reads; heat maps have a quarter of it
    num_points: int = LANDMARKS
    crop_scale: float = 1.0  # side of the square it reads, in sides of the face crop, about the same centre


@dataclasses.dataclass(frozen=True, kw_only=True)
class RigNetConfig:
    """RigNet (StyleRig, arXiv 2004.00121, section 5): per-layer encoder and decoder.

    input: what the decoder is told beside the encoded latent: "slice" the target's control
    parameters, "difference" target minus source of them, "all" the source's 257 with the target's control.
    """

    control: str = "pose"
    num_layers: int = 18
    w_dim: int = 512
    width: int = 32
    activation: str = "elu"  # "none", "elu", "leaky_relu"
    encoder_layers: int = 1  # all of the same width
    hidden_layers: int = 0  # extra per-layer hidden layers between encoder and decoder
    hidden_width: int = 64
    activated_output: bool = False  # the activation also follows the decoder
    input: str = "difference"

    def __post_init__(self):
        _require(self.control in CONTROLS, f"control: expected one of {CONTROLS}, got {self.control!r}")
        _require(self.activation in ("none", "elu", "leaky_relu"), f"activation: unknown {self.activation!r}")
        _require(self.input in ("slice", "difference", "all"), f"input: unknown {self.input!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DFRConfig:
    """Differentiable face reconstruction: MLP from W+ to the 257 FaceParams (StyleRig, section 4)."""

    num_layers: int = 18
    w_dim: int = 512
    hidden: tuple[int, ...] = (1024, 1024)
    residual: bool = False  # adds a linear map of the flattened latent

    def __post_init__(self):
        _require(bool(self.hidden) and min(self.hidden) > 0, f"hidden: expected positive sizes, got {self.hidden}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """A feed-forward network as a list of operations (see `nn.graph`)."""

    resolution: int  # side of the image it reads
    operations: tuple[str, ...]  # "NUMBER KIND INPUT,... KEY=VALUE ..."; value 0 is the image
    outputs: tuple[int, ...]  # numbers of the values it gives
    low: float = 0.0  # of the image's range
    high: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MouthConfig:
    """The network that paints the inside of a mouth (see `nn.mouth`): a U-Net over halved pixels."""

    width: int = 96  # px of the frame around the mouth
    height: int = 64
    across: int = 56  # px of it between the mouth's corners
    channels: tuple[int, ...] = (40, 64, 96, 96)  # level by level, each half as large


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """Pinhole camera of the face crop and where that crop lies in the portrait.

    Deep3DFaceRecon's camera (arXiv 1903.08527): lengths in the morphable model's unit, image lengths
    in widths of the crop; the camera sits at z = +distance and looks down -z.
    crop_x, crop_y, crop_size: left, top and side of the square face crop, in widths of the portrait.
    """

    focal: float = 1015.0 / 224.0
    centre_x: float = 0.5
    centre_y: float = 0.5
    distance: float = 10.0
    near: float = 5.0
    far: float = 15.0
    crop_x: float = 0.0
    crop_y: float = 0.0
    crop_size: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """Which terms the energy has, their weights, and how many samples of v it draws each step."""

    controls: tuple[str, ...] = CONTROLS
    terms: tuple[str, ...] = TERMS
    samples: int = 1
    control_sampling: str = "all"  # at each step: "all" controls, or "one" drawn for each sample of v (faster)
    rig_source: str = "dfr"  # whose parameters of w a rig starts from: "dfr" (if there is one) or "regressor" (slower)
    photometric: str = "pixel"  # "pixel": covered pixels (PIE); "vertex": visible vertices (MoFA)
    render_resolution: int = 64
    # G(w_hat) is painted to the lowest output of a skip generator that has so many pixels for each one that regressor
    # and recognition read of its face; None: to the full resolution.
    edit_detail: float | None = 1.0
    weight_l2: float = 1.0
    weight_perceptual: float = 1.0
    weight_identity: float = 1.0
    weight_photometric: float = 1.0
    weight_landmark: float = 1.0
    weight_edit: float = 1.0
    weight_invariance: float = 1.0
    weight_recognition_w: float = 1.0
    weight_recognition_edit: float = 1.0

    def __post_init__(self):
        _require(len(self.controls) > 0 and set(self.controls) <= set(CONTROLS),
                 f"controls: expected some of {CONTROLS}, got {self.controls}")
        _require(len(self.terms) > 0 and set(self.terms) <= set(TERMS),
                 f"terms: expected some of {TERMS}, got {self.terms}")
        _require(self.samples >= 1, f"samples: expected at least 1, got {self.samples}")
        _require(self.control_sampling in ("all", "one"),
                 f"control_sampling: expected 'all' or 'one', got {self.control_sampling!r}")
        _require(self.rig_source in ("dfr", "regressor"), f"rig_source: unknown {self.rig_source!r}")
        _require(self.photometric in ("pixel", "vertex"), f"photometric: unknown {self.photometric!r}")
        _require(self.edit_detail is None or self.edit_detail > 0,
                 f"edit_detail: expected None or more than 0, got {self.edit_detail}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One setting of the optimiser. All constants are explicit.

    AdaDelta (arXiv 1212.5701), as PIE has it; Adam; or Adam along the axes of the generator's styles, see
    `portrait.axes`: steps along an axis grow with the root of the deviation of codes there.

    epsilon sets how large the first steps are, about learning_rate sqrt(epsilon / (1 - rho)) a coordinate. The default
    is that of optax and PyTorch; with 1e-8, which TensorFlow once had, 3000 steps leave a portrait half way.
    """

    space: str = "w"  # "w": one code for all layers; "w_plus": one for each
    steps: int = 2000
    optimiser: str = "adadelta"  # or "adam", "principal_adam"
    learning_rate: float = 1.0
    final_rate: float = 1.0  # share of learning_rate that the last step has, reached along a cosine; 1: constant
    rho: float = 0.95  # AdaDelta's
    epsilon: float = 1e-6  # AdaDelta's
    beta1: float = 0.9  # Adam's
    beta2: float = 0.99  # Adam's
    chunk: int = 50  # steps in one compiled scan
    # All terms but E_synthesis in each so many steps, as many times as heavy (lazy regularisation, arXiv 1912.04958).
    lazy_interval: int = 1
    # G(w) is painted to the lowest output of a skip generator that feeds all that read it, as `edit_detail` has it for
    # G(w_hat), and compared with the portrait at that size; with edit_detail None in full all the same.
    coarse: bool = False
    # The first stage begins at the mean of so many of the nearest of some random codes; 0: at the mean of all codes.
    nearest_random_codes: int = 0
    # The first stage begins at the code that the pack's encoder guesses. A pack without one begins at random codes, as
    # above, and is refused where their number is 0.
    encoded: bool = False

    def __post_init__(self):
        _require(self.space in ("w", "w_plus"), f"space: expected 'w' or 'w_plus', got {self.space!r}")
        _require(self.optimiser in ("adadelta", "adam", "principal_adam"), f"optimiser: unknown {self.optimiser!r}")
        _require(self.steps >= 0 and self.chunk >= 1, "steps, chunk: expected steps >= 0 and chunk >= 1")
        _require(self.lazy_interval >= 1, f"lazy_interval: expected at least 1, got {self.lazy_interval}")
        _require(self.nearest_random_codes >= 0,
                 f"nearest_random_codes: expected at least 0, got {self.nearest_random_codes}")
        _require(0 <= self.final_rate <= 1, f"final_rate: expected 0 to 1, got {self.final_rate}")


_SEARCH = (StageConfig(space="w", steps=100, optimiser="principal_adam", learning_rate=0.25, final_rate=0.1,
                       chunk=20, coarse=True, nearest_random_codes=4),
           StageConfig(space="w_plus", steps=140, optimiser="principal_adam", learning_rate=0.08, final_rate=0.05,
                       chunk=20))
_GUESSED = StageConfig(space="w_plus", steps=60, optimiser="principal_adam", learning_rate=0.12, final_rate=0.1,
                       beta1=0.7, beta2=0.95, chunk=20, encoded=True)
PRESETS = {
    # of packs without an encoder: as "search"; of others see ENCODED
    "fast": _SEARCH,
    # as "fast" with lazy terms: less time, and a little farther from the truth
    "quick": tuple(dataclasses.replace(stage, lazy_interval=2) for stage in _SEARCH),
    # from random codes, a twelfth of PIE's steps; how near they come: docs/presets.md
    "search": _SEARCH,
    # a guess, and ten steps: for packs that have an encoder
    "instant": (StageConfig(space="w_plus", steps=10, optimiser="principal_adam", learning_rate=0.05, final_rate=0.2,
                            beta1=0.4, chunk=10, encoded=True),),
    # PIE's schedule: AdaDelta in W, then in W+ (arXiv 2009.09485)
    "paper": (StageConfig(space="w", steps=2000), StageConfig(space="w_plus", steps=1000)),
}
# those that begin at the guess of a pack's encoder, where it has one, and are over sooner
ENCODED = {"fast": (_GUESSED,), "quick": (dataclasses.replace(_GUESSED, lazy_interval=2),)}
DEFAULT_PRESET = "fast"


def preset_stages(preset: str, *, encoder: bool) -> tuple[StageConfig, ...]:
    """The stages of a preset for a pack that has an encoder, or has none. KeyError: there is no such preset."""
    return (PRESETS | ENCODED if encoder else PRESETS)[preset]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Which networks' convolutions the steps of an optimisation compute in bfloat16; all else is float32.

    That is: latent and optimiser, rigs and DFR, styles, demodulation and normalisation, toRGB's sums, dense layers,
    features once they are compared, the rasterizer, and every term. Landmarks are found once, before the steps. What
    the steps found is painted, read and edited in float32, so that an edit is corrected by what is there.
    """

    bfloat16: tuple[str, ...] = ()

    def __post_init__(self):
        _require(set(self.bfloat16) <= set(IN_BFLOAT16),
                 f"bfloat16: expected some of {IN_BFLOAT16}, got {self.bfloat16}")

    def of(self, part: str) -> str:
        """The type that a part of the pack computes in."""
        return "bfloat16" if part in self.bfloat16 else "float32"


# The regressor stays in float32 to be safe: identity, edit and invariance read small angles from it.
PRECISIONS = {"float32": PrecisionConfig(),
              "bfloat16": PrecisionConfig(bfloat16=("generator", "perceptual", "recognition"))}
_AUTO = {"cpu": "float32"}  # where XLA emulates bfloat16; `python -m benchmarks.precision` measures a device


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """All that decides an embedding beside the photo and the pack."""

    energy: EnergyConfig = EnergyConfig()
    stages: tuple[StageConfig, ...] = PRESETS[DEFAULT_PRESET]
    seed: int = 0
    precision: str = "auto"  # a name of PRECISIONS, or "auto": see `on`

    def __post_init__(self):
        _require(self.precision in ("auto", *PRECISIONS),
                 f"precision: expected one of {('auto', *PRECISIONS)}, got {self.precision!r}")

    def on(self, platform: str) -> EmbedConfig:
        """The same with precision "auto" settled for JAX's "cpu", "gpu", "tpu", ...: float32 where nobody measured."""
        settled = _AUTO.get(platform, "float32") if self.precision == "auto" else self.precision
        return dataclasses.replace(self, precision=settled)


def to_dict(config: Any) -> dict:
    """The config as plain JSON-able containers (tuples become lists)."""
    return dataclasses.asdict(config)


_RENAMED = {"near_codes": "nearest_random_codes"}  # fields of configs that older results were stored with


def from_dict(cls: type[_Config], data: Mapping[str, Any]) -> _Config:
    """The inverse of `to_dict`; ValueError names an unknown field."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{cls.__name__}: expected an object, got {data!r:.60}")
    hints = typing.get_type_hints(cls)
    data = {_RENAMED.get(name, name): value for name, value in data.items()}
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__}: unknown field {unknown[0]!r}")
    made = {}
    for name, value in data.items():
        try:
            made[name] = _decode(hints[name], value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return cls(**made)


def _decode(hint, value):
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(Any, hint), value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected a list, got {value!r:.60}")
        inner = typing.get_args(hint)[0]
        return tuple(_decode(inner, v) for v in value)
    if origin in (typing.Union, types.UnionType):
        return value
    kinds = {int: int, float: int | float, str: str, bool: bool}.get(hint)
    if kinds is not None and (not isinstance(value, kinds) or isinstance(value, bool) is not (hint is bool)):
        raise ValueError(f"expected {hint.__name__}, got {value!r:.60}")
    return value
