"""Supervised warm start of a generator: known scenes, known images.

Loss at three scales: m |e| + m |grad e| + pair * m (e_a - e_b)^2, e the error of an image in [-1, 1], (a, b) an
antithetic pair that differs in one expression, m = 1 + region * (Gaussians on eyes and mouth). Expressions move an
image by a few grey levels where light and yaw move it by tens: without the mask and the pairs the loss pays for the
large factors first and never gets to a blink.

A squared error is least where a change that is only partly right is also too small (a cosine of 0.9 asks for a gain of
0.8): `gain` pays for that bias alone, gain * (<g, d> / <d, d> - 1)^2 with d the pair's true change and g the image's.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array, Weights
from pie_jax.config import GeneratorConfig
from pie_jax.nn.layers import apply, initialise
from pie_jax.nn.stylegan2 import Mapping, Synthesis, to_w_plus
from pie_jax.training.core.loop import TrainState, apply_gradients, cosine

SCALES = 3


def _halve(x: Array) -> jax.Array:
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def gain_error(image: Array, target: Array) -> jax.Array:
    """Mean over pairs of (gain - 1)^2, a scalar; 0 of a pair that shows no change.

    image, target [2N, R, R, 3] in any unit, the same for both; rows 2i, 2i + 1 a pair. The gain is that of
    `losses.response`: <g, d> / <d, d>, over all pixels.
    """
    d, g = (x[0::2] - x[1::2] for x in (target, image))
    power = jnp.sum(jnp.square(d), axis=(1, 2, 3))
    gain = jnp.sum(d * g, axis=(1, 2, 3)) / jnp.maximum(power, 1e-6)
    return jnp.mean(jnp.where(power > 1e-6, jnp.square(gain - 1.0), 0.0))


def reconstruction_loss(image: Array, target: Array, mask: Array, *, region: float = 30.0, pair: float = 8.0,
                        gain: float = 0.0) -> dict[str, Array]:
    """image, target [2N, R, R, 3] in [-1, 1] (rows 2i, 2i + 1 a pair), mask [2N, R, R, 1] in [0, 1] -> scalar terms."""
    error, m = image - target, 1.0 + region * mask
    terms = {"value": 0.0, "gradient": 0.0, "pair": 0.0, "gain": gain * gain_error(image, target)}
    for _ in range(SCALES):
        terms["value"] += jnp.mean(m * jnp.abs(error))
        terms["gradient"] += jnp.mean(m[:, 1:] * jnp.abs(error[:, 1:] - error[:, :-1]))
        terms["gradient"] += jnp.mean(m[:, :, 1:] * jnp.abs(error[:, :, 1:] - error[:, :, :-1]))
        both = jnp.maximum(m[0::2], m[1::2])
        terms["pair"] += pair * jnp.mean(both * jnp.square(error[0::2] - error[1::2]))
        error, m = _halve(error), _halve(m)
    return terms


def mapping_target(z: Array, *, dim: int, span: int = 96) -> jax.Array:
    """z [B, Z] -> the code the mapping is fitted to: the scene's features along fixed orthonormal directions.

    Edits of a scene are then straight lines in W, and the synthesis network starts from codes that mean something.
    """
    from pie_jax.studio.family import FACTORS, code_features, factors_from_z

    features = code_features(factors_from_z(z))
    directions = code_directions(dim=dim, span=span)[: features.shape[-1]]
    return features @ directions * jnp.sqrt(dim / len(FACTORS))


def code_directions(*, dim: int, span: int = 96) -> jax.Array:
    """[span, dim] orthonormal rows: the subspace of W that carries codes (first rows: the scene's features)."""
    q, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(4), (dim, span)))
    return q.T


def fit_mapping(config: GeneratorConfig, *, count: int = 20_000, knots: int = 14) -> tuple[Weights, float]:
    """Mapping weights fitted to `mapping_target` by least squares, and the R^2 on codes it never saw.

    Two layers, the second linear: the first holds `knots` leaky ramps along every factor's direction, which span the
    piecewise linear functions of each factor, so the second is solved for and not trained.
    ValueError when the config is not of that form.
    """
    from pie_jax.studio.family import directions

    rows = directions()
    if config.mapping_layers != 2 or not config.mapping_linear_output or len(rows) * knots > config.w_dim:
        raise ValueError("config: a fitted mapping has 2 layers, a linear output and w_dim >= knots x factors")
    module, lr = Mapping(config), config.mapping_lr_multiplier
    weights = initialise(module, jax.random.key(0), jnp.zeros((1, config.z_dim)))
    first, bias = np.zeros((config.z_dim, config.w_dim), np.float32), np.zeros(config.w_dim, np.float32)
    first[:, : len(rows) * knots] = np.repeat(rows.T, knots, axis=1)
    bias[: len(rows) * knots] = -np.tile(np.linspace(-2.1, 2.1, knots), len(rows))

    def hidden(weights, z):
        identity = {"weight": jnp.eye(config.w_dim) * (config.w_dim**0.5 / lr), "bias": jnp.zeros(config.w_dim)}
        return apply(module, weights | {"fc1": identity}, z)

    @jax.jit
    def fit(weights):
        z, unseen = jax.random.normal(jax.random.key(1), (2, count, config.z_dim))
        design = jnp.concatenate([hidden(weights, z), jnp.ones((count, 1))], axis=1)
        gram = design.T @ design + 1e-3 * count * jnp.eye(design.shape[1]) * 1e-3
        solved = jnp.linalg.solve(gram, design.T @ mapping_target(z, dim=config.w_dim))
        weights = weights | {"fc1": {"weight": solved[:-1] * (config.w_dim**0.5 / lr), "bias": solved[-1] / lr}}
        target = mapping_target(unseen, dim=config.w_dim)
        error = jnp.mean(jnp.square(apply(module, weights, unseen) - target))
        return weights, 1.0 - error / jnp.var(target)

    weights, r2 = fit(weights | {"fc0": {"weight": first * (config.z_dim**0.5 / lr), "bias": bias / lr}})
    return weights, float(r2)


def within_span(synthesis: Weights, *, dim: int) -> Weights:
    """Synthesis weights whose style affines read only the subspace of codes; gradients then stay in it.

    Directions of W that no z reaches would keep their random initial effect for ever, and an inversion would use them.
    """
    directions = code_directions(dim=dim)

    def project(path, leaf):
        if len(path) >= 2 and path[-2].key == "affine" and path[-1].key == "weight":
            return directions.T @ (directions @ leaf)
        return leaf

    return jax.tree_util.tree_map_with_path(project, synthesis)


def clipped_adam() -> optax.GradientTransformation:
    """Adam directions (0.9, 0.99) of gradients whose norm is held below twice its running mean."""
    def init(params):
        return jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)

    def update(updates, state, params=None):
        mean, count = state
        norm = optax.tree.norm(updates)
        limit = jnp.where(count < 20, jnp.inf, 2.0 * mean)
        scale = jnp.minimum(1.0, limit / (norm + 1e-12))
        kept = jnp.minimum(norm, limit)
        mean = jnp.where(count == 0, kept, 0.98 * mean + 0.02 * kept)
        return jax.tree.map(lambda g: g * scale, updates), (mean, count + 1)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_adam(b1=0.9, b2=0.99))


def supervised_step(config: GeneratorConfig, optimiser: optax.GradientTransformation, *, peak: float, region: float,
                    pair: float, gain: float) -> Callable:
    """The step of `loop.run`: batch {"z" [2N, 512], "image" uint8, "mask" uint8}; state.extra["mapping"] is fixed."""
    synthesis, mapping = Synthesis(config), Mapping(config)

    def step(state: TrainState, batch: dict[str, Array]):
        w_plus = to_w_plus(apply(mapping, state.extra["mapping"], batch["z"]), config.num_layers)
        target = batch["image"].astype(jnp.float32) / 127.5 - 1.0
        mask = batch["mask"].astype(jnp.float32) / 255.0

        def loss(weights):
            # XLA:CPU fuses the image's skip sums into each use of it in the loss and computes them over and over.
            image = jax.lax.optimization_barrier(apply(synthesis, weights, w_plus))
            terms = reconstruction_loss(image, target, mask, region=region, pair=pair, gain=gain)
            total = sum(terms.values())
            return total, {"loss": total} | terms

        gradients, terms = jax.grad(loss, has_aux=True)(state.weights)
        rate = cosine(state.fraction, peak=peak, flat=0.3, warm_up=0.005)
        return apply_gradients(state, gradients, optimiser=optimiser, learning_rate=rate, ema_decay=0.998), terms

    return step
