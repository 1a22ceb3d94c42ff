"""A recognition network that no energy has seen: it judges whether an edited portrait still shows the same person.

`python -m benchmarks.quality.judge --data runs/studio --minutes 10` trains it on studio people and writes `judge.npz`
beside this file. It shares nothing with a pack's own recognition but the idea: a small ResNet, whose last map keeps its
places, in place of VGG; other views, loss and seed. A batch shows several views of each person (other pose, expression,
light, hair, clothes and background), every view must find all of its own, and the farther one of them is the more it
counts. Colours and detail are degraded at random, so that a synthesis is not told from a rendering by its blur.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array, Weights
from pie_jax.cli.command import Parser, add_debug
from pie_jax.config import CameraConfig
from pie_jax.errors import UsageError
from pie_jax.imaging import face_crop
from pie_jax.nn.layers import BatchNorm, Conv, initialise, update_batch_stats
from pie_jax.nn.regressor import ResidualBlock
from pie_jax.nn.vgg import Flat
from pie_jax.training.core import command, loop
from pie_jax.training.data.augment import degrade
from pie_jax.training.data.studio_data import StudioData, add_data_arguments, open_data
from pie_jax.training.recognition import FACE, shown_weights, verification

FILE = pathlib.Path(__file__).with_name("judge.npz")
RESOLUTION = 48  # of the face crop
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.99))
SCALE = 16.0  # of the cosines inside the softmax
HARD = 4.0  # a view that is by 0.25 less alike than another counts e times as much


class Judge(nn.Module):
    """crops_01 [B, 48, 48, 3] -> unit descriptors [B, size]."""

    width: int = 16
    size: int = 64

    @nn.compact
    def __call__(self, crops_01: Array, *, train: bool = False) -> jax.Array:
        x = Conv(self.width, 7, 2, padding=3, name="conv1")(2.0 * crops_01 - 1.0)
        x = jax.nn.relu(BatchNorm(name="bn1")(x, train))
        for stage in range(3):
            for i, stride in enumerate((2, 1)):
                block = ResidualBlock(self.width * 2**stage, stride, bottleneck=False, name=f"layer{stage + 1}_{i}")
                x = block(x, train)
        x = Flat(self.size, name="descriptor")(x)
        return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)


@functools.partial(jax.jit, static_argnames="camera")
def describe(weights: Weights, portraits: Array, camera: CameraConfig) -> jax.Array:
    """Portraits [B, R, R, 3] in 0..1, of any R -> unit descriptors [B, 64]; a cosine of 1 is the same person."""
    return Judge().apply({"params": weights}, face_crop(portraits, camera, resolution=RESOLUTION))


def save(path: pathlib.Path, weights: Weights, facts: dict) -> None:
    """Kernels in half precision, everything else in single; `facts` (JSON-able) say how it was made."""
    flat = jax.tree_util.tree_flatten_with_path(weights)[0]
    arrays = {"/".join(step.key for step in place): np.asarray(leaf, np.float16 if leaf.ndim > 1 else np.float32)
              for place, leaf in flat}
    np.savez_compressed(path, facts=np.array(json.dumps(facts, sort_keys=True)), **arrays)


@functools.cache
def load(path: pathlib.Path = FILE) -> tuple[Weights, dict]:
    """The weights that `save` wrote and its facts; nothing in the file is executed."""
    weights: dict = {}
    with np.load(path, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays["facts"]))
        for name in arrays.files:
            if name != "facts":
                *branches, leaf = name.split("/")
                tree = functools.reduce(lambda inner, branch: inner.setdefault(branch, {}), branches, weights)
                tree[leaf] = jnp.asarray(arrays[name], jnp.float32)
    return weights, facts


def views_batch(data: StudioData, seed: int, step: int, size: int, *, views: int) -> dict[str, np.ndarray]:
    """`size` training rows: size / views people, `views` portraits of each, one after the other."""
    rng = np.random.default_rng((seed, step))
    person = rng.choice(data.training_rows // data.views, size // views, replace=False)
    view = np.stack([rng.choice(data.views, views, replace=False) for _ in person])
    return data.rows((person[:, None] * data.views + view).ravel(), fields=("images", "params", "person"))


def found(codes: Array, person: Array) -> jax.Array:
    """How badly descriptors [B, D] find the others of their person [B]: mean cross entropy, hard ones counting more."""
    cosine = codes @ codes.T
    same = person[:, None] == person[None]
    partner = same & ~jnp.eye(len(codes), dtype=bool)
    others = jax.nn.logsumexp(jnp.where(same, -jnp.inf, SCALE * cosine), axis=1, keepdims=True)
    missed = jnp.logaddexp(others, SCALE * cosine) - SCALE * cosine
    weight = jax.nn.softmax(jnp.where(partner, -HARD * jax.lax.stop_gradient(cosine), -jnp.inf), axis=1)
    return jnp.mean(jnp.sum(weight * missed, axis=1))


def make_step(weights_of_face: np.ndarray, *, peak: float):
    """The step of `loop.run`: weights {"judge", "head"}, batch {"images" uint8 crops, "params", "person"}.

    The head tells identity and texture coefficients from a descriptor, which gives the first layers something to learn
    before anyone is recognised; it is dropped.
    """
    def loss(weights, key, rows):
        mirror_key, degrade_key = jax.random.split(key)
        crops = rows["images"].astype(jnp.float32) / 255.0
        mirror = jax.random.bernoulli(mirror_key, 0.5, (crops.shape[0], 1, 1, 1))
        crops = degrade(degrade_key, jnp.where(mirror, crops[:, :, ::-1], crops))
        codes, sown = Judge().apply({"params": weights["judge"]}, crops, train=True, mutable=["batch_stats"])
        told = SCALE * codes @ weights["head"]["kernel"] + weights["head"]["bias"][None]
        wrong = jnp.square(told - rows["params"][:, FACE]) * weights_of_face[None]
        terms = {"missed": found(codes, rows["person"]), "coefficients": jnp.mean(jnp.sum(wrong, axis=-1))}
        return sum(terms.values()), (terms, sown["batch_stats"])

    def step(state, rows):
        (value, (terms, statistics)), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.weights, loop.step_key(state), rows)
        state = loop.apply_gradients(state, gradients, optimiser=OPTIMISER, ema_decay=0.99,
                                     learning_rate=loop.cosine(state.fraction, peak=peak, warm_up=0.03))
        weights = state.weights | {"judge": update_batch_stats(state.weights["judge"], statistics)}
        return dataclasses.replace(state, weights=weights), {"loss": value} | terms

    return step


def crops_of(data: StudioData, camera: CameraConfig) -> StudioData:
    """The same people as face crops of 48 px, made once."""
    crop = jax.jit(lambda images: jnp.round(face_crop(images.astype(jnp.float32), camera, resolution=RESOLUTION)))
    parts = [np.asarray(crop(data.images[i:i + 256])).astype(np.uint8) for i in range(0, len(data), 256)]
    return dataclasses.replace(data, images=np.concatenate(parts))


def held_out(weights: Weights, data: StudioData) -> dict[str, float]:
    """Verification of people never trained on (the last of the set), and of those from the demo's family alone."""
    index = np.arange(data.training_rows, len(data))
    person = index // data.views
    look = jax.jit(lambda crops: Judge().apply({"params": weights}, crops.astype(jnp.float32) / 255.0))
    codes = np.concatenate([np.asarray(look(data.images[rows])) for rows in np.array_split(index, 8)])
    family = person % 2 == 1
    return verification(codes, person) | {
        f"family_{name}": value for name, value in verification(codes[family], person[family]).items()}


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on the people of --data and write --file."""
    from pie_jax.studio.scene import STUDIO_CAMERA

    if arguments.views < 2 or arguments.batch % arguments.views:
        raise UsageError(f"--batch: expected a multiple of --views, which is 2 or more; got {arguments.batch} and "
                         f"{arguments.views}")
    data = crops_of(open_data(arguments.data), STUDIO_CAMERA)
    faces = data.rows(np.arange(0, data.training_rows, data.views), fields=("params",))["params"][:, FACE]
    key, init_key = jax.random.split(jax.random.key(arguments.seed))
    judge = initialise(Judge(), init_key, jnp.zeros((1, RESOLUTION, RESOLUTION, 3)))
    weights = {"judge": judge, "head": {"kernel": jnp.zeros((Judge.size, len(FACE))),
                                        "bias": jnp.asarray(faces.mean(axis=0))}}
    step = make_step(shown_weights(faces), peak=arguments.rate)
    result = loop.run(
        arguments.run, loop.new_state(key, weights, OPTIMISER), step, steps=arguments.steps, minutes=arguments.minutes,
        restart=arguments.restart, batch_size=arguments.batch, name="judge",
        batch_fn=lambda i: views_batch(data, arguments.seed, i, arguments.batch, views=arguments.views),
        evaluate=lambda state: held_out(state.ema["judge"], data),
        description={"batch": arguments.batch, "views": arguments.views, "seed": arguments.seed})
    if result.outcome != "interrupted":
        facts = {"people": data.training_rows // data.views, "portraits": data.training_rows, "steps": result.steps,
                 "seconds": round(result.seconds), "batch": arguments.batch, "views": arguments.views,
                 "seed": arguments.seed, "held_out": {k: round(v, 4) for k, v in result.figures.items()}}
        save(pathlib.Path(arguments.file), result.state.ema["judge"], facts)
        print(json.dumps(facts))
    return result


def parser() -> argparse.ArgumentParser:
    result = Parser(module="benchmarks.quality.judge", description=__doc__)
    add_data_arguments(result)
    result.add_argument("--run", default="runs/judge", metavar="DIR", help="checkpoint and log (default: %(default)s)")
    result.add_argument("--file", default=str(FILE), help="where the weights go (default: beside this module)")
    result.add_argument("--steps", type=int, default=None, help="stop after this many steps in all")
    result.add_argument("--minutes", type=float, default=None, help="stop after this many minutes in all")
    result.add_argument("--seed", type=int, default=1729)
    result.add_argument("--batch", type=int, default=96, help="portraits a step (default: %(default)s)")
    result.add_argument("--views", type=int, default=4, help="of each person in a batch (default: %(default)s)")
    result.add_argument("--rate", type=float, default=2e-3, help="Adam's peak learning rate (default: %(default)s)")
    result.add_argument("--restart", action="store_true", help="forget the checkpoint in the run folder")
    add_debug(result)
    result.set_defaults(default_steps=1000)
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
