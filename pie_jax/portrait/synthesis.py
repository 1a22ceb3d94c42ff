"""A pack by its name, and what its generator makes of codes."""

from __future__ import annotations

import os

import jax

from pie_jax.arrays import Array
from pie_jax.pack import Pack, inference, load_pack
from pie_jax.programs import kept


def as_pack(pack: Pack | str | os.PathLike) -> Pack:
    """The Pack itself, or the one loaded from a folder or name."""
    return pack if isinstance(pack, Pack) else load_pack(pack)


@kept(level=3)
def synthesise(pack: Pack, w_plus: Array) -> jax.Array:
    """w_plus [B, L, D] -> portraits [B, H, W, 3], about 0..1."""
    return inference.synthesise(pack.configs.generator, pack.weights["generator"], w_plus)
