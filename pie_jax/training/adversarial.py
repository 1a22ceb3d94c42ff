"""Adversarial training of StyleGAN2: non-saturating logistic loss, lazy R1, style mixing (arXiv 1912.04958, section 2).

Real images are the renders of a `family_data` folder, framed photographs of `training.photographs`, or any folder of
portraits. From few of them the discriminator learns each by heart: what it sees is then augmented, the more the surer
it is of them (`data.adaptive`), and its scores of pictures that are held out tell how far it has gone. Both networks
live in one `TrainState`: the generator (mapping and synthesis) in `weights`, the discriminator in `extra`, so that one
checkpoint holds all and one moving average, the generator's, is what the pack gets.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array, Weights
from pie_jax.config import GeneratorConfig, to_dict
from pie_jax.errors import InputError, UsageError
from pie_jax.nn.layers import apply, initialise
from pie_jax.nn.stylegan2 import Discriminator, Mapping, Synthesis, to_w_plus
from pie_jax.training.core import command, loop
from pie_jax.training.core.loop import TrainState, apply_gradients, step_key
from pie_jax.training.data.adaptive import adapt, augment

R1_INTERVAL = 16  # the penalty is taken every 16th step, 16 times as strong
W_MEAN_DECAY = 0.998
WARM_UP = 1500  # steps, of a generator that learns photographs
CERTAINTY_DECAY = 0.97  # of the running mean of the signs of real scores
BETAS = (0.0, 0.99)  # Adam's


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The knobs of `adversarial_step`."""

    rate: float = 2e-3
    r1: float = 0.1
    mixing: float = 0.5  # share of codes of two styles
    # steps in which the generator's rate rises from 0, by the square: a new discriminator would undo a start
    warm_up: int = 0
    mapping_rate: float = 1.0  # of the mapping network, in rates
    augment_target: float = 0.0  # certainty that the augmentation is steered to; 0: none
    augment_images: float = 100_000.0  # after so many images its probability can have gone from 0 to 1
    precision: str = "float32"  # or "bfloat16": of the convolutions


def mixed_codes(key: Array, w: Array, other: Array, *, num_layers: int, share: float) -> jax.Array:
    """w, other [B, D] -> w_plus [B, L, D]: in `share` of the rows, layers from a random crossover on are `other`'s."""
    cross_key, use_key = jax.random.split(key)
    batch = w.shape[0]
    cross = jax.random.randint(cross_key, (batch, 1, 1), 1, num_layers)
    cross = jnp.where(jax.random.bernoulli(use_key, share, (batch, 1, 1)), cross, num_layers)
    layer = jnp.arange(num_layers).reshape(1, num_layers, 1)
    return jnp.where(layer < cross, to_w_plus(w, num_layers), to_w_plus(other, num_layers))


def optimisers(knobs: AdversarialConfig) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """The generator's, which moves the mapping network by its own rate, and the discriminator's."""
    adam = optax.scale_by_adam(b1=BETAS[0], b2=BETAS[1])
    slower = optax.masked(optax.scale(knobs.mapping_rate), {"mapping": True, "synthesis": False})
    return optax.chain(adam, slower), adam


@functools.lru_cache(maxsize=4)
def adversarial_step(config: GeneratorConfig, knobs: AdversarialConfig, *, with_penalty: bool) -> Callable:
    """The step of `loop.run`, with the penalty of the discriminator's slope or without.

    batch {"image" uint8 [B, R, R, 3]}; terms loss (generator's), critic, r1, real, fake, and, of the augmentation,
    certainty and probability.
    """
    dtype = jnp.dtype(knobs.precision)
    mapping, synthesis, critic = Mapping(config), Synthesis(config, dtype), Discriminator(config, dtype=dtype)
    optimiser, critic_optimiser = optimisers(knobs)

    def images(weights, key, batch: int):
        z_key, other_key, mix_key, noise_key = jax.random.split(key, 4)
        z = jnp.concatenate([jax.random.normal(k, (batch, config.z_dim)) for k in (z_key, other_key)])
        w, other = jnp.split(apply(mapping, weights["mapping"], z), 2)
        w_plus = mixed_codes(mix_key, w, other, num_layers=config.num_layers, share=knobs.mixing)
        image = apply(synthesis, weights["synthesis"], w_plus, noise_key=noise_key)
        return jax.lax.optimization_barrier(image), jax.lax.stop_gradient(jnp.mean(w, axis=0))

    def step(state: TrainState, batch: dict[str, Array]):
        real = batch["image"].astype(jnp.float32) / 127.5 - 1.0
        count, probability = real.shape[0], state.extra["augment"]
        generator_key, flip_key, *seen_keys = jax.random.split(step_key(state), 5)
        mirrored = jax.random.bernoulli(flip_key, 0.5, (count, 1, 1, 1)) if mirror_real(batch) else False
        real = jnp.where(mirrored, real[:, :, ::-1], real)
        score = lambda weights, x: apply(critic, weights, x)  # noqa: E731
        seen = (lambda key, x: augment(key, x, probability)) if knobs.augment_target > 0 else (lambda key, x: x)

        def generator_loss(weights):
            fake, w_mean = images(weights, generator_key, count)
            scores = score(state.extra["critic"], seen(seen_keys[0], fake))
            return jnp.mean(jax.nn.softplus(-scores)), (fake, w_mean)

        (loss, (fake, w_mean)), gradients = jax.value_and_grad(generator_loss, has_aux=True)(state.weights)
        fake = seen(seen_keys[1], jax.lax.stop_gradient(fake))
        real = seen(seen_keys[2], real)

        def critic_loss(weights):
            on_real, on_fake = score(weights, real), score(weights, fake)
            value = jnp.mean(jax.nn.softplus(on_fake)) + jnp.mean(jax.nn.softplus(-on_real))
            return value, (on_real, jnp.mean(on_fake))

        def penalty(weights):
            slope = jax.grad(lambda x: jnp.sum(score(weights, x)))(real)
            return jnp.mean(jnp.sum(jnp.square(slope), axis=(1, 2, 3)))

        critic_slope = jax.value_and_grad(critic_loss, has_aux=True)
        (value, (on_real, on_fake)), critic_gradients = critic_slope(state.extra["critic"])

        size = jnp.zeros(())
        if with_penalty:
            size, slopes = jax.value_and_grad(penalty)(state.extra["critic"])
            factor = 0.5 * knobs.r1 * R1_INTERVAL
            critic_gradients = jax.tree.map(lambda g, s: g + factor * s, critic_gradients, slopes)
        updates, critic_state = critic_optimiser.update(critic_gradients, state.extra["critic_optimiser"])
        certainty = state.extra["certainty"]
        certainty = certainty + (1.0 - CERTAINTY_DECAY) * (jnp.mean(jnp.sign(on_real)) - certainty)
        extra = {"critic": jax.tree.map(lambda w, d: w - knobs.rate * d, state.extra["critic"], updates),
                 "critic_optimiser": critic_state, "certainty": certainty,
                 "w_mean": W_MEAN_DECAY * state.extra["w_mean"] + (1.0 - W_MEAN_DECAY) * w_mean,
                 "augment": adapt(probability, certainty, target=knobs.augment_target, images=knobs.augment_images,
                                  batch=count) if knobs.augment_target > 0 else probability}
        ready = jnp.square(jnp.minimum((state.step + 1.0) / max(knobs.warm_up, 1), 1.0))
        state = apply_gradients(state, gradients, optimiser=optimiser, learning_rate=knobs.rate * ready,
                                ema_decay=0.999, extra=extra)
        return state, {"loss": loss, "critic": value, "r1": size, "real": jnp.mean(on_real), "fake": on_fake,
                       "certainty": certainty, "augment": extra["augment"]}

    return step


def mirror_real(batch: dict[str, Array]) -> bool:
    """Photos are mirrored at random; renders are not, because their light and pose have a side that z knows."""
    return "mirror" in batch


def new_state(key: Array, config: GeneratorConfig, knobs: AdversarialConfig, mapping: Weights, synthesis: Weights, *,
              w_mean: Array) -> TrainState:
    """The state before the first step: a generator of these weights and a new discriminator."""
    critic_key, run_key = jax.random.split(key)
    blank = jnp.zeros((4, config.resolution, config.resolution, 3))
    critic = jax.jit(lambda key: initialise(Discriminator(config), key, blank))(critic_key)
    optimiser, critic_optimiser = optimisers(knobs)
    return loop.new_state(run_key, {"mapping": mapping, "synthesis": synthesis}, optimiser, extra={
        "critic": critic, "critic_optimiser": critic_optimiser.init(critic), "w_mean": w_mean,
        "certainty": jnp.zeros(()), "augment": jnp.zeros(())})


def open_photos(folder: pathlib.Path, *, resolution: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Portraits [N, R, R, 3] uint8 of a folder to train on, those held out [M, R, R, 3], and what tells their set.

    A folder of `training.photographs` has its own split; of any other folder of pictures, framed as they are to be,
    nothing is held out.
    """
    from pie_jax.io import is_picture, load_portrait
    from pie_jax.training.data.photographs import SPLIT, Photographs

    if (folder / SPLIT).is_file():
        data = Photographs.open(folder, resolution=resolution)
        return data.training, data.images[data.held_out], data.sha256
    paths = sorted(path for path in folder.iterdir() if is_picture(path)) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder}: holds no JPEG, PNG or WebP images; give a folder of portraits with --photos")
    portraits = (np.asarray(load_portrait(path, resolution=resolution, notice=lambda text: None)) for path in paths)
    images = np.stack([(portrait * 255 + 0.5).astype(np.uint8) for portrait in portraits])
    return images, images[:0], f"{len(images)} portraits"


def photo_source(images: np.ndarray, *, batch: int, seed: int) -> Callable[[int], dict[str, np.ndarray]]:
    """step -> {"image" uint8, "mirror"}: random ones of portraits [N, R, R, 3] uint8."""
    def make(step: int):
        rng = np.random.default_rng([seed, step])
        return {"image": images[rng.integers(0, len(images), batch)], "mirror": np.zeros((0,), np.uint8)}

    return make


def _warm_up(arguments: argparse.Namespace) -> int:
    if arguments.warm_up is not None:
        return arguments.warm_up
    return WARM_UP if arguments.photos is not None else 0


def train_adversarial(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on --photos or --data; starts from the generator of the pack, or of --start, where there is one."""
    from pie_jax.pack import update_part
    from pie_jax.runtime import configure
    from pie_jax.training.data.family_data import FamilyData
    from pie_jax.training.generator_start import batch_source, initial_weights, pack_config, start_pack
    from pie_jax.training.photograph_report import Report

    configure()
    pack = start_pack(arguments)
    config = pack_config(arguments, pack)
    report = None
    if arguments.photos is not None:
        images, held_out, told = open_photos(pathlib.Path(arguments.photos), resolution=config.resolution)
        batches = photo_source(images, batch=arguments.batch, seed=arguments.seed)
        report = Report.open(pathlib.Path(arguments.run), config, images, held_out, judges=arguments.judges)
    else:
        if not (pathlib.Path(arguments.data) / "count.json").is_file():
            raise UsageError(f"{arguments.data}: holds no rendered pairs; give --photos FOLDER, or render some with "
                             "python -m pie_jax.training.family_data")
        pairs = batch_source(FamilyData.open(pathlib.Path(arguments.data)), resolution=config.resolution,
                             batch=arguments.batch, seed=arguments.seed)
        batches, told = (lambda step: {"image": pairs(step)["image"]}), str(arguments.data)
    init_key, state_key = jax.random.split(jax.random.key(arguments.seed))
    mapping, synthesis, origin = initial_weights(init_key, config, pack)
    target = arguments.augment if arguments.augment is not None else 0.6 if arguments.photos is not None else 0.0
    r1 = arguments.r1 if arguments.r1 is not None else 0.0002 * config.resolution**2 / arguments.batch
    knobs = AdversarialConfig(
        rate=arguments.learning_rate, r1=r1, mixing=arguments.mixing, augment_target=target,
        augment_images=arguments.augment_images, precision=arguments.precision,
        warm_up=_warm_up(arguments),
        mapping_rate=0.1 if config.mapping_lr_multiplier == 1.0 else 1.0)  # a fitted one has no multiplier of its own
    old = pack.weights.get("generator") if pack is not None else None
    w_mean = jnp.zeros(config.w_dim) if old is None else jnp.asarray(old["w_mean"])
    state = new_state(state_key, config, knobs, mapping, synthesis, w_mean=w_mean)
    usual, penalised = (adversarial_step(config, knobs, with_penalty=one) for one in (False, True))
    result = loop.run(arguments.run, state, usual, occasional=(R1_INTERVAL, penalised), steps=arguments.steps,
                      minutes=arguments.minutes, batch_fn=batches, batch_size=arguments.batch,
                      restart=arguments.restart, name="generator (adversarial)", checkpoint_seconds=120.0,
                      log_seconds=60.0, evaluate=report, evaluate_seconds=60.0 * arguments.evaluate_minutes,
                      description={"config": to_dict(config), "knobs": dataclasses.asdict(knobs), "data": told,
                                   "batch": arguments.batch, "seed": arguments.seed})
    if result.outcome != "interrupted":
        weights = {**result.state.ema, "w_mean": result.state.extra["w_mean"]}
        record = command.record(result, arguments, module="generator", start=origin,
                                images_seen=result.steps * arguments.batch)
        update_part(arguments.pack, "generator", weights, config=config, record=record)
    return result
