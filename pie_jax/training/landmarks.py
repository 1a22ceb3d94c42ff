"""Train the landmark network on studio portraits: 66 points whose truth is exact.

`python -m pie_jax.training.landmarks --studio --pack DIR`. Every stack's heat maps are compared with Gaussians at
the true points (arXiv 1703.07332), and the sub-pixel points that are read from them with the truth.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.config import LandmarkConfig, to_dict
from pie_jax.errors import UsageError
from pie_jax.imaging import face_crop
from pie_jax.nn.layers import apply, initialise
from pie_jax.pack import PackConfigs, update_part
from pie_jax.pack.inference import find_landmarks
from pie_jax.training.core import command, loop
from pie_jax.training.data.augment import degrade
from pie_jax.training.data.studio_data import add_data_arguments, open_data
from pie_jax.training.losses.face_losses import portrait_to_crop

if TYPE_CHECKING:
    from pie_jax.arrays import Array

PART = "landmarks"
DEFAULTS = LandmarkConfig(stacks=1, width=48, depth=3, resolution=64)
FLAGS = ("stacks", "width", "depth", "resolution")
DEVIATION = 0.9  # of the target bumps, pixels of the heat map
POINTS = 20.0  # weight of the points' distance in crop widths against the summed squares of a heat map
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.99))


def gaussians(points_01: Array, *, size: int) -> jax.Array:
    """Target heat maps [B, size, size, 66] of points [B, 66, 2] in 0..1: bumps of height 1, deviation DEVIATION px."""
    at = points_01 * size - 0.5
    pixels = jnp.arange(size, dtype=jnp.float32)[None, None, :]
    x, y = (jnp.exp(-0.5 * jnp.square((pixels - at[:, :, i:i + 1]) / DEVIATION)) for i in (0, 1))
    return jnp.einsum("bkh,bkw->bhwk", y, x)


def points_loss(points: Array, truth: Array) -> jax.Array:
    """Mean distance [] of points [B, 66, 2], in crop widths, with a smooth bottom of about half a percent."""
    squared = jnp.sum(jnp.square(points - truth), axis=-1)
    return jnp.mean(jnp.sqrt(squared + 0.005**2) - 0.005)


def make_step(configs: PackConfigs, *, peak: float) -> Callable:
    """The step of `loop.run`: batch {"images" uint8 portraits, "landmarks" 0..1 of the portrait}."""
    from pie_jax.nn.landmarks import LandmarkNet, soft_argmax, update_batch_stats

    network = LandmarkNet(configs.landmarks)

    def loss(weights, key, rows):
        images = degrade(key, rows["images"].astype(jnp.float32) / 255.0)
        crops = face_crop(images, configs.camera, resolution=configs.landmarks.resolution)
        truth = portrait_to_crop(rows["landmarks"], configs.camera)
        maps, sown = apply(network, weights, crops, train=True, mutable=["batch_stats"])
        target = gaussians(truth, size=maps[-1].shape[1])
        heat = sum(jnp.mean(jnp.sum(jnp.square(stack - target), axis=(1, 2))) for stack in maps) / len(maps)
        points = sum(points_loss(soft_argmax(stack), truth) for stack in maps) / len(maps)
        return heat + POINTS * points, ({"heat": heat, "points": points}, sown["batch_stats"])

    def step(state, rows):
        (value, (found, statistics)), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.weights, loop.step_key(state), rows)
        state = loop.apply_gradients(state, gradients, optimiser=OPTIMISER,
                                     learning_rate=loop.cosine(state.fraction, peak=peak, warm_up=0.03))
        state = dataclasses.replace(state, weights=update_batch_stats(state.weights, statistics))
        return state, {"loss": value} | found

    return step


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on studio portraits and write the part."""
    from pie_jax.nn.landmarks import LandmarkNet

    if not arguments.studio:
        raise UsageError("landmarks: only studio portraits have true points: pass --studio, or convert a network")
    data = open_data(arguments.data)
    config = read_fields(arguments, DEFAULTS, FLAGS)
    configs = PackConfigs(landmarks=config, camera=command.camera_of(arguments))
    key, init_key = jax.random.split(jax.random.key(arguments.seed))
    zeros = jnp.zeros((1, config.resolution, config.resolution, 3))
    weights = initialise(LandmarkNet(config), init_key, zeros)
    for name in [f"l{i}" for i in range(config.stacks)]:  # heat maps start flat, as most of their pixels stay
        weights[name] = jax.tree.map(lambda x: 0.01 * x, weights[name])
    fields = ("images", "landmarks")
    tail = data.tail(256, fields=fields)
    truth = portrait_to_crop(tail["landmarks"], configs.camera)
    look = jax.jit(lambda weights, images: find_landmarks(configs, {PART: weights}, images.astype(jnp.float32) / 255.0))

    def evaluate(state):
        found = np.concatenate([look(state.ema, tail["images"][i:i + 32]) for i in range(0, len(truth), 32)])
        px = np.linalg.norm(found - truth, axis=-1) * configs.camera.crop_size * 128
        return {"error_px_of_128": float(px.mean()), "eyes_px": float(px[:, 36:48].mean()),
                "mouth_px": float(px[:, 48:].mean())}

    result = loop.run(arguments.run, loop.new_state(key, weights, OPTIMISER), make_step(configs, peak=arguments.rate),
                      steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart,
                      batch_fn=lambda step: data.batch(arguments.seed, step, arguments.batch, fields=fields),
                      batch_size=arguments.batch, evaluate=evaluate, name=PART,
                      description={"config": to_dict(config), "batch": arguments.batch, "seed": arguments.seed,
                                   "rate": arguments.rate})
    if result.outcome != "interrupted":
        update_part(arguments.pack, PART, result.state.ema, config=config,
                    record=command.record(result, arguments, module=PART, portraits=len(data)))
    return result


def parser() -> Parser:
    result = command.parser_of(PART, module="pie_jax.training.landmarks", description=__doc__, steps=4000,
                               batch=16, rate=1e-3)
    add_data_arguments(result, studio="learn from studio portraits (the only way so far)")
    add_fields(result, DEFAULTS, FLAGS, help={
        "stacks": "hourglasses", "width": "channels", "depth": "down-samplings inside an hourglass",
        "resolution": "side of the face crop"})
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
