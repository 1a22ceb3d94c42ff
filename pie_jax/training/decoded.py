"""Auto-decoding: a code for every photograph and the synthesis network that paints it, learned together.

The start of an adversarial stage: it costs a third of an adversarial step, cannot collapse, and knows every
photograph's pose and light before a discriminator is asked (generative latent optimisation, arXiv 1707.05776). The loss
compares pixels at three scales, their differences, and perceptual features. Each photograph and its mirror image have
codes of their own. In the end the mapping network is set to the Gaussian of all codes, so that z ~ N(0, I) gives codes
such as were learned.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array, Weights
from pie_jax.config import GeneratorConfig, to_dict
from pie_jax.errors import UsageError
from pie_jax.io import save_png
from pie_jax.nn.layers import apply, to_w_plus
from pie_jax.nn.stylegan2 import Synthesis
from pie_jax.pack import Pack, load_pack, update_part
from pie_jax.pack.inference import perceptual_features
from pie_jax.training.core import command, loop
from pie_jax.training.core.loop import TrainState
from pie_jax.training.supervised import clipped_adam, code_directions, reconstruction_loss

SPAN = 96  # numbers of a code
SPREAD = 4.0  # of w, along each direction of a code
PRIOR = 1e-3  # weight of the codes' mean square
CODE_RATE = 10.0  # of the codes, in rates of the network
_SHOWN = 16


def codes_to_w(codes: Array, w_mean: Array, directions: Array) -> jax.Array:
    """codes [B, SPAN] -> w [B, D] about w_mean [D], along the orthonormal columns of directions [D, SPAN]."""
    return w_mean[None] + SPREAD * codes @ directions.T


def decoded_step(config: GeneratorConfig, judges: Pack | None, optimiser: optax.GradientTransformation, *, peak: float,
                 perceptual: float) -> Callable:
    """The step of `loop.run`: weights {"synthesis", "codes" [2N, SPAN]}; batch {"row" int32, "image" uint8}; frozen
    {"w_mean", "directions", "perceptual"}. Terms: loss, value, gradient, perceptual, prior."""
    synthesis = Synthesis(config)

    def step(state: TrainState, batch: dict[str, Array], frozen: dict[str, Array]):
        target = batch["image"].astype(jnp.float32) / 127.5 - 1.0
        blank = jnp.zeros((*target.shape[:3], 1))

        def loss(weights):
            codes = weights["codes"][batch["row"]]
            w_plus = to_w_plus(codes_to_w(codes, frozen["w_mean"], frozen["directions"]), config.num_layers)
            image = jax.lax.optimization_barrier(apply(synthesis, weights["synthesis"], w_plus))
            found = reconstruction_loss(image, target, blank, region=0.0, pair=0.0)
            terms = {"value": found["value"], "gradient": found["gradient"], "perceptual": jnp.zeros(()),
                     "prior": PRIOR * jnp.mean(jnp.square(codes))}
            if judges is not None:
                ours, theirs = (perceptual_features(judges.configs, {"perceptual": frozen["perceptual"]},
                                                    x * 0.5 + 0.5) for x in (image, target))
                terms["perceptual"] = perceptual * sum(jnp.mean(jnp.abs(ours[name] - theirs[name])) for name in ours)
            total = sum(terms.values())
            return total, {"loss": total} | terms

        gradients, terms = jax.grad(loss, has_aux=True)(state.weights)
        rate = loop.cosine(state.fraction, peak=peak, flat=0.5, warm_up=0.005)
        return loop.apply_gradients(state, gradients, optimiser=optimiser, learning_rate=rate, ema_decay=0.998), terms

    return step


def decoded_source(images: np.ndarray, *, batch: int, seed: int) -> Callable[[int], dict[str, np.ndarray]]:
    """step -> {"row", "image"}: rows below N are the portraits [N, R, R, 3] uint8 themselves, the others mirrored."""
    count = len(images)

    def make(step: int):
        rows = np.random.default_rng([seed, step]).integers(0, 2 * count, batch)
        picked = images[rows % count]
        return {"row": rows.astype(np.int32), "image": np.where((rows < count)[:, None, None, None], picked,
                                                                 picked[:, :, ::-1])}

    return make


def can_hold_codes(config: GeneratorConfig) -> bool:
    """Whether `gaussian_mapping` knows a mapping of that form."""
    return config.mapping_layers == 2 and config.mapping_linear_output and config.w_dim >= 2 * SPAN


def gaussian_mapping(config: GeneratorConfig, codes: Array, w_mean: Array) -> tuple[Weights, jax.Array]:
    """Mapping weights by which z ~ N(0, I) has the mean and covariance of codes [N, SPAN], and the mean w [D] of them.

    Two layers, the second linear: the first holds +-(z's first SPAN numbers), so that the difference of its leaky ramps
    is linear. ValueError when the config is not of that form.
    """
    if not can_hold_codes(config):
        raise ValueError("config: a mapping of codes has 2 layers, a linear output and w_dim >= 192")
    codes = np.asarray(codes, np.float64)
    middle = codes.mean(axis=0)
    spread, axes = np.linalg.eigh(np.cov(codes, rowvar=False))
    root = axes * np.sqrt(np.maximum(spread, 0.0))  # codes - middle = z root^T
    directions = SPREAD * np.asarray(code_directions(dim=config.w_dim, span=SPAN), np.float64)
    linear = root.T @ directions / (1.2 * np.sqrt(2.0))  # sqrt2 (ramp(x) - ramp(-x)) = 1.2 sqrt2 x
    lr = config.mapping_lr_multiplier
    first = np.zeros((config.z_dim, config.w_dim))
    first[:SPAN, :SPAN], first[:SPAN, SPAN:2 * SPAN] = np.eye(SPAN), -np.eye(SPAN)
    second = np.zeros((config.w_dim, config.w_dim))
    second[:SPAN], second[SPAN:2 * SPAN] = linear, -linear
    bias = np.asarray(w_mean, np.float64) + middle @ directions
    scale = {"fc0": config.z_dim**0.5 / lr, "fc1": config.w_dim**0.5 / lr}
    made = {"fc0": {"weight": first * scale["fc0"], "bias": np.zeros(config.w_dim)},
            "fc1": {"weight": second * scale["fc1"], "bias": bias / lr}}
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), made), jnp.asarray(bias, jnp.float32)


def train_decoded(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on --photos and write the generator."""
    from pie_jax.training.adversarial import open_photos
    from pie_jax.training.generator_start import initial_weights, pack_config, start_pack
    from pie_jax.training.photograph_report import grid

    if arguments.photos is None:
        raise UsageError("--stage decoded: pass --photos FOLDER, framed by python -m pie_jax.training.photographs")
    pack = start_pack(arguments)
    config = pack_config(arguments, pack)
    if not can_hold_codes(config):
        raise UsageError("--stage decoded: the generator that it starts from has a mapping that cannot be set to codes "
                         f"({config.mapping_layers} layers, w_dim {config.w_dim}); pass another --pack and --start")
    images, held_out, told = open_photos(pathlib.Path(arguments.photos), resolution=config.resolution)
    mapping, synthesis, origin = initial_weights(jax.random.key(arguments.seed), config, pack)
    old = pack.weights.get("generator") if pack is not None else None
    w_mean = jnp.zeros(config.w_dim) if old is None else jnp.asarray(old["w_mean"])
    judges = load_pack(arguments.judges, parts=("perceptual",))
    judges = judges if "perceptual" in judges.weights else None
    directions = code_directions(dim=config.w_dim, span=SPAN).T  # made once, not in each step
    frozen = {"w_mean": w_mean, "directions": directions,
              "perceptual": {} if judges is None else judges.weights["perceptual"]}
    faster = optax.masked(optax.scale(CODE_RATE), {"codes": True, "synthesis": False})
    optimiser = optax.chain(clipped_adam(), faster)
    weights = {"synthesis": synthesis, "codes": jnp.zeros((2 * len(images), SPAN))}
    state = loop.new_state(jax.random.key(arguments.seed + 1), weights, optimiser)
    paint = jax.jit(lambda weights, codes: apply(Synthesis(config), weights["synthesis"], to_w_plus(
        codes_to_w(codes, w_mean, directions), config.num_layers)))
    run_folder = pathlib.Path(arguments.run)

    def evaluate(state):
        shown = images[:_SHOWN]
        painted = np.asarray(paint(state.ema, state.ema["codes"][:len(shown)])) * 127.5 + 127.5
        drawn = np.random.default_rng(0).multivariate_normal(
            np.asarray(state.ema["codes"]).mean(axis=0), np.cov(np.asarray(state.ema["codes"]), rowvar=False),
            size=_SHOWN)
        random = np.asarray(paint(state.ema, drawn.astype(np.float32))) * 127.5 + 127.5
        rows = [shown, *(np.clip(np.round(x), 0, 255).astype(np.uint8) for x in (painted, random))]
        save_png(run_folder / "decoded.png", np.concatenate([grid(row, columns=_SHOWN) for row in rows]))
        error = np.mean(np.square((painted - shown) / 255.0), axis=(1, 2, 3))
        return {"psnr_of_training_db": float(np.mean(-10 * np.log10(error)))}

    result = loop.run(run_folder, state, decoded_step(config, judges, optimiser, peak=arguments.learning_rate,
                                                      perceptual=arguments.perceptual),
                      steps=arguments.steps, minutes=arguments.minutes, frozen=frozen, batch_size=arguments.batch,
                      batch_fn=decoded_source(images, batch=arguments.batch, seed=arguments.seed),
                      restart=arguments.restart, evaluate=evaluate, evaluate_seconds=60 * arguments.evaluate_minutes,
                      name="generator (decoded)", checkpoint_seconds=120.0,
                      description={"config": to_dict(config), "data": told, "batch": arguments.batch,
                                   "seed": arguments.seed, "perceptual": arguments.perceptual})
    if result.outcome != "interrupted":
        mapping, middle = gaussian_mapping(config, result.state.ema["codes"], w_mean)
        update_part(arguments.pack, "generator",
                    {"mapping": mapping, "synthesis": result.state.ema["synthesis"], "w_mean": middle}, config=config,
                    record=command.record(result, arguments, module="generator", start=origin, photographs=len(images),
                                          images_seen=result.steps * arguments.batch))
    return result
