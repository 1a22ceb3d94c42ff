"""What a rig is trained by: StyleRig's losses and two additions (arXiv 2004.00121, section 5 and equations 2-6).

A batch is B pairs (w, v) of codes; with the siamese swap that is 2B rows source -> target, row 2i going one way and
2i + 1 back. The rig moves the source's control to the target's:

    w_hat = w + RigNet(w, ...);   p_hat = F(w_hat)
    reconstruction   |RigNet(w, p_w) - w|^2                        the source's own control changes nothing
    edit             L_render(I_v, [p_v^rest, p_hat^tau])          w_hat carries v's control
    consistency      L_render(I_w, [p_hat^rest, p_w^tau])          and nothing else of v
    control, rest    the same two in parameters, in deviations of the pool: cheap, so all rows have them   [ours]
    keep             |w_hat - w|^2 in deviations of w: of the edits that do it, the smallest              [ours]
    background     the change of what is around the head, read from w_hat - w by a linear map          [ours]

F is DFR; for the first `generator_rows` rows it is regressor(G(w_hat)), slower and exact [ours]. The first
`render_rows` rows have the render losses. The other rows ask in part for less than the whole target: a random subset of
the parameters of the control, scaled by 0.2 to 1.3, because that is what an edit of one slider is [ours].
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.config import RigNetConfig
from pie_jax.face3d.morphable import CONTROL_FIELDS, VECTOR_SLICES, FaceParams, with_control
from pie_jax.nn.layers import apply
from pie_jax.pack import PackConfigs
from pie_jax.pack.inference import params_from_latent, regress
from pie_jax.training.data import codes
from pie_jax.training.losses import background
from pie_jax.training.losses.face_losses import render_loss

if TYPE_CHECKING:
    from pie_jax.arrays import Array, Weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class RigLossConfig:
    """Weights of the terms and how many rows have the dear ones. A weight of 0 drops its term."""

    reconstruction: float = 1.0
    edit: float = 1.0
    consistency: float = 1.0
    landmark: float = 50.0  # inside the render losses, squared crop widths
    control: float = 2.0
    rest: float = 1.0
    keep: float = 0.005
    background: float = 0.0  # squared grey levels of 0..1
    render_rows: int = 4
    generator_rows: int = 0
    source: str = "regressor"  # whose FaceParams a row starts from: of the image, or "dfr"


def apply_rig(config: RigNetConfig, weights: Weights, w_plus: Array, source: FaceParams,
              target: FaceParams) -> jax.Array:
    """w_plus [B, L, D] moved from `source` to the control of `target` (the other fields of `target` do not matter)."""
    from pie_jax.nn.rignet import RigNet, rig_input

    asked = with_control(source, target, config.control)
    return apply(RigNet(config), weights, w_plus, rig_input(config, source, asked))


def pair_up(rows: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """2B rows -> (source, target) of 2B rows: the first half paired with the second, both ways, interleaved."""
    def both(x, first, second):
        half = x.shape[0] // 2
        parts = (x[:half], x[half:])
        return jnp.stack([parts[first], parts[second]], axis=1).reshape(x.shape)

    return jax.tree.map(lambda x: both(x, 0, 1), rows), jax.tree.map(lambda x: both(x, 1, 0), rows)


def soften(key: jax.Array, source: jax.Array, target: jax.Array, *, first: int) -> jax.Array:
    """Control vectors [B, P] to ask for: the target's before row `first`; after it, half of the rows ask for a part.

    A part: each parameter moves with a probability drawn for the row, the whole scaled by 0.2 to 1.3.
    """
    keys = jax.random.split(key, 4)
    batch = source.shape[0]
    moves = jax.random.uniform(keys[0], source.shape) < jax.random.uniform(keys[1], (batch, 1))
    scale = jax.random.uniform(keys[2], (batch, 1), minval=0.2, maxval=1.3)
    soft = jax.random.bernoulli(keys[3], 0.5, (batch, 1)) & (jnp.arange(batch) >= first)[:, None]
    return jnp.where(soft, source + jnp.where(moves, scale * (target - source), 0.0), target)


def rest_weights(control: str) -> dict[str, float]:
    """How much every field but the control's counts in the term "rest".

    A turning head also shifts in an aligned portrait, so translation counts little under pose.
    """
    weights = {name: 1.0 for name in VECTOR_SLICES if name != CONTROL_FIELDS[control]}
    return weights | ({"translation": 0.1} if control == "pose" else {})


def terms(key: jax.Array, weights: Weights, rows: dict[str, Array], frozen: Weights, *, config: RigNetConfig,
          configs: PackConfigs, losses: RigLossConfig) -> dict:
    """The weighted terms (scalars) of a batch of pairs, "loss" their sum.

    rows: 2B rows of a pool. frozen: {"dfr", "generator", "regressor": weights, "morphable": MorphableModel,
    "std": [257], "w_std": [D]}, and "background" (`background.fit`) where its weight is not 0; generator and
    regressor are read only where generator_rows > 0.
    """
    source_rows, target_rows = pair_up(rows)
    w_plus = codes.w_plus_of(source_rows, num_layers=config.num_layers)

    def theta_of(these, code):
        return params_from_latent(configs, frozen, code) if losses.source == "dfr" else these["params_vector"]

    source = FaceParams.from_vector(theta_of(source_rows, w_plus))
    target = FaceParams.from_vector(theta_of(target_rows, codes.w_plus_of(target_rows, num_layers=config.num_layers)))
    field = CONTROL_FIELDS[config.control]
    render_rows = min(losses.render_rows, w_plus.shape[0])
    asked_control = soften(key, getattr(source, field), getattr(target, field), first=render_rows)
    asked = dataclasses.replace(source, **{field: asked_control})

    w_hat = apply_rig(config, weights, w_plus, source, asked)
    vector = params_from_latent(configs, frozen, w_hat)
    exact = min(losses.generator_rows, w_plus.shape[0])
    if exact > 0:
        portraits = codes.paint(configs, frozen, w_hat[:exact], resolution=codes.synthesis_resolution(configs))
        vector = jnp.concatenate([regress(configs, frozen, portraits), vector[exact:]])
    hat = FaceParams.from_vector(vector)

    found = {}
    unchanged = apply_rig(config, weights, w_plus, source, source)
    scale = jnp.reshape(frozen["w_std"], (1, 1, -1))
    found["reconstruction"] = losses.reconstruction * jnp.mean(jnp.square((unchanged - w_plus) / scale))
    found["keep"] = losses.keep * jnp.mean(jnp.square((w_hat - w_plus) / scale))
    if losses.background > 0:
        kept = background.background_weights(source_rows["landmarks"])
        if config.control == "pose":  # neither where the head was nor where it goes
            kept = kept * background.background_weights(target_rows["landmarks"])
        change = background.background_change(frozen["background"], w_hat - w_plus, kept)
        found["background"] = losses.background * change
    std = FaceParams.from_vector(frozen["std"])
    found["control"] = losses.control * jnp.mean(
        jnp.square((getattr(hat, field) - asked_control) / getattr(std, field)[None, :]))
    rest = rest_weights(config.control)
    found["rest"] = losses.rest / sum(rest.values()) * sum(
        weight * jnp.mean(jnp.square((getattr(hat, name) - getattr(source, name)) / getattr(std, name)[None, :]))
        for name, weight in rest.items())
    if render_rows > 0 and (losses.edit > 0 or losses.consistency > 0):
        def first(tree):
            return jax.tree.map(lambda x: x[:render_rows], tree)

        def rendered(params, these):
            return jnp.mean(render_loss(frozen["morphable"], params, these["images"].astype(jnp.float32) / 255.0,
                                        these["landmarks"], configs.camera, weight_landmark=losses.landmark))

        hat_, source_, target_ = first(hat), first(source), first(target)
        found["edit"] = losses.edit * rendered(with_control(target_, hat_, config.control), first(target_rows))
        found["consistency"] = losses.consistency * rendered(with_control(hat_, source_, config.control),
                                                             first(source_rows))
    return {"loss": sum(found.values())} | found


def response(asked: np.ndarray, got: np.ndarray, std: np.ndarray) -> dict[str, np.ndarray | float]:
    """How an edit answers: changes of a control `asked` and `got` [N, P], deviations `std` [P].

    Per parameter the slope of got on asked through the origin (1: as strong as asked) and their correlation; over all
    of them, each in its deviation, the gain (slope) and the cosine.
    """
    def ratio(a, b):
        return a / np.maximum(b, 1e-12)

    product, square, answer = (asked * got).sum(axis=0), (asked**2).sum(axis=0), (got**2).sum(axis=0)
    a, g = asked / std[None], got / std[None]
    return {"slope": ratio(product, square), "correlation": ratio(product, np.sqrt(square * answer)),
            "gain": float(ratio((a * g).sum(), (a * a).sum())),
            "cosine": float(ratio((a * g).sum(), np.sqrt((a * a).sum() * (g * g).sum())))}
