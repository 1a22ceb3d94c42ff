"""What the regressor reads in portraits, and in what codes give back."""

from __future__ import annotations

from pie_jax.arrays import Array
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import Pack, inference
from pie_jax.portrait.synthesis import synthesise
from pie_jax.programs import kept


@kept()
def read_portraits(pack: Pack, portraits: Array) -> FaceParams:
    """FaceParams [B, n] of portraits [B, H, W, 3] in 0..1."""
    return FaceParams.from_vector(inference.regress(pack.configs, pack.weights, portraits))


def read_codes(pack: Pack, w_plus: Array) -> FaceParams:
    """FaceParams [B, n] in the synthesis of w_plus [B, L, D]: two programs, which others use as well."""
    return read_portraits(pack, synthesise(pack, w_plus))

