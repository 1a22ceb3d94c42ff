"""Axes and sizes that the layouts share: transpositions, and resolution and widths from shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pie_jax.errors import PackError

FIR = np.outer([1.0, 3.0, 3.0, 1.0], [1.0, 3.0, 3.0, 1.0]) / 64.0


def hwio(weight: np.ndarray) -> np.ndarray:
    """[O, I, kh, kw] (torch) -> [kh, kw, I, O]."""
    return weight.transpose(2, 3, 1, 0)


def hwio_1(weight: np.ndarray) -> np.ndarray:
    """[1, O, I, kh, kw] (rosinality's modulated convolutions) -> [kh, kw, I, O]."""
    return hwio(weight[0])


def transposed(weight: np.ndarray) -> np.ndarray:
    """[out, in] -> [in, out]."""
    return weight.T


def turned(weight: np.ndarray) -> np.ndarray:
    """[kh, kw, I, O] turned by 180 degrees."""
    return weight[::-1, ::-1]


def plane(array: np.ndarray) -> np.ndarray:
    """[1, 1, R, R] -> [R, R]."""
    return array[0, 0]


def flat(array: np.ndarray) -> np.ndarray:
    """Any shape -> [n]."""
    return array.reshape(-1)


def plus_one(bias: np.ndarray) -> np.ndarray:
    """TensorFlow adds the 1 of a modulation at run time."""
    return bias + np.float32(1.0)


def is_filter(array: np.ndarray) -> bool:
    """Is it the filter outer([1, 3, 3, 1]), up to a scale?"""
    kernel = np.asarray(array, np.float64)
    if kernel.shape == (4,):
        kernel = np.outer(kernel, kernel)
    return kernel.shape == (4, 4) and np.allclose(kernel / max(kernel.sum(), 1e-30), FIR, atol=1e-6)


def is_blur(array: np.ndarray) -> bool:
    """Is it the filter outer([1, 2, 1]) / 16, once or for each channel [C, 1, 3, 3]?"""
    return array.shape[-2:] == (3, 3) and np.allclose(array, np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0]) / 16.0)


def is_zero(array: np.ndarray) -> bool:
    """All zero."""
    return not np.any(array)


def numbers(names: Iterable[str], pattern: str) -> list[int]:
    """The sorted numbers that the group of `pattern` takes among `names`."""
    found = {int(match.group(1)) for name in names if (match := re.fullmatch(pattern, name))}
    return sorted(found)


def check_blocks(sizes: list[int], *, where: Any) -> int:
    """The resolution, when `sizes` is 4, 8, ..., R; PackError."""
    due = [4 * 2**i for i in range(len(sizes))]
    if sizes != due or not 8 <= sizes[-1] <= 1024:
        raise PackError(f"{where}: blocks of {sizes} px; expected 4, 8, ... up to 8..1024 px")
    return sizes[-1]


def channel_fields(widths: Mapping[int, int], *, where: Any) -> dict[str, Any]:
    """channel_base and channel_max of a GeneratorConfig whose channels(N) are `widths`; PackError where none fits."""
    top = max(widths.values())
    for size, width in sorted(widths.items(), reverse=True):
        base = size * width
        if all(min(base // n, top) == w for n, w in widths.items()):
            return {"channel_base": base, "channel_max": top}
    raise PackError(f"{where}: {dict(widths)} channels at each resolution do not halve as min(base / resolution, max); "
                    "such a generator is not supported")


def log2(size: int) -> int:
    """Of a power of two."""
    return int(math.log2(size))


def require(settings: Mapping[str, Any], due: Mapping[str, tuple[Any, ...]], *, where: Any) -> None:
    """PackError naming the first setting that is neither absent nor one of its `due` values."""
    for name, values in due.items():
        if name in settings and not any(_same(settings[name], value) for value in values):
            raise PackError(f"{where}: built with {name} = {settings[name]!r:.60}; supported: "
                            f"{', '.join(map(repr, values))}")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple | np.ndarray) or isinstance(b, list | tuple):
        return np.array_equal(np.asarray(a), np.asarray(b))
    return type(a) is type(b) and a == b or (isinstance(a, int | float | np.generic) and not isinstance(a, bool)
                                             and isinstance(b, int | float) and not isinstance(b, bool) and a == b)
