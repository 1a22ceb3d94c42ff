"""Train a small VGG-16 for E_synth from nothing but studio portraits.

`python -m pie_jax.training.perceptual --studio --pack DIR`. The published weights come from ImageNet and cannot be
shipped; what E_synth needs of them is that eyes, lips, brows, shading and outlines change the features. So the network
learns, from random windows at its own resolution, to label every pixel (face, eye, mouth, teeth, hair ...) from its
middle layers and to read FaceParams from its last one. The heads are dropped, and every layer is rescaled so that its
mean activation is 1 (Gatys et al., arXiv 1508.06576): all layers then count alike in a mean over elements.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.config import VGGConfig, to_dict
from pie_jax.errors import UsageError
from pie_jax.face3d.morphable import VECTOR_SLICES
from pie_jax.imaging import resize_area
from pie_jax.nn.layers import apply, initialise
from pie_jax.pack import update_part
from pie_jax.training.core import command, loop
from pie_jax.training.data.augment import degrade
from pie_jax.training.data.studio_data import SEGMENT_RESOLUTION, StudioData, add_data_arguments, open_data
from pie_jax.training.dfr import normalisation
from pie_jax.training.losses.standardise import standardise

if TYPE_CHECKING:
    from pie_jax.arrays import Array, Weights

PART = "perceptual"
DEFAULTS, FLAGS = VGGConfig(width=16, resolution=128), ("width", "resolution")
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.99))
SEGMENT_LAYERS = ("conv2_2", "conv3_3", "conv4_3")  # what pixels are labelled from
SEEN = ("rotation", "expression", "illumination", "texture")  # fields that are read from the last layer
WINDOW = 64


def training_config(config: VGGConfig) -> VGGConfig:
    """The same convolutions on a window of at most 64 px, with the layers that the heads read."""
    return dataclasses.replace(config, resolution=min(WINDOW, config.resolution), layers=(*SEGMENT_LAYERS, "conv5_3"),
                               fc_width=0, num_classes=0)


def new_heads(key: jax.Array, config: VGGConfig, *, segments: int, outputs: int) -> dict:
    """Linear heads: one [C, segments] for each layer of SEGMENT_LAYERS, and {"params": [C, outputs]}; small random."""
    channels = dict(zip(SEGMENT_LAYERS, (2 * config.width, 4 * config.width, 8 * config.width), strict=True))
    sizes = {name: (count, segments) for name, count in channels.items()} | {"params": (8 * config.width, outputs)}

    @jax.jit
    def drawn(key):
        keys = jax.random.split(key, len(sizes))
        return {name: 0.1 / size[0] ** 0.5 * jax.random.normal(keys[i], size)
                for i, (name, size) in enumerate(sizes.items())}

    return drawn(key)


@functools.partial(jax.jit, static_argnames="size")
def windows(key: jax.Array, images_01: Array, segments: Array, *, size: int) -> tuple[jax.Array, jax.Array]:
    """The same random window of each image [B, R, R, 3] (size px) and of its segments [B, 32, 32] (in cells)."""
    resolution = images_01.shape[1]
    cell = resolution // SEGMENT_RESOLUTION
    cells = size // cell
    corner = jax.random.randint(key, (images_01.shape[0], 2), 0, SEGMENT_RESOLUTION - cells + 1)

    def cut(image, labels, at):
        return (jax.lax.dynamic_slice(image, (at[0] * cell, at[1] * cell, 0), (size, size, 3)),
                jax.lax.dynamic_slice(labels, (at[0], at[1]), (cells, cells)))

    return jax.vmap(cut)(images_01, segments, corner)


def heads_loss(weights: Weights, features: Mapping[str, Array], labels: Array, params: Array, *,
               scale: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(loss, terms) of both heads. labels [B, h, w] int, params [B, n] in deviations; `scale` divides features."""
    def normal(x):
        return x / (jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True)) + scale)

    size = labels.shape[1:3]
    logits = sum(jax.image.resize(jnp.einsum("bhwc,cs->bhws", normal(features[name]), weights["heads"][name]),
                                  (labels.shape[0], *size, weights["heads"][name].shape[1]), "linear")
                 for name in SEGMENT_LAYERS)
    segmentation = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    pooled = jnp.mean(normal(features["conv5_3"]), axis=(1, 2))
    predicted = pooled @ weights["heads"]["params"]
    error = jnp.mean(jnp.square(predicted - params))
    right = jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))
    return segmentation + 0.5 * error, {"segments": segmentation, "params": error, "right": right}


def make_step(config: VGGConfig, *, peak: float) -> Callable:
    """The step of `loop.run`: batch {"images" uint8, "segments", "params"}, frozen {"mean", "std"} [n]."""
    from pie_jax.nn.vgg import VGG

    small = training_config(config)
    network, picked = VGG(small), picked_params()

    def loss(weights, key, rows, frozen):
        degrade_key, window_key = jax.random.split(key)
        images = resize_area(rows["images"].astype(jnp.float32) / 255.0, config.resolution)
        images, labels = windows(window_key, images, rows["segments"].astype(jnp.int32), size=small.resolution)
        features = apply(network, weights["vgg"], degrade(degrade_key, images, strength=0.6))
        params = (rows["params"][:, picked] - frozen["mean"][None]) / frozen["std"][None]
        return heads_loss(weights, features, labels, params, scale=1e-3)

    def step(state, rows, frozen):
        key = loop.step_key(state)
        (value, found), gradients = jax.value_and_grad(loss, has_aux=True)(state.weights, key, rows, frozen)
        rate = loop.cosine(state.fraction, peak=peak, warm_up=0.05)
        return loop.apply_gradients(state, gradients, optimiser=OPTIMISER, learning_rate=rate), {"loss": value} | found

    return step


def picked_params() -> np.ndarray:
    """Indices into the 257 of the fields in SEEN."""
    return np.concatenate([np.arange(257)[VECTOR_SLICES[name]] for name in SEEN])


def normalise_layers(config: VGGConfig, weights: dict, images_01: Array) -> dict:
    """The layers that `config` needs, each scaled to a mean activation of 1 over `images_01` [B, H, W, 3].

    ReLU is positive homogeneous: dividing a layer by its mean and multiplying the next one's kernel by it changes
    nothing else. A layer that is silent on all images is left alone.
    """
    from pie_jax.nn.vgg import VGG, layers_needed

    names = layers_needed(config)
    everything = dataclasses.replace(config, layers=names)
    means = jax.jit(lambda weights, x: {name: jnp.mean(jnp.maximum(features, 0.0)) for name, features in apply(
        VGG(everything), weights, x).items()})(weights, images_01)
    before, result = 1.0, {}
    for name in names:
        mean = float(means[name]) if means[name] > 1e-8 else before
        layer = {key: np.asarray(value) for key, value in weights[name].items()}
        result[name] = {"kernel": layer["kernel"] * (before / mean), "bias": layer["bias"] / mean}
        before = mean
    return result


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on studio portraits and write the part."""
    from pie_jax.nn.vgg import VGG
    from pie_jax.studio.head import SEGMENTS

    if not arguments.studio:
        raise UsageError("perceptual: only studio portraits have these labels: pass --studio, or convert a VGG")
    data = open_data(arguments.data)
    config = read_fields(arguments, DEFAULTS, FLAGS)
    check_resolution(config, data)
    key, head_key, init_key = jax.random.split(jax.random.key(arguments.seed), 3)
    small = training_config(config)
    picked = picked_params()
    scale = normalisation(np.asarray(data.params[:data.training_rows]))
    frozen = {"mean": jnp.asarray(scale["output_mean"][picked]), "std": jnp.asarray(scale["output_std"][picked])}
    vgg = initialise(VGG(small), init_key, jnp.zeros((1, small.resolution, small.resolution, 3)))
    first = jnp.asarray(data.tail(48, fields=("images",))["images"], jnp.float32) / 255.0
    first, _ = windows(init_key, resize_area(first, config.resolution), jnp.zeros((len(first), 32, 32), jnp.int32),
                       size=small.resolution)
    weights = {"vgg": standardise(small, vgg, first),
               "heads": new_heads(head_key, config, segments=len(SEGMENTS), outputs=len(picked))}
    fields = ("images", "segments", "params")
    tail = data.tail(64, fields=fields)
    look = jax.jit(lambda weights, images, labels, params: heads_loss(
        weights, apply(VGG(small), weights["vgg"], images), labels, params, scale=1e-3)[1])

    def evaluate(state):
        images = resize_area(jnp.asarray(tail["images"], jnp.float32) / 255.0, config.resolution)
        labels = jnp.asarray(tail["segments"], jnp.int32)
        images, labels = windows(jax.random.key(1), images, labels, size=small.resolution)
        params = (jnp.asarray(tail["params"][:, picked]) - frozen["mean"][None]) / frozen["std"][None]
        found = look(state.ema, images, labels, params)
        return {"pixels_right": float(found["right"]), "params_explained": 1.0 - float(found["params"])}

    result = loop.run(arguments.run, loop.new_state(key, weights, OPTIMISER), make_step(config, peak=arguments.rate),
                      steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart, frozen=frozen,
                      batch_fn=lambda step: data.batch(arguments.seed, step, arguments.batch, fields=fields),
                      batch_size=arguments.batch, evaluate=evaluate, name=PART,
                      description={"config": to_dict(config), "batch": arguments.batch, "seed": arguments.seed,
                                   "rate": arguments.rate})
    if result.outcome != "interrupted":
        images = jnp.asarray(data.tail(32, fields=("images",))["images"], jnp.float32) / 255.0
        update_part(arguments.pack, PART, normalise_layers(config, result.state.ema["vgg"], images), config=config,
                    record=command.record(result, arguments, module=PART, portraits=len(data)))
    return result


def check_resolution(config: VGGConfig, data: StudioData) -> None:
    """UsageError unless the portraits are large enough and windows fall on whole cells."""
    if data.images.shape[1] < config.resolution or config.resolution % SEGMENT_RESOLUTION:
        raise UsageError(f"--resolution: expected a multiple of {SEGMENT_RESOLUTION} up to the portraits' "
                         f"{data.images.shape[1]} px, got {config.resolution}")


def parser() -> Parser:
    result = command.parser_of(PART, module="pie_jax.training.perceptual", description=__doc__, steps=3000,
                               batch=16, rate=1e-3)
    add_data_arguments(result, studio="learn from studio portraits (the only way so far)")
    add_fields(result, DEFAULTS, FLAGS, help={"width": "channels of the first layer; VGG-16 has 64",
                                              "resolution": "side that E_synth compares at"})
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
