"""Train the network that paints the inside of a mouth: on the open mouths of photographs.

`python -m pie_jax.training.mouth --photos FOLDER FOLDER --pack DIR`. The inside is blanked and painted again from the
lips around it. The loss compares pixels and their differences; from `--critic-from` on, a critic of patches asks for
teeth that look photographed (non-saturating loss with R1, arXiv 1801.04406).
"""

from __future__ import annotations

import argparse
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array, Weights
from pie_jax.cli.command import Parser
from pie_jax.config import MouthConfig, to_dict
from pie_jax.nn.layers import apply, initialise
from pie_jax.nn.mouth import MouthCritic, MouthNet
from pie_jax.pack import load_pack, update_part
from pie_jax.training.core import command, loop
from pie_jax.training.core.loop import TrainState, step_key
from pie_jax.training.data.mouth_data import MouthData, open_mouths

PART = "mouth"
DEFAULTS = MouthConfig()
EDGES = 2.0  # weight of neighbouring pixels' differences beside that of the pixels
R1, R1_ROWS = 1.0, 4  # weight of the penalty, and of how many frames of a batch it is taken
CRITIC_RATE = 0.5  # of the network's own
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.8, b2=0.99))


def recolour(key: Array, frames: Array) -> jax.Array:
    """frames [B, H, W, 3] in 0..1 mirrored at random, brighter or darker, warmer or colder."""
    flip, light, tint, curve = jax.random.split(key, 4)
    count = frames.shape[0]
    frames = jnp.where(jax.random.bernoulli(flip, 0.5, (count, 1, 1, 1)), frames[:, :, ::-1], frames)
    gain = jnp.exp(0.15 * jax.random.normal(light, (count, 1, 1, 1)) + 0.04 * jax.random.normal(tint, (count, 1, 1, 3)))
    power = jnp.exp(0.15 * jax.random.normal(curve, (count, 1, 1, 1)))
    colours = jnp.clip(gain * jnp.maximum(frames[..., :3], 1e-4) ** power, 0.0, 1.0)
    return jnp.concatenate([colours, frames[..., 3:]], axis=-1)


def painting_loss(painted: Array, truth: Array, mask: Array) -> jax.Array:
    """Mean error [] inside the mask: of pixels [B, H, W, 3], and of the steps to their neighbours."""
    inside = jnp.maximum(jnp.sum(mask, axis=(1, 2, 3)), 1.0)
    error = painted - truth
    pixels = jnp.sum(jnp.abs(error) * mask, axis=(1, 2, 3))
    down, right = error[:, 1:] - error[:, :-1], error[:, :, 1:] - error[:, :, :-1]
    edges = (jnp.sum(jnp.abs(down) * mask[:, 1:], axis=(1, 2, 3))
             + jnp.sum(jnp.abs(right) * mask[:, :, 1:], axis=(1, 2, 3)))
    return jnp.mean((pixels + EDGES * edges) / (3.0 * inside))


@functools.lru_cache(maxsize=4)
def make_step(config: MouthConfig, *, peak: float, critic_weight: float, critic_from: float) -> Callable:
    """The step of `loop.run`: batch {"frames" uint8 [B, H, W, 3], "masks" uint8 [B, H, W]}."""
    network, critic = MouthNet(config), MouthCritic()

    def score(weights: Weights, frames: Array, mask: Array) -> jax.Array:
        return apply(critic, weights, frames, mask)

    def step(state: TrainState, batch: dict[str, Array]):
        both = jnp.concatenate([batch["frames"], batch["masks"][..., None]], axis=-1).astype(jnp.float32) / 255.0
        both = recolour(step_key(state), both)
        truth, mask = both[..., :3], both[..., 3:]
        rate = loop.cosine(state.fraction, peak=peak, warm_up=0.02, flat=0.6)
        judged = (state.fraction >= critic_from).astype(jnp.float32)

        def loss(weights):
            painted = apply(network, weights, truth, mask)
            error = painting_loss(painted, truth, mask)
            fooled = jnp.mean(jax.nn.softplus(-score(state.extra["critic"], painted, mask)))
            return error + judged * critic_weight * fooled, (painted, error)

        (value, (painted, error)), gradients = jax.value_and_grad(loss, has_aux=True)(state.weights)
        painted = jax.lax.stop_gradient(painted)

        def critic_loss(weights):
            real, fake = score(weights, truth, mask), score(weights, painted, mask)
            slope = jax.grad(lambda x: jnp.sum(jnp.mean(score(weights, x, mask[:R1_ROWS]), axis=(1, 2))))(
                truth[:R1_ROWS])
            penalty = jnp.mean(jnp.sum(jnp.square(slope), axis=(1, 2, 3)))
            value = jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))
            return value + 0.5 * R1 * penalty, value

        (_, found), slopes = jax.value_and_grad(critic_loss, has_aux=True)(state.extra["critic"])
        direction, optimiser = OPTIMISER.update(slopes, state.extra["critic_optimiser"])
        critic_weights = jax.tree.map(lambda w, d: w - CRITIC_RATE * rate * d, state.extra["critic"], direction)
        extra = {"critic": critic_weights, "critic_optimiser": optimiser}
        state = loop.apply_gradients(state, gradients, optimiser=OPTIMISER, learning_rate=rate, ema_decay=0.998,
                                     extra=extra)
        return state, {"loss": value, "error": error, "critic": found}

    return step


def evaluator(data: MouthData, config: MouthConfig) -> Callable[[TrainState], dict[str, float]]:
    """state -> PSNR of the insides of held-out mouths, and what their mean colour would give."""
    frames, masks = (array[data.held_out, 0].astype(np.float32) / 255.0 for array in (data.frames, data.masks))
    masks = masks[..., None]
    paint = jax.jit(lambda weights, frame, mask: apply(MouthNet(config), weights, frame, mask))

    def decibels(painted) -> float:
        squared = (np.square(painted - frames) * masks).sum(axis=(1, 2, 3)) / (3.0 * masks.sum(axis=(1, 2, 3)))
        return float(np.mean(-10.0 * np.log10(np.maximum(squared, 1e-8))))

    mean = (frames * masks).sum(axis=(1, 2), keepdims=True) / masks.sum(axis=(1, 2), keepdims=True)

    def evaluate(state: TrainState) -> dict[str, float]:
        return {"inside_psnr_db": decibels(np.asarray(paint(state.ema, frames, masks))),
                "mean_colour_psnr_db": decibels(mean)}

    return evaluate


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on --photos and write the part."""
    config, run = DEFAULTS, pathlib.Path(arguments.run)
    pack = load_pack(arguments.pack, parts=("face_detector", "face_mesh"))
    data = open_mouths(pack, [pathlib.Path(folder) for folder in arguments.photos], run / "mouths.npz", config,
                       seed=arguments.seed)
    key, net_key, critic_key = jax.random.split(jax.random.key(arguments.seed), 3)
    frame = jnp.zeros((1, config.height, config.width, 3))
    weights = initialise(MouthNet(config), net_key, frame, frame[..., :1])
    critic = initialise(MouthCritic(), critic_key, frame, frame[..., :1])
    state = loop.new_state(key, weights, OPTIMISER, extra={
        "critic": critic, "critic_optimiser": OPTIMISER.init(critic)})
    step = make_step(config, peak=arguments.rate, critic_weight=arguments.critic, critic_from=arguments.critic_from)
    result = loop.run(run, state, step, steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart,
                      batch_fn=lambda step: data.batch(arguments.seed, step, arguments.batch),
                      batch_size=arguments.batch, evaluate=evaluator(data, config), name=PART,
                      description={"config": to_dict(config), "batch": arguments.batch, "seed": arguments.seed,
                                   "rate": arguments.rate, "critic": arguments.critic})
    if result.outcome != "interrupted":
        update_part(arguments.pack, PART, result.state.ema, config=config, record=command.record(
            result, arguments, module=PART, mouths=len(data.frames)))
    return result


def parser() -> Parser:
    result = command.parser_of(PART, module="pie_jax.training.mouth", description=__doc__, steps=4000, batch=16,
                               rate=1e-3)
    result.add_argument("--photos", required=True, nargs="+", metavar="FOLDER", help="photographs of faces")
    result.add_argument("--critic", type=float, default=0.02, help="weight of the critic (default: %(default)s)")
    result.add_argument("--critic-from", type=float, default=0.4, metavar="SHARE",
                        help="share of the run after which the critic is asked (default: %(default)s)")
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
