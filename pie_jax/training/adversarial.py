"""Adversarial training of StyleGAN2: non-saturating logistic loss, lazy R1, style mixing (arXiv 1912.04958, section 2).

Real images are the renders of a `family_data` folder, or any folder of photos. Both networks live in one
`TrainState`: the generator (mapping and synthesis) in `weights`, the discriminator in `extra`, so that one checkpoint
holds all and one moving average, the generator's, is what the pack gets.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array
from pie_jax.config import GeneratorConfig, to_dict
from pie_jax.errors import InputError, UsageError
from pie_jax.nn.layers import apply
from pie_jax.nn.stylegan2 import Discriminator, Mapping, Synthesis, to_w_plus
from pie_jax.training.core import command, loop
from pie_jax.training.core.loop import TrainState, apply_gradients, step_key

R1_INTERVAL = 16  # the penalty is taken every 16th step, 16 times as strong
W_MEAN_DECAY = 0.998


def mixed_codes(key: Array, w: Array, other: Array, *, num_layers: int, share: float) -> jax.Array:
    """w, other [B, D] -> w_plus [B, L, D]: in `share` of the rows, layers from a random crossover on are `other`'s."""
    cross_key, use_key = jax.random.split(key)
    batch = w.shape[0]
    cross = jax.random.randint(cross_key, (batch, 1, 1), 1, num_layers)
    cross = jnp.where(jax.random.bernoulli(use_key, share, (batch, 1, 1)), cross, num_layers)
    layer = jnp.arange(num_layers).reshape(1, num_layers, 1)
    return jnp.where(layer < cross, to_w_plus(w, num_layers), to_w_plus(other, num_layers))


def adversarial_step(config: GeneratorConfig, optimiser: optax.GradientTransformation,
                     critic_optimiser: optax.GradientTransformation, *, rate: float, r1: float,
                     mixing: float) -> Callable:
    """The step of `loop.run`: batch {"image" uint8 [B, R, R, 3]}; terms loss (generator's), critic, r1, real, fake."""
    mapping, synthesis, critic = Mapping(config), Synthesis(config), Discriminator(config)

    def images(weights, key, batch: int):
        z_key, other_key, mix_key, noise_key = jax.random.split(key, 4)
        z = jnp.concatenate([jax.random.normal(k, (batch, config.z_dim)) for k in (z_key, other_key)])
        w, other = jnp.split(apply(mapping, weights["mapping"], z), 2)
        w_plus = mixed_codes(mix_key, w, other, num_layers=config.num_layers, share=mixing)
        image = apply(synthesis, weights["synthesis"], w_plus, noise_key=noise_key)
        return jax.lax.optimization_barrier(image), jax.lax.stop_gradient(jnp.mean(w, axis=0))

    def step(state: TrainState, batch: dict[str, Array]):
        real = batch["image"].astype(jnp.float32) / 127.5 - 1.0
        count = real.shape[0]
        generator_key, critic_key, flip_key = jax.random.split(step_key(state), 3)
        mirrored = jax.random.bernoulli(flip_key, 0.5, (count, 1, 1, 1)) if mirror_real(batch) else False
        real = jnp.where(mirrored, real[:, :, ::-1], real)
        score = lambda weights, x: apply(critic, weights, x)  # noqa: E731

        def generator_loss(weights):
            fake, w_mean = images(weights, generator_key, count)
            return jnp.mean(jax.nn.softplus(-score(state.extra["critic"], fake))), w_mean

        (loss, w_mean), gradients = jax.value_and_grad(generator_loss, has_aux=True)(state.weights)
        fake, _ = images(state.weights, critic_key, count)
        fake = jax.lax.stop_gradient(fake)

        def critic_loss(weights):
            on_real, on_fake = score(weights, real), score(weights, fake)
            value = jnp.mean(jax.nn.softplus(on_fake)) + jnp.mean(jax.nn.softplus(-on_real))
            return value, (jnp.mean(on_real), jnp.mean(on_fake))

        def penalty(weights):
            slope = jax.grad(lambda x: jnp.sum(score(weights, x)))(real)
            return jnp.mean(jnp.sum(jnp.square(slope), axis=(1, 2, 3)))

        critic_slope = jax.value_and_grad(critic_loss, has_aux=True)
        (value, (on_real, on_fake)), critic_gradients = critic_slope(state.extra["critic"])

        def with_penalty(gradients):
            size, slopes = jax.value_and_grad(penalty)(state.extra["critic"])
            factor = 0.5 * r1 * R1_INTERVAL
            return jax.tree.map(lambda g, s: g + factor * s, gradients, slopes), size

        critic_gradients, size = jax.lax.cond(
            state.step % R1_INTERVAL == 0, with_penalty, lambda g: (g, jnp.zeros(())), critic_gradients)
        updates, critic_state = critic_optimiser.update(critic_gradients, state.extra["critic_optimiser"])
        extra = {"critic": jax.tree.map(lambda w, d: w - rate * d, state.extra["critic"], updates),
                 "critic_optimiser": critic_state,
                 "w_mean": W_MEAN_DECAY * state.extra["w_mean"] + (1.0 - W_MEAN_DECAY) * w_mean}
        state = apply_gradients(state, gradients, optimiser=optimiser, learning_rate=rate, ema_decay=0.999, extra=extra)
        return state, {"loss": loss, "critic": value, "r1": size, "real": on_real, "fake": on_fake}

    return step


def mirror_real(batch: dict[str, Array]) -> bool:
    """Photos are mirrored at random; renders are not, because their light and pose have a side that z knows."""
    return "mirror" in batch


def photo_source(folder: pathlib.Path, *, resolution: int, batch: int,
                 seed: int) -> Callable[[int], dict[str, np.ndarray]]:
    """step -> {"image" uint8, "mirror"}: random photos of a folder, read once at `resolution`."""
    from pie_jax.io import is_picture, load_portrait

    paths = sorted(path for path in folder.iterdir() if is_picture(path))
    if not paths:
        raise InputError(f"{folder}: holds no JPEG, PNG or WebP images; give a folder of portraits with --photos")
    portraits = (np.asarray(load_portrait(path, resolution=resolution)) for path in paths)
    images = np.stack([(portrait * 255 + 0.5).astype(np.uint8) for portrait in portraits])

    def make(step: int):
        rng = np.random.default_rng([seed, step])
        return {"image": images[rng.integers(0, len(images), batch)], "mirror": np.zeros((0,), np.uint8)}

    return make


def train_adversarial(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on --photos or --data; starts from the pack's generator where there is one of this size."""
    from pie_jax.pack import load_pack, update_part
    from pie_jax.runtime import configure
    from pie_jax.training.data.family_data import FamilyData
    from pie_jax.training.generator_start import batch_source, initial_weights, pack_config

    configure()
    pack_file = pathlib.Path(arguments.pack) / "manifest.json"
    pack = load_pack(arguments.pack, parts=("generator",)) if pack_file.is_file() else None
    config = pack_config(arguments, pack)
    if arguments.photos is not None:
        batches = photo_source(pathlib.Path(arguments.photos), resolution=config.resolution, batch=arguments.batch,
                               seed=arguments.seed)
    else:
        if not (pathlib.Path(arguments.data) / "count.json").is_file():
            raise UsageError(f"{arguments.data}: holds no rendered pairs; give --photos FOLDER, or render some with "
                             "python -m pie_jax.training.family_data")
        pairs = batch_source(FamilyData.open(pathlib.Path(arguments.data)), resolution=config.resolution,
                             batch=arguments.batch, seed=arguments.seed)
        batches = lambda step: {"image": pairs(step)["image"]}  # noqa: E731
    key = jax.random.key(arguments.seed)
    init_key, critic_key, run_key = jax.random.split(key, 3)
    mapping, synthesis, origin = initial_weights(init_key, config, pack)
    critic = jax.jit(Discriminator(config).init)(
        critic_key, jnp.zeros((arguments.batch, config.resolution, config.resolution, 3)))["params"]
    adam = optax.scale_by_adam(b1=0.0, b2=0.99)
    old = pack.weights.get("generator") if pack is not None else None
    w_mean = jnp.zeros(config.w_dim) if old is None else jnp.asarray(old["w_mean"])
    state = loop.new_state(run_key, {"mapping": mapping, "synthesis": synthesis}, adam,
                           extra={"critic": critic, "critic_optimiser": adam.init(critic), "w_mean": w_mean})
    r1 = arguments.r1 if arguments.r1 is not None else 0.0002 * config.resolution**2 / arguments.batch
    step = adversarial_step(config, adam, adam, rate=arguments.learning_rate, r1=r1, mixing=arguments.mixing)
    result = loop.run(arguments.run, state, step, steps=arguments.steps, minutes=arguments.minutes, batch_fn=batches,
                      batch_size=arguments.batch, restart=arguments.restart, name="generator (adversarial)",
                      description={"config": to_dict(config), "batch": arguments.batch, "seed": arguments.seed,
                                   "r1": r1})
    if result.outcome != "interrupted":
        weights = {**result.state.ema, "w_mean": result.state.extra["w_mean"]}
        record = command.record(result, arguments, module="generator", start=origin,
                             images_seen=result.steps * arguments.batch)
        update_part(arguments.pack, "generator", weights, config=config, record=record)
    return result
