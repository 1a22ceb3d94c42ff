"""Train the recognition network Psi (VGG-Face's architecture, any width) on studio identities.

`python -m pie_jax.training.recognition --studio --pack DIR`: learns who is who in a studio set, in which a person's
portraits share a face and nothing else. Each step shows two views of some people: a view must find its partner among
all views by cosine (supervised contrastive, arXiv 2004.11362), and a linear head must tell the person's identity and
texture coefficients, which gives the first layers something to learn before anyone is recognised. The head is
dropped; what is kept is fc7, the descriptor of PIE's recognition term. Held out: people never trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.config import VGGConfig, to_dict
from pie_jax.errors import UsageError
from pie_jax.face3d.morphable import VECTOR_SLICES
from pie_jax.imaging import face_crop
from pie_jax.nn.layers import initialise
from pie_jax.pack import PackConfigs, update_part
from pie_jax.pack.inference import face_embedding
from pie_jax.training.core import command, loop
from pie_jax.training.data.augment import degrade
from pie_jax.training.data.studio_data import StudioData, add_data_arguments, open_data
from pie_jax.training.losses.standardise import standardise

PART = "recognition"
DEFAULTS = VGGConfig(width=16, resolution=64, layers=(), fc_width=128)
FLAGS = ("width", "fc_width", "resolution")
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.99))
SCALE = 16.0  # of the cosines inside the softmax
FACE = np.r_[VECTOR_SLICES["identity"], VECTOR_SLICES["texture"]]  # what stays the same in all views of a person


def people_batch(data: StudioData, seed: int, step: int, size: int) -> dict[str, np.ndarray]:
    """`size` rows: size / 2 people, two views each."""
    rng = np.random.default_rng((seed, step))
    person = rng.choice(data.training_rows // data.views, size // 2, replace=False)
    views = np.stack([rng.choice(data.views, 2, replace=False) for _ in person])
    return data.rows((person[:, None] * data.views + views).ravel(), fields=("images", "params"))


def make_step(configs: PackConfigs, weights_of_face: np.ndarray, *, peak: float) -> Callable:
    """The step of `loop.run`: weights {"vgg", "head"}, batch {"images" uint8, "params" [B, 257]}, two rows a person."""
    def loss(weights, key, rows):
        mirror_key, degrade_key = jax.random.split(key)
        images = rows["images"].astype(jnp.float32) / 255.0
        mirror = jax.random.bernoulli(mirror_key, 0.5, (images.shape[0], 1, 1, 1))
        images = jnp.where(mirror, images[:, :, ::-1], images)
        codes = face_embedding(configs, {PART: weights["vgg"]}, degrade(degrade_key, images))
        other = 1.0 - jnp.eye(len(codes))
        cosine = SCALE * (codes @ codes.T) - 1e9 * (1.0 - other)
        partner = jnp.arange(len(codes)) ^ 1  # rows 2i and 2i + 1 show one person
        found = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(cosine, partner))
        face = rows["params"][:, FACE]
        told = codes @ weights["head"]["kernel"] + weights["head"]["bias"][None]
        coefficients = jnp.mean(jnp.sum(jnp.square(told - face) * weights_of_face[None], axis=-1))
        rate = jnp.mean((jnp.argmax(cosine, axis=-1) == partner).astype(jnp.float32))
        return found + coefficients, {"contrast": found, "coefficients": coefficients, "right": rate}

    def step(state, rows):
        key = loop.step_key(state)
        (value, found), gradients = jax.value_and_grad(loss, has_aux=True)(state.weights, key, rows)
        rate = loop.cosine(state.fraction, peak=peak, warm_up=0.05)
        return loop.apply_gradients(state, gradients, optimiser=OPTIMISER, learning_rate=rate), {"loss": value} | found

    return step


def shown_weights(faces: np.ndarray) -> np.ndarray:
    """Weight [160] of each coefficient of faces [people, 160]: 1 / variance, the larger ones counting more; sum 1."""
    variance = faces.var(axis=0)
    weight = np.sqrt(variance) / (variance + 1e-6)  # an error of one deviation costs one deviation
    return (weight / np.sum(weight * variance)).astype(np.float32)


def verification(codes: np.ndarray, person: np.ndarray) -> dict[str, float]:
    """Held-out metrics of unit descriptors [N, D] of `person` [N]: "auc" over all pairs, "rank_1" of one view a person.

    auc: how often two portraits of one person are more alike than two of different people. rank_1: the first portrait
    of each person is the gallery, how often the nearest is the right one.
    """
    likeness = codes @ codes.T
    first, second = np.triu_indices(len(codes), 1)
    same = person[first] == person[second]
    scores = likeness[first, second]
    order = np.argsort(np.argsort(scores)) + 1.0
    positives, negatives = int(same.sum()), int((~same).sum())
    auc = (order[same].sum() - positives * (positives + 1) / 2) / max(positives * negatives, 1)
    gallery = np.unique(person, return_index=True)[1]
    probes = np.setdiff1d(np.arange(len(codes)), gallery)
    nearest = person[gallery][np.argmax(likeness[np.ix_(probes, gallery)], axis=1)]
    return {"auc": float(auc), "rank_1": float(np.mean(nearest == person[probes])), "people": float(len(gallery))}


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Train on studio people and write the part."""
    from pie_jax.nn.vgg import VGG

    if not arguments.studio:
        raise UsageError("recognition: only studio portraits say who is who: pass --studio, or convert VGG-Face")
    data = open_data(arguments.data)
    config = read_fields(arguments, DEFAULTS, FLAGS)
    configs = PackConfigs(recognition=config, camera=command.camera_of(arguments))
    people = data.training_rows // data.views
    if arguments.batch % 2 or arguments.batch // 2 > people:
        raise UsageError(f"--batch: expected an even number of at most {2 * people}, got {arguments.batch}")
    key, init_key, head_key = jax.random.split(jax.random.key(arguments.seed), 3)
    faces = data.rows(np.arange(0, data.training_rows, data.views), fields=("params",))["params"][:, FACE]
    weights_of_face = shown_weights(faces)
    vgg = initialise(VGG(config), init_key, jnp.zeros((1, config.resolution, config.resolution, 3)))
    first = jnp.asarray(data.tail(64, fields=("images",))["images"], jnp.float32) / 255.0
    vgg = standardise(config, vgg, face_crop(first, configs.camera, resolution=config.resolution))
    weights = {"vgg": vgg,
               "head": {"kernel": jax.random.normal(head_key, (config.fc_width, len(FACE))),
                        "bias": jnp.asarray(faces.mean(axis=0))}}
    index = np.arange(data.training_rows, min(len(data), data.training_rows + 600))
    tail = data.rows(index, fields=("images", "person"))
    look = jax.jit(lambda weights, images: face_embedding(configs, {PART: weights}, images.astype(jnp.float32) / 255.0))

    def evaluate(state):
        codes = [np.asarray(look(state.ema["vgg"], tail["images"][i:i + 60])) for i in range(0, len(index), 60)]
        return verification(np.concatenate(codes), tail["person"])

    step = make_step(configs, weights_of_face, peak=arguments.rate)
    result = loop.run(arguments.run, loop.new_state(key, weights, OPTIMISER), step,
                      steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart,
                      batch_fn=lambda step: people_batch(data, arguments.seed, step, arguments.batch),
                      batch_size=arguments.batch, evaluate=evaluate, name=PART,
                      description={"config": to_dict(config), "batch": arguments.batch, "seed": arguments.seed,
                                   "rate": arguments.rate})
    if result.outcome != "interrupted":
        update_part(arguments.pack, PART, result.state.ema["vgg"], config=config,
                    record=command.record(result, arguments, module=PART, portraits=len(data), people=people))
    return result


def parser() -> Parser:
    result = command.parser_of(PART, module="pie_jax.training.recognition", description=__doc__, steps=3000,
                               batch=32, rate=1e-3)
    add_data_arguments(result, studio="learn from studio portraits (the only way so far)")
    add_fields(result, DEFAULTS, FLAGS, help={
        "width": "channels of the first layer; VGG-Face has 64",
        "fc_width": "size of the descriptor; VGG-Face has 4096", "resolution": "side of the face crop"})
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
