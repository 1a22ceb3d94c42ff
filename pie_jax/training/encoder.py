"""Train the encoder, a portrait to w_plus, on what the pack's own generator paints.

    python -m pie_jax.training.encoder --pack DIR --minutes 60
    python -m pie_jax.training.encoder --pack DIR --family runs/family --photos FOLDER

Codes are drawn as the generator's mapping gives them, half of them of two styles, all a little off W, so the code and
the portrait are known. `--family` adds rendered portraits of the demo generator's scenes, whose code is the mapping's;
of `--photos` only the portrait is known. Each round (ReStyle, arXiv 2104.02699) is judged by the code, and by the
portrait that it gives: pixels at three sizes, and the pack's perceptual features. Codes alone (`--pixels 0 --perceptual
0 --rounds 1`) are learned several times as fast, which is how the demo pack's encoder came about.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.config import EncoderConfig, to_dict
from pie_jax.errors import UsageError
from pie_jax.imaging import psnr, resize_area
from pie_jax.nn.layers import apply, initialise, to_w_plus
from pie_jax.pack import Pack, PackConfigs, load_pack, update_part
from pie_jax.pack.inference import encode, encoder_view, map_z, perceptual_features, synthesise
from pie_jax.portrait.axes import principal_axes, random_codes
from pie_jax.training.core import command, loop
from pie_jax.training.data.augment import degrade
from pie_jax.training.data.family_data import FamilyData
from pie_jax.training.data.photo_folder import holds_out, read_photos
from pie_jax.training.supervised import clipped_adam

if TYPE_CHECKING:
    from pie_jax.arrays import Array, Weights
    from pie_jax.training.core.loop import TrainState

PART = "encoder"
FLAGS = ("resolution", "stage_sizes", "width", "hidden", "common_only", "rounds")
LOSS_FLAGS = ("code", "pixels", "perceptual", "closeness", "mixed", "spread")
OPTIMISER = clipped_adam()
SCALES = 3
_DEGRADED = 0.2  # strength of what is done to portraits before they are seen
_LEFT_OUT = 1e-4  # of the variance of codes, at most
_HELD_OUT = 64  # codes of the generator, and the last rows of the family


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderLossConfig:
    """Weights of the terms, and how codes are drawn."""

    code: float = 1.0  # squared error, of the variance of codes
    pixels: float = 8.0  # absolute error in 0..1
    perceptual: float = 0.2
    closeness: float = 0.0  # e4e: of what layers have of their own, squared, in deviations
    mixed: float = 0.5  # share of codes of two styles
    spread: float = 0.15  # how far layers go off, in deviations of codes


def largest_axes(w: np.ndarray) -> np.ndarray:
    """[K, D]: the fewest principal axes of codes w [N, D] that hold all but a ten thousandth of their variance.

    Each is as long as the deviation of the codes along it.
    """
    spread, vectors = (each[..., ::-1] for each in principal_axes(w))
    held = np.cumsum(np.square(spread)) / np.sum(np.square(spread))
    count = 1 + int(np.searchsorted(held, 1.0 - _LEFT_OUT))
    return (vectors[:, :count] * spread[:count]).T.astype(np.float32)


def draw_codes(key: Array, configs: PackConfigs, weights: Weights, count: int, axes: Array,
               losses: EncoderLossConfig) -> jax.Array:
    """w_plus [count, L, D] about the codes of the mapping."""
    config = configs.generator
    z_key, cross_key, mix_key, size_key, noise_key = jax.random.split(key, 5)
    w = map_z(config, weights, jax.random.normal(z_key, (2 * count, config.z_dim)))
    first, second = (to_w_plus(half, config.num_layers) for half in (w[:count], w[count:]))
    cross = jax.random.randint(cross_key, (count, 1, 1), 1, config.num_layers)
    cross = jnp.where(jax.random.uniform(mix_key, cross.shape) < losses.mixed, cross, config.num_layers)
    w_plus = jnp.where(jnp.arange(config.num_layers, dtype=jnp.int32)[None, :, None] < cross, first, second)
    size = losses.spread * jax.random.uniform(size_key, (count, 1, 1))
    return w_plus + (size * jax.random.normal(noise_key, (*w_plus.shape[:2], len(axes)))) @ axes


def portrait_terms(configs: PackConfigs, weights: dict[str, Weights], shown: Array, portraits: Array,
                   losses: EncoderLossConfig) -> dict[str, jax.Array]:
    """Weighted scalars of what a code gives, shown [B, R, R, 3], beside the portraits [B, R, R, 3], both in 0..1."""
    terms = {"pixels": jnp.zeros(())} if losses.pixels else {}
    side = shown.shape[1]
    for scale in range(SCALES if losses.pixels else 0):
        a, b = (resize_area(x, side // 2**scale) for x in (shown, portraits))
        terms["pixels"] += losses.pixels / SCALES * jnp.mean(jnp.abs(a - b))
    if "perceptual" in weights and losses.perceptual:
        both = perceptual_features(configs, weights, jnp.concatenate([shown, portraits]))
        differences = [jnp.mean(jnp.square(x[:len(shown)] - x[len(shown):])) / (jnp.mean(jnp.square(x)) + 1e-6)
                       for x in both.values()]
        terms["perceptual"] = losses.perceptual * jnp.asarray(sum(differences))
    return terms


@functools.lru_cache(maxsize=4)
def make_step(configs: PackConfigs, losses: EncoderLossConfig, *, peak: float, painted: int) -> Callable:
    """The step of `loop.run`: batch {"family"?: {"images" uint8, "z"}, "photos"?: uint8}, all [B, R, R, 3].

    `painted` more portraits are the generator's own. frozen: "generator" and, where the pack has it, "perceptual".
    """
    from pie_jax.nn.encoder import Encoder

    network, config = Encoder(configs.of(PART)), configs.of(PART)
    judged = bool(losses.pixels or losses.perceptual)  # by the portraits that codes give, beside the codes

    def rows_of(key, rows, frozen, axes):
        """portraits [B, R, R, 3], their codes [B, L, D], and the share of a code that is known [B]."""
        paint_key, degrade_key = jax.random.split(key)
        codes = [draw_codes(paint_key, configs, frozen["generator"], painted, axes, losses)] if painted else []
        portraits = [encoder_view(configs, frozen, codes[0])] if painted else []
        known = [jnp.ones(painted)] if painted else []
        if "family" in rows:
            codes.append(to_w_plus(map_z(configs.generator, frozen["generator"], rows["family"]["z"]),
                                   config.num_layers))
            portraits.append(_at(rows["family"]["images"], config.resolution))
            known.append(jnp.ones(len(codes[-1])))
        if "photos" in rows:
            portraits.append(_at(rows["photos"], config.resolution))
            codes.append(jnp.zeros((len(portraits[-1]), config.num_layers, config.w_dim)))
            known.append(jnp.zeros(len(portraits[-1])))
        whole, w_plus, known = (jnp.concatenate(parts) for parts in (portraits, codes, known))
        return jax.lax.stop_gradient((degrade(degrade_key, whole, strength=_DEGRADED), whole, w_plus, known))

    def loss(weights, key, rows, frozen):
        axes = jax.lax.stop_gradient(weights["axes"])
        variance = jnp.sum(jnp.square(axes))
        seen, portraits, truth, known = rows_of(key, rows, frozen, axes)
        mean = to_w_plus(frozen["generator"]["w_mean"][None], config.num_layers)
        w_plus = jnp.broadcast_to(mean, truth.shape)
        shown = jnp.broadcast_to(encoder_view(configs, frozen, mean), seen.shape)
        total, found = 0.0, {}
        for round_ in range(config.rounds):
            w_plus, own = apply(network, weights, seen, *jax.lax.stop_gradient((shown, w_plus)))
            error = jnp.mean(jnp.sum(jnp.square(w_plus - truth), axis=2), axis=1) / variance
            if judged or round_ + 1 < config.rounds:
                shown = encoder_view(configs, frozen, w_plus if judged else jax.lax.stop_gradient(w_plus))
            terms = {"code": losses.code * jnp.mean(known * error),
                     "closeness": losses.closeness * jnp.mean(jnp.square(own)),
                     **(portrait_terms(configs, frozen, shown, portraits, losses) if judged else {})}
            total += sum(terms.values())
            found |= {f"{name}_{round_ + 1}": value for name, value in terms.items()}
        return total, found

    def step(state, rows, frozen):
        (value, found), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.weights, loop.step_key(state), rows, frozen)
        state = loop.apply_gradients(state, gradients, optimiser=OPTIMISER,
                                     learning_rate=loop.cosine(state.fraction, peak=peak, warm_up=0.02, flat=0.3))
        return state, {"loss": value} | found

    return step


def _at(images: Array, resolution: int) -> jax.Array:
    return resize_area(images.astype(jnp.float32) / 255.0, resolution)


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Train and write the part. Needs a generator."""
    pack = load_pack(arguments.pack)
    pack.require("generator")
    generator = pack.configs.generator
    axes = largest_axes(random_codes(pack))
    config = read_fields(arguments, EncoderConfig(num_layers=generator.num_layers, w_dim=generator.w_dim,
                                                  axes=len(axes)), FLAGS)
    config = dataclasses.replace(config, resolution=min(config.resolution, generator.resolution))
    losses = read_fields(arguments, EncoderLossConfig(), LOSS_FLAGS)
    family = FamilyData.open(pathlib.Path(arguments.family)) if arguments.family else None
    photos = None
    if arguments.photos is not None:
        if not (losses.pixels or losses.perceptual):
            raise UsageError("--photos: expected --pixels or --perceptual above 0: nothing else judges a photo")
        photos = read_photos(arguments.photos, resolution=config.resolution, limit=20_000)
    others = (family is not None) + (photos is not None)
    painted = arguments.batch - others * (arguments.batch // 4)
    if painted < 1:
        raise UsageError("--batch: expected at least one portrait of the generator's own")
    if arguments.fine_tune:
        pack.require(PART)
        if dataclasses.replace(pack.configs.of(PART), rounds=config.rounds) != config:
            raise UsageError(f"--fine-tune: the pack's {PART} is {pack.configs.of(PART)}, not {config}")
    configs = pack.configs.with_part(PART, config)
    result = _run(arguments, configs, losses, pack, axes, family, photos, painted)
    if result.outcome != "interrupted":
        update_part(arguments.pack, PART, result.state.ema, config=config,
                    record=command.record(result, arguments, module=PART, losses=to_dict(losses),
                                          generator=pack.manifest["parts"]["generator"]["sha256"],
                                          family=family.count() if family else 0,
                                          photos=len(photos) if photos is not None else 0))
    return result


def _run(arguments, configs: PackConfigs, losses: EncoderLossConfig, pack: Pack, axes: np.ndarray,
         family: FamilyData | None, photos, painted: int) -> loop.RunResult:
    from pie_jax.nn.encoder import Encoder

    config, quarter = configs.of(PART), arguments.batch // 4
    held_out = None
    if arguments.photos is not None and holds_out(arguments.photos):
        held_out = read_photos(arguments.photos, resolution=configs.generator.resolution, limit=_HELD_OUT,
                               held_out=True)
    key, init_key = jax.random.split(jax.random.key(arguments.seed))
    image = jnp.zeros((1, config.resolution, config.resolution, 3))
    weights = initialise(Encoder(config), init_key, image, image, jnp.zeros((1, config.num_layers, config.w_dim)))
    frozen = {name: pack.weights[name] for name in ("generator", "perceptual") if name in pack.weights}
    weights["axes"] = jnp.asarray(axes)
    if arguments.fine_tune:
        weights = jax.tree.map(jnp.asarray, dict(pack.weights[PART]))

    def batch(step):
        rng, found = np.random.default_rng((arguments.seed, step)), {}
        if family is not None:
            index = np.sort(rng.integers(0, 2 * family.count() - _HELD_OUT, quarter))
            found["family"] = {"images": family.images[index], "z": family.z[index]}
        if photos is not None:
            found["photos"] = photos[rng.integers(0, len(photos), quarter)]
        return found

    return loop.run(arguments.run, loop.new_state(key, weights, OPTIMISER),
                    make_step(configs, losses, peak=arguments.rate, painted=painted), frozen=frozen,
                    steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart, batch_fn=batch,
                    batch_size=arguments.batch, name=PART,
                    evaluate=evaluation(configs, losses, frozen, family, held_out),
                    description={"config": to_dict(config), "losses": to_dict(losses), "batch": arguments.batch,
                                 "seed": arguments.seed, "rate": arguments.rate, "family": family is not None,
                                 "photos": arguments.photos, "fine_tune": arguments.fine_tune})


def evaluation(configs: PackConfigs, losses: EncoderLossConfig, frozen: dict[str, Weights],
               family: FamilyData | None, photos: np.ndarray | None) -> Callable[[TrainState], dict[str, Any]]:
    """state -> dB of what the code of the last round gives: of held-out codes, family portraits and photos.

    photos: [N, R, R, 3] uint8 of the generator's resolution.
    """
    def decibels(ema, frozen, portrait):
        w_plus = encode(configs, {**frozen, PART: ema}, portrait[None])
        return psnr(jnp.clip(synthesise(configs.generator, frozen["generator"], w_plus), 0, 1)[0], portrait)

    @jax.jit
    def of_codes(ema, frozen):
        def one(code):
            return decibels(ema, frozen, jnp.clip(synthesise(configs.generator, frozen["generator"], code[None])[0],
                                                  0.0, 1.0))
        codes = draw_codes(jax.random.key(2**31 - 1), configs, frozen["generator"], _HELD_OUT // 4, ema["axes"],
                           losses)
        return jnp.mean(jax.lax.map(one, codes))  # one after the other: a batch at 1024 px needs much memory

    @jax.jit
    def of_portraits(ema, frozen, portraits):
        return jnp.mean(jax.lax.map(lambda portrait: decibels(ema, frozen, portrait), portraits))

    def evaluate(state: TrainState) -> dict[str, Any]:
        found = {"own_db": float(of_codes(state.ema, frozen))}
        if family is not None:
            last = 2 * family.count()
            images = np.asarray(family.images[last - _HELD_OUT:last:4])
            found["family_db"] = float(of_portraits(state.ema, frozen, _at(images, configs.generator.resolution)))
        if photos is not None:
            found["photos_db"] = float(of_portraits(state.ema, frozen, _at(photos, configs.generator.resolution)))
        return found

    return evaluate


def parser() -> Parser:
    result = command.parser_of(PART, module="pie_jax.training.encoder", description=__doc__, steps=40_000, batch=16,
                               rate=1e-3)
    add_fields(result, EncoderConfig(num_layers=1, w_dim=1, axes=1), FLAGS)
    add_fields(result, EncoderLossConfig(), LOSS_FLAGS,
               help={"closeness": "e4e's pull of every layer to the common code"})
    result.add_argument("--family", metavar="DIR", help="folder of training.family_data: rendered portraits as well")
    result.add_argument("--photos", metavar="FOLDER", help="aligned photos as well")
    result.add_argument("--fine-tune", action="store_true", help="begin with the encoder that the pack has")
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
