"""Train a rig, RigNet for one control, by StyleRig's losses (arXiv 2004.00121): W+ moves as FaceParams ask.

`python -m pie_jax.training.rignet --control pose --pack DIR` for any pack with generator, regressor, landmarks,
morphable model and DFR; see `rig_losses` for the terms. `--paper` drops our additions and uses AdaDelta. The response
of the finished rig (parameters asked against those regressed from the edited image, held-out codes) goes into the
manifest.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.config import CONTROLS, RigNetConfig, to_dict
from pie_jax.face3d.morphable import CONTROL_FIELDS, VECTOR_SLICES, FaceParams
from pie_jax.nn.layers import initialise
from pie_jax.pack import Pack, PackConfigs, load_pack, update_part
from pie_jax.pack.inference import regress
from pie_jax.training.core import command, loop
from pie_jax.training.data import codes
from pie_jax.training.dfr import normalisation
from pie_jax.training.losses import background
from pie_jax.training.losses.face_losses import importance
from pie_jax.training.losses.rig_losses import RigLossConfig, apply_rig, response, rest_weights, terms

if TYPE_CHECKING:
    from pie_jax.arrays import Weights

NEEDS = (*codes.PARTS, "dfr", "morphable")
FLAGS = ("width", "activation", "hidden_layers", "hidden_width", "input")
LOSS_FLAGS = ("source", "render_rows", "generator_rows")
WEIGHTS = ("reconstruction", "edit", "consistency", "landmark", "control", "rest", "keep", "background")


def optimiser_of(name: str, rate: float) -> tuple[optax.GradientTransformation, Callable]:
    """(optax transform of unit scale, learning rate fraction -> []): Adam with a cosine, or the paper's AdaDelta."""
    if name == "adadelta":
        transform = optax.chain(optax.adadelta(learning_rate=rate, rho=0.95, eps=1e-8), optax.scale(-1.0))
        return transform, lambda fraction: 1.0
    return (optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.99)),
            lambda fraction: loop.cosine(fraction, peak=rate, warm_up=0.02))


def make_step(config: RigNetConfig, configs: PackConfigs, losses: RigLossConfig, *, optimiser: str,
              rate: float) -> tuple[optax.GradientTransformation, Callable]:
    """(the optax transform, the step of `loop.run`); batch = 2B rows of the pool, frozen as in `rig_losses.terms`."""
    transform, schedule = optimiser_of(optimiser, rate)

    def step(state, rows, frozen):
        def loss(weights):
            found = terms(loop.step_key(state), weights, rows, frozen, config=config, configs=configs, losses=losses)
            return found["loss"], found

        gradients, found = jax.grad(loss, has_aux=True)(state.weights)
        state = loop.apply_gradients(state, gradients, optimiser=transform, learning_rate=schedule(state.fraction))
        return state, found

    return transform, step


def frozen_of(pack: Pack, pool: codes.Codes) -> dict:
    """The arrays that do not move while a rig is trained.

    "std" [257] is the unit in which parameters are compared: their deviation in the pool, larger for components that
    hardly show (`face_losses.importance`), most of which are the regressor's noise.
    """
    deviation = normalisation(np.asarray(pool.params_vector[:len(pool) - pool.held_out]))["output_std"]
    std = deviation / np.sqrt(np.maximum(importance(pack.morphable, deviation), 1e-3))
    return {"dfr": pack.weights["dfr"], "generator": pack.weights["generator"], "regressor": pack.weights["regressor"],
            "morphable": pack.morphable, "std": jnp.asarray(std),
            "w_std": jnp.asarray(np.maximum(np.std(pool.w_a, axis=0), 1e-3).astype(np.float32))}


def measure_response(config: RigNetConfig, configs: PackConfigs, weights: Weights, frozen: Mapping[str, Any],
                     rows: Mapping[str, Any]) -> dict:
    """The exact response on held-out `rows`: every code is asked for the control of its neighbour in the list.

    Returns {"gain", "cosine", "rest_drift" (root mean square change of the rest, in deviations), "slope" [P],
    "correlation" [P]}.
    """
    look = jax.jit(lambda weights, frozen, w_plus, source, target: regress(
        configs, frozen, codes.paint(configs, frozen, apply_rig(config, weights, w_plus, source, target),
                                     resolution=codes.synthesis_resolution(configs))))
    part = VECTOR_SLICES[CONTROL_FIELDS[config.control]]
    params_vector, std = rows["params_vector"], np.asarray(frozen["std"])
    w_plus = codes.w_plus_of({name: jnp.asarray(value) for name, value in rows.items()}, num_layers=config.num_layers)
    source = FaceParams.from_vector(jnp.asarray(params_vector))

    def ask(vectors):
        parts = [np.asarray(look(weights, frozen, w_plus[i:i + 16], jax.tree.map(lambda x, i=i: x[i:i + 16], source),
                                 FaceParams.from_vector(jnp.asarray(vectors[i:i + 16]))))
                 for i in range(0, len(vectors), 16)]
        return np.concatenate(parts)

    asked = params_vector.copy()
    asked[:, part] = np.roll(params_vector[:, part], 1, axis=0)
    got = ask(asked)
    found = response(asked[:, part] - params_vector[:, part], got[:, part] - params_vector[:, part], std[part])
    drift = [weight * np.mean(((got - params_vector)[:, VECTOR_SLICES[name]] / std[VECTOR_SLICES[name]][None]) ** 2)
             for name, weight in rest_weights(config.control).items()]
    found["rest_drift"] = float(np.sqrt(sum(drift) / sum(rest_weights(config.control).values())))
    found["std"] = std[part]
    return found


def _plain(found: dict) -> dict:
    return {key: [round(float(x), 4) for x in value] if isinstance(value, np.ndarray) else value
            for key, value in found.items()}


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Open the pool, train one rig, measure its response, write the part."""
    from pie_jax.nn.rignet import RigNet, rig_input

    pack = load_pack(arguments.pack, parts=NEEDS)
    pack.require(*NEEDS)
    part = f"rignet_{arguments.control}"
    pool = codes.open_codes(pathlib.Path(arguments.codes), pack, count=arguments.count, seed=arguments.codes_seed)
    generator = pack.configs.generator
    config = dataclasses.replace(read_fields(arguments, RigNetConfig(), FLAGS), control=arguments.control,
                                 num_layers=generator.num_layers, w_dim=generator.w_dim)
    losses = losses_of(arguments)
    face = FaceParams.zeros(leading=(1,))
    key = jax.random.key(arguments.seed)
    zeros = jnp.zeros((1, config.num_layers, config.w_dim))
    weights = initialise(RigNet(config), key, zeros, rig_input(config, face, face))
    frozen, known = frozen_of(pack, pool), {}
    if losses.background > 0:
        matrix, explained = background.fit(pool, num_layers=config.num_layers)
        frozen["background"], known["background_explained"] = jnp.asarray(matrix), round(explained, 4)
    rate = arguments.rate if arguments.rate is not None else (0.01 if arguments.optimiser == "adadelta" else 1e-3)
    configs = dataclasses.replace(pack.configs, rignets=())
    transform, step = make_step(config, configs, losses, optimiser=arguments.optimiser, rate=rate)
    tail = pool.tail(size=64)

    def evaluate(state):
        found = measure_response(config, configs, state.ema, frozen, tail)
        return {"gain": found["gain"], "cosine": found["cosine"], "rest_drift": found["rest_drift"]}

    result = loop.run(arguments.run or f"runs/{part}", loop.new_state(key, weights, transform), step, frozen=frozen,
                      steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart, chunk=8,
                      batch_fn=lambda number: pool.batch(arguments.seed, number, 2 * arguments.batch),
                      batch_size=2 * arguments.batch, evaluate=evaluate, name=part,
                      description={"config": to_dict(config), "losses": to_dict(losses), "batch": arguments.batch,
                                   "seed": arguments.seed, "optimiser": arguments.optimiser, "rate": rate,
                                   "count": arguments.count})
    if result.outcome != "interrupted":
        found = measure_response(config, configs, result.state.ema, frozen, pool.tail(size=128))
        update_part(arguments.pack, part, result.state.ema, config=config,
                    record=command.record(result, arguments, module="rignet", losses=to_dict(losses),
                                          response=_plain(found), **known))
    return result


def losses_of(arguments: argparse.Namespace) -> RigLossConfig:
    """The loss weights that the flags ask for; --paper is StyleRig's own set."""
    losses = read_fields(arguments, read_fields(arguments, RigLossConfig(), WEIGHTS, prefix="weight"), LOSS_FLAGS)
    if arguments.paper:
        arguments.optimiser = "adadelta"
        losses = dataclasses.replace(losses, control=0.0, rest=0.0, keep=0.0, background=0.0, generator_rows=0,
                                     source="dfr", render_rows=2 * arguments.batch)
    return losses


def parser() -> Parser:
    result = command.parser_of("rignet", module="pie_jax.training.rignet", description=__doc__, steps=4000,
                               batch=16)
    codes.add_code_arguments(result)
    result.set_defaults(run=None)
    result.add_argument("--codes-seed", type=int, default=0, help="seed the pool was made with (default: %(default)s)")
    result.add_argument("--control", choices=CONTROLS, required=True)
    add_fields(result, RigNetConfig(), FLAGS, choices={"activation": ("none", "elu", "leaky_relu"),
                                                       "input": ("slice", "difference", "all")},
               help={"width": "of a layer's encoder", "input": "what the decoder is told beside the code"})
    result.add_argument("--optimiser", choices=("adam", "adadelta"), default="adam")
    result.add_argument("--rate", type=float, default=None, help="learning rate (default: Adam 0.001, AdaDelta 0.01)")
    result.add_argument("--paper", action="store_true", help="StyleRig's own losses and optimiser, none of ours")
    add_fields(result, RigLossConfig(), LOSS_FLAGS, choices={"source": ("regressor", "dfr")},
               help={"source": "whose parameters a row starts from", "render_rows": "rows with render losses",
                     "generator_rows": "rows that look at the edited image instead of DFR"})
    add_fields(result, RigLossConfig(), WEIGHTS, prefix="weight")
    result.add_argument("--weight-surroundings", dest="weight_background", type=float, default=argparse.SUPPRESS,
                        help=argparse.SUPPRESS)  # as packs of before have it in their records
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
