"""What the frozen networks of a pack see in portraits, and the portraits its generator paints.

Each function is one network on a batch, with the crop and the range that it was trained with. Where it has a
`precision`, "bfloat16" is that of the network's convolutions; what goes in and comes out is float32. Networks are
imported inside: a pack without one needs none of its code.
"""

from __future__ import annotations

import dataclasses
import importlib

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights
from pie_jax.config import CameraConfig, GeneratorConfig
from pie_jax.face3d.morphable import FaceParams
from pie_jax.imaging import face_crop, from_pm1, resize_area
from pie_jax.nn import layers
from pie_jax.nn.layers import apply, to_w_plus
from pie_jax.pack import PackConfigs
from pie_jax.pack.parts import PARTS
from pie_jax.programs import kept

DESCRIPTOR = "fc7"  # layer of the recognition network (VGG-Face)


def crop_camera(camera: CameraConfig) -> CameraConfig:
    """The same camera looking at the face crop alone."""
    return dataclasses.replace(camera, crop_x=0.0, crop_y=0.0, crop_size=1.0)


def precompute(weights: dict[str, Weights], *, configs: PackConfigs) -> dict[str, Weights]:
    """A pack's weights with all that depends on them alone, made once: a branch "precomputed" in a network.

    Every function of this module gives the same with them as without, but for rounding, in fewer passes.
    """
    made = _precomputed(weights, configs=configs)
    return {name: {**tree, layers.PRECOMPUTED: made[name]} if name in made else {**tree}
            for name, tree in weights.items()}


@kept(static_argnames="configs")
def _precomputed(weights: dict[str, Weights], *, configs: PackConfigs) -> dict[str, Weights]:
    """What `precompute` adds to the parts that have some: without the weights, which a kept program would copy."""
    made = {}
    if "generator" in weights:
        networks, config = importlib.import_module(f"pie_jax.nn.{configs.generator.architecture}"), configs.generator
        code = jnp.zeros((1, config.num_layers, config.w_dim))
        made["generator"] = layers.precompute(networks.Synthesis(config), weights["generator"]["synthesis"], code)
    for name, part in PARTS.items():
        if name in weights and part.precomputes:
            config = configs.of(name)
            inputs = [jnp.zeros(shape) for shape in part.inputs(config)]
            made[name] = layers.precompute(part.module(config), weights[name], *inputs)
    return made


def grown_crop(camera: CameraConfig, *, scale: float) -> CameraConfig:
    """The camera with its face crop `scale` times as large about the same centre (for cropping, not for rendering)."""
    shift = 0.5 * (1.0 - scale) * camera.crop_size
    return dataclasses.replace(camera, crop_x=camera.crop_x + shift, crop_y=camera.crop_y + shift,
                               crop_size=scale * camera.crop_size)


def map_z(config: GeneratorConfig, weights: Weights, z: Array) -> jax.Array:
    """z [B, Z] ~ N(0, I) -> w [B, D] by the generator's mapping network."""
    networks = importlib.import_module(f"pie_jax.nn.{config.architecture}")
    return apply(networks.Mapping(config), weights["mapping"], z)


def synthesise(config: GeneratorConfig, weights: Weights, w_plus: Array, *, resolution: int | None = None,
               precision: str = "float32") -> jax.Array:
    """w_plus [B, L, D] -> portraits [B, R, R, 3], about 0..1 and not clipped; R: `resolution`, default the full one."""
    return from_pm1(_synthesis(config, weights, w_plus, precision, resolution=resolution))


def synthesise_stopping(config: GeneratorConfig, weights: Weights, w_plus: Array, *, resolution: int, stopping: int,
                        precision: str = "float32") -> tuple[jax.Array, jax.Array]:
    """w_plus [B, L, D] -> portraits in full, and the last `stopping` of the batch at `resolution` (StyleGAN2)."""
    full, stopped = _synthesis(config, weights, w_plus, precision, resolution=resolution, stopping=stopping)
    return from_pm1(full), from_pm1(stopped)


def _synthesis(config: GeneratorConfig, weights: Weights, w_plus: Array, precision: str, **settings):
    networks = importlib.import_module(f"pie_jax.nn.{config.architecture}")
    known = {**weights["synthesis"], layers.PRECOMPUTED: weights.get(layers.PRECOMPUTED, {})}
    return apply(_network(networks.Synthesis, config, precision), known, w_plus, **settings)


def _network(network, config, precision: str):
    return network(config) if precision == "float32" else network(config, jnp.dtype(precision))


def _crops(configs: PackConfigs, portraits: tuple[Array, ...], resolution: int) -> jax.Array:
    """The face crops [sum B, R, R, 3] of portraits clipped to 0..1, arrays [B, H, W, 3] of any sizes."""
    crops = [face_crop(jnp.clip(each, 0.0, 1.0), configs.camera, resolution=resolution) for each in portraits]
    return crops[0] if len(crops) == 1 else jnp.concatenate(crops)


def regress(configs: PackConfigs, weights: Weights, *portraits: Array, precision: str = "float32") -> jax.Array:
    """Portraits, arrays [B, H, W, 3] of any sizes -> params_vector [sum B, 257] by the regressor, in one pass."""
    from pie_jax.nn.regressor import Regressor

    crops = _crops(configs, portraits, configs.regressor.resolution)
    return apply(_network(Regressor, configs.regressor, precision), weights["regressor"], crops)


def find_landmarks(configs: PackConfigs, weights: Weights, portraits: Array) -> jax.Array:
    """Portraits [B, H, W, 3] -> landmarks [B, 66, 2], 0..1 of the face crop, whatever square the network reads."""
    from pie_jax.nn.landmarks import LandmarkNet, soft_argmax

    scale = configs.landmarks.crop_scale
    square = grown_crop(configs.camera, scale=scale)
    crops = face_crop(jnp.clip(portraits, 0.0, 1.0), square, resolution=configs.landmarks.resolution)
    points = soft_argmax(apply(LandmarkNet(configs.landmarks), weights["landmarks"], crops)[-1])
    return points if scale == 1.0 else 0.5 + scale * (points - 0.5)


def face_embedding(configs: PackConfigs, weights: Weights, *portraits: Array, precision: str = "float32") -> jax.Array:
    """Portraits, arrays [B, H, W, 3] of any sizes -> unit descriptors [sum B, N] of the recognition network (fc7)."""
    from pie_jax.nn.vgg import VGG

    crops = _crops(configs, portraits, configs.recognition.resolution)
    network = _network(VGG, configs.recognition, precision)
    features = apply(network, weights["recognition"], crops)[DESCRIPTOR]
    # inside the root, so that a descriptor of zeros has a finite gradient
    return features * jax.lax.rsqrt(jnp.sum(jnp.square(features), axis=-1, keepdims=True) + 1e-12)


def perceptual_features(configs: PackConfigs, weights: Weights, portraits: Array, *,
                        precision: str = "float32") -> dict[str, jax.Array]:
    """Portraits [B, H, W, 3] -> perceptual features {layer: [B, h, w, C]}."""
    from pie_jax.nn.vgg import VGG

    features = apply(_network(VGG, configs.perceptual, precision), weights["perceptual"], portraits)
    return {name: features[name] for name in configs.perceptual.layers}


def encode(configs: PackConfigs, weights: Weights, portraits: Array, *, rounds: int | None = None) -> jax.Array:
    """Portraits [B, H, W, 3] in 0..1 -> w_plus [B, L, D] as the encoder guesses it; rounds: default, what it learnt."""
    config = configs.of("encoder")
    seen = resize_area(portraits, config.resolution)
    mean = to_w_plus(jnp.asarray(weights["generator"]["w_mean"])[None], config.num_layers)
    w_plus = jnp.broadcast_to(mean, (portraits.shape[0], *mean.shape[1:]))
    for _ in range(config.rounds if rounds is None else rounds):
        w_plus = encoder_round(configs, weights, seen, w_plus)
    return w_plus


def encoder_round(configs: PackConfigs, weights: Weights, seen: Array, w_plus: Array) -> jax.Array:
    """One round of `encode`: seen [B, R, R, 3] at the encoder's resolution."""
    from pie_jax.nn.encoder import Encoder

    shown = encoder_view(configs, weights, w_plus)
    return apply(Encoder(configs.of("encoder")), weights["encoder"], seen, shown, w_plus)[0]


def encoder_view(configs: PackConfigs, weights: Weights, w_plus: Array) -> jax.Array:
    """What the encoder sees of w_plus [B, L, D]: its synthesis [B, R, R, 3] in 0..1 at the encoder's resolution."""
    generator, side = configs.generator, configs.of("encoder").resolution
    partial_outputs = (generator.architecture, generator.synthesis) == ("stylegan2", "skip")
    resolution = next((r for r in generator.block_resolutions if r >= side), generator.resolution)
    images = synthesise(generator, weights["generator"], w_plus,
                        resolution=resolution if partial_outputs else generator.resolution)
    return resize_area(jnp.clip(images, 0.0, 1.0), side)


def params_from_latent(configs: PackConfigs, weights: Weights, w_plus: Array) -> jax.Array:
    """w_plus [B, L, D] -> params_vector [B, 257] by DFR, without synthesis (StyleRig, section 4)."""
    from pie_jax.nn.rignet import DFR

    return apply(DFR(configs.dfr), weights["dfr"], w_plus)


def rig(configs: PackConfigs, weights: Weights, w_plus: Array, source: FaceParams, target: FaceParams, *,
        control: str) -> jax.Array:
    """w_hat [B, L, D] = RigNet(w_plus, target^control); source [B]: the parameters of w_plus itself."""
    from pie_jax.nn import rignet

    config = configs.rignet(control)
    control_input = rignet.rig_input(config, source, target)
    return apply(rignet.RigNet(config), weights[f"rignet_{control}"], w_plus, control_input)
