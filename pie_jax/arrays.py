"""Array words and the only validation helpers of the package.

Axis letters: B batch, S samples of v, H W image, C channels, L style layers, D latent width,
V vertices, T triangles, K landmarks, N basis components, P control parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # floor 0 imports no JAX: `--help` must not wait for it
    import jax

Array: TypeAlias = "jax.Array | Any"  # Any: numpy arrays, tracers, what Linen's `apply` returns
Weights: TypeAlias = dict[str, Any]  # nested dict of arrays: the frozen parameters of one network
Device: TypeAlias = Any  # a jax.Device, whose type checkers know nothing of
Absent: TypeAlias = Any  # None where a pack lacks the part; callers `Pack.require` it first instead of asking each time


def check_shape(name: str, array: Array, expected: tuple[int | None, ...]) -> None:
    """Raise ValueError unless `array.shape` ends with `expected` (None matches any size)."""
    shape = tuple(array.shape)
    tail = shape[len(shape) - len(expected):] if len(shape) >= len(expected) else None
    if tail is None or any(e is not None and e != s for e, s in zip(expected, tail)):
        want = ", ".join("*" if e is None else str(e) for e in expected)
        raise ValueError(f"{name}: expected shape [..., {want}], got {list(shape)}")
