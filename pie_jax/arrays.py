"""Array words and the only validation helpers of the package.

Axis letters: B batch, S samples of v, H W image, C channels, L style layers, D latent width,
V vertices, T triangles, K landmarks, N basis components, P control parameters.
"""

from __future__ import annotations

from typing import Any

Array = Any  # a jax.Array or numpy.ndarray
Weights = Any  # nested dict of arrays: the frozen parameters of one network


def check_shape(name: str, array: Array, expected: tuple[int | None, ...]) -> None:
    """Raise ValueError unless `array.shape` ends with `expected` (None matches any size)."""
    shape = tuple(array.shape)
    tail = shape[len(shape) - len(expected):] if len(shape) >= len(expected) else None
    if tail is None or any(e is not None and e != s for e, s in zip(expected, tail)):
        want = ", ".join("*" if e is None else str(e) for e in expected)
        raise ValueError(f"{name}: expected shape [..., {want}], got {list(shape)}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"{name}: expected a value in [{low}, {high}], got {value}")
