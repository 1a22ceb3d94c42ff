"""Train DFR, W+ to FaceParams, which lets rigs train without synthesis (StyleRig, arXiv 2004.00121, section 4).

`python -m pie_jax.training.dfr --pack DIR`: the teacher is the pack's regressor on the images of sampled codes (half of
them with mixed styles), read from the pool that `pie_jax.training.data.codes` makes.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.config import DFRConfig, to_dict
from pie_jax.face3d.morphable import VECTOR_SLICES
from pie_jax.nn.layers import apply, initialise
from pie_jax.pack import load_pack, update_part
from pie_jax.training.core import command, loop
from pie_jax.training.data import codes

if TYPE_CHECKING:
    from pie_jax.arrays import Array

PART = "dfr"
DEFAULTS, FLAGS = DFRConfig(), ("hidden", "residual")
OPTIMISER = optax.scale_by_adam(b1=0.9, b2=0.99)


def normalisation(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """What a network's output is scaled by: {"output_mean", "output_std"} [257] of `vectors` [N, 257].

    A component's deviation is kept above a tenth of its group's, so that no near-constant one dominates a loss.
    """
    std = vectors.std(axis=0)
    for part in VECTOR_SLICES.values():
        std[part] = np.maximum(std[part], max(0.1 * float(np.sqrt(np.mean(std[part] ** 2))), 1e-4))
    return {"output_mean": vectors.mean(axis=0).astype(np.float32), "output_std": std.astype(np.float32)}


def group_errors(predicted: Array, truth: Array, std: Array, *,
                 importance: Array | None = None) -> dict[str, jax.Array]:
    """Mean squared error in deviations `std` [257] of every field of FaceParams; vectors [B, 257] -> scalars.

    importance [257]: a weight for every component (see `face_losses.importance`), 1 when None.
    """
    squared = jnp.square((predicted - truth) / std[None, :])
    squared = squared if importance is None else squared * importance[None, :]
    return {name: jnp.mean(squared[:, part]) for name, part in VECTOR_SLICES.items()}


def explained(predicted: np.ndarray, truth: np.ndarray, std: np.ndarray, *,
              importance: Array | None = None) -> dict[str, float]:
    """Held-out metrics: for every field 1 - error / variance (1 is perfect, 0 the mean), both in deviations `std`."""
    scale = std if importance is None else std / np.sqrt(np.maximum(importance, 1e-12))
    metrics = {}
    for name, part in VECTOR_SLICES.items():
        error = np.sum(((predicted - truth)[:, part] / scale[part]) ** 2)
        spread = np.sum(((truth - truth.mean(axis=0))[:, part] / scale[part]) ** 2)
        metrics[f"explained_{name}"] = float(1.0 - error / max(spread, 1e-9))
    return metrics


def make_step(config: DFRConfig, *, peak: float) -> Callable:
    """The step of `loop.run`: batch = rows of the pool."""
    from pie_jax.nn.rignet import DFR

    network = DFR(config)

    def loss(weights, rows):
        predicted = apply(network, weights, codes.w_plus_of(rows, num_layers=config.num_layers))
        errors = group_errors(predicted, rows["params_vector"], jax.lax.stop_gradient(weights["output_std"]))
        return sum(errors.values()) / len(errors), errors

    def step(state, rows):
        (value, errors), gradients = jax.value_and_grad(loss, has_aux=True)(state.weights, rows)
        state = loop.apply_gradients(state, gradients, optimiser=OPTIMISER,
                                     learning_rate=loop.cosine(state.fraction, peak=peak, warm_up=0.02))
        return state, {"loss": value, "pose": errors["rotation"], "expression": errors["expression"],
                       "light": errors["illumination"]}

    return step


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Make or open the pool, train, write the part. Needs generator, regressor and landmarks."""
    from pie_jax.nn.rignet import DFR

    pack = load_pack(arguments.pack, parts=codes.PARTS)
    pool = codes.open_codes(pathlib.Path(arguments.codes), pack, count=arguments.count, seed=arguments.seed)
    generator = pack.configs.generator
    config = dataclasses.replace(read_fields(arguments, DEFAULTS, FLAGS), num_layers=generator.num_layers,
                                 w_dim=generator.w_dim)
    key = jax.random.key(arguments.seed)
    weights = initialise(DFR(config), key, jnp.zeros((1, config.num_layers, config.w_dim)))
    scale = normalisation(np.asarray(pool.params_vector[:len(pool) - pool.held_out]))
    weights = dict(weights) | {name: jnp.asarray(value) for name, value in scale.items()}
    tail = pool.tail()
    predict = jax.jit(lambda weights, rows: DFR(config).apply(
        {"params": weights}, codes.w_plus_of(rows, num_layers=config.num_layers)))

    def evaluate(state):
        predicted = np.asarray(predict(state.ema, tail))
        pose = VECTOR_SLICES["rotation"]
        degrees = np.degrees(np.abs(predicted[:, pose] - tail["params_vector"][:, pose])).mean(axis=0)
        return explained(predicted, tail["params_vector"], scale["output_std"]) | {
            "pitch_error_degrees": float(degrees[0]), "yaw_error_degrees": float(degrees[1])}

    result = loop.run(arguments.run, loop.new_state(key, weights, OPTIMISER), make_step(config, peak=arguments.rate),
                      steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart, chunk=16,
                      batch_fn=lambda step: pool.batch(arguments.seed, step, arguments.batch),
                      batch_size=arguments.batch, evaluate=evaluate, name=PART,
                      description={"config": to_dict(config), "batch": arguments.batch, "seed": arguments.seed,
                                   "rate": arguments.rate, "count": arguments.count})
    if result.outcome != "interrupted":
        update_part(arguments.pack, PART, result.state.ema, config=config,
                    record=command.record(result, arguments, module=PART, codes=len(pool)))
    return result


def parser() -> Parser:
    result = command.parser_of(PART, module="pie_jax.training.dfr", description=__doc__, steps=6000,
                               batch=64, rate=1e-3)
    codes.add_code_arguments(result)
    add_fields(result, DEFAULTS, FLAGS, help={"hidden": "hidden layers",
                                              "residual": "add a linear map of the flattened code"})
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
