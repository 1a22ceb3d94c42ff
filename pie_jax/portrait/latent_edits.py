"""Edits by the generator alone: asked parameters through the rigs, one control after the other, then one synthesis."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from pie_jax.arrays import Absent
from pie_jax.config import CONTROLS, GeneratorConfig
from pie_jax.errors import NumericsError, PackError, UsageError, choose
from pie_jax.face3d.morphable import FaceParams, with_control
from pie_jax.pack import Pack
from pie_jax.portrait.calibration import FEEDBACK_ROUNDS, apply_rig, solve_edit
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.request import names_of, target_params
from pie_jax.portrait.synthesis import synthesise


def edit_latent(pack: Pack, embedding: Embedding, *, order: Sequence[str] = CONTROLS, invert_response: bool = True,
                corrections: int = FEEDBACK_ROUNDS, **request) -> tuple[np.ndarray, FaceParams | Absent]:
    """The edited code [L, D] and the FaceParams asked for. Arguments and errors as in `edit_portrait`."""
    check_pack(pack, embedding)
    if corrections < 0:
        raise UsageError(f"corrections: expected 0 or more, got {corrections}")
    target, asked = target_params(pack, embedding.params, **request)
    order = tuple(choose("order", control, CONTROLS) for control in names_of(order))
    order = tuple(control for control in order if control in asked)
    pack.require(*(f"rignet_{control}" for control in order))
    w_plus = np.asarray(embedding.w_plus)[None]
    source, wanted = batched(embedding.params), batched(target)
    if order and invert_response:
        w_plus = solve_edit(pack, w_plus, source, wanted, order=order, corrections=corrections)
    elif order:
        for control in order:
            step = with_control(source, wanted, control)
            w_plus, source = apply_rig(pack, w_plus, source, step, control=control), step
    return _finite(np.asarray(w_plus, np.float32)[0], "the edited code", " or ".join(
        f"rignet_{control}" for control in order) or "the embedding"), target


def generated_edit(pack: Pack, embedding: Embedding, **request) -> np.ndarray:
    """The picture of the edited code, [R, R, 3] float32 in 0..1. Arguments and errors as in `edit_latent`."""
    w_plus, _ = edit_latent(pack, embedding, **request)
    image = np.asarray(synthesise(pack, w_plus[None]), np.float32)[0]
    return _finite(image, "the edited picture", "the generator").clip(0.0, 1.0)


def _finite(array: np.ndarray, what: str, by: str) -> np.ndarray:
    if not np.isfinite(array).all():
        raise NumericsError(f"{what} is not finite, by {by}; ask for less, or make that part again")
    return array


def check_pack(pack: Pack, embedding: Embedding) -> None:
    """PackError unless `embedding` was made with this very pack's generator size and content."""
    if pack.configs.generator is None:
        pack.require("generator")
    generator: GeneratorConfig | Absent = pack.configs.generator
    if tuple(embedding.w_plus.shape) != (generator.num_layers, generator.w_dim):
        raise PackError(f"the embedding was made with the pack {embedding.pack_name!r} "
                        f"({list(embedding.w_plus.shape)} codes), this is {pack.name!r} ({generator.num_layers} x "
                        f"{generator.w_dim}); name the right one with --pack")
    if embedding.pack_hash != pack.hash:
        raise PackError(f"the embedding was made with another state of the pack {embedding.pack_name!r} "
                        f"({embedding.pack_hash[:12]}, this is {pack.hash[:12]}); embed the photo again, or name the "
                        "right one with --pack")


def batched(params: FaceParams | Absent) -> FaceParams | Absent:
    """FaceParams [n] as [1, n]."""
    return None if params is None else jax.tree.map(lambda a: np.asarray(a)[None], params)
