"""Bounds between the forms of a convolution on a CPU, as data. Imports no JAX.

`runtime.Backend` carries them, so they are part of the key of every program. `committed_bounds` were measured by the
project with one and two threads and are argued for more; `nn.autotune` measures others on the machine at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

ALL = 2**62  # more elements than any array has
AUTOTUNE = ("auto", "always", "never")  # when they are measured


class Range(NamedTuple):
    """Arrays [B, H, W, I] of more than `least` and at most `most` elements, for one class of channels."""

    channels: int
    least: int
    most: int

    def holds(self, size: int) -> bool:
        return self.least < size <= self.most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """For which convolutions of x [B, H, W, I] to O channels a CPU takes another form than the direct one.

    Classes of channels are in ascending order. `winograd`: a class begins at its `channels`, counted as the lesser of
    I and O. `fused_upsample`: a class ends at its `channels`, counted as O. Outside of all classes the form is direct.
    """

    winograd: tuple[Range, ...]
    fused_upsample: tuple[Range, ...]

    def winograd_range(self, channels: int) -> Range:
        """The sizes of x for which Winograd's transforms are taken; an empty range where for none."""
        classes = [each for each in self.winograd if each.channels <= channels]
        return classes[-1] if classes else Range(channels, 0, 0)

    def fused_range(self, features: int) -> Range:
        """The sizes of x for which an up-convolution has its filter in its kernel; an empty range where for none."""
        return next((each for each in self.fused_upsample if features <= each.channels), Range(features, 0, 0))


def committed_bounds(threads: int, *, shares_products: bool) -> Bounds:
    """The bounds without a measurement on this machine.

    More than two threads are treated as two where XLA shares out the products of many small matrices
    (`runtime.SHARES_PRODUCTS`). Elsewhere only direct convolutions gain from more threads, so none is replaced.
    """
    few = (Range(16, 0, ALL),)
    if threads == 1:
        return Bounds(winograd=(Range(32, 0, ALL),), fused_upsample=few)
    if shares_products:
        return Bounds(winograd=(Range(32, 0, 2**20), Range(64, 0, ALL)), fused_upsample=few)
    if threads == 2:
        return Bounds(winograd=(Range(32, 0, 2**20), Range(64, 0, 2**24)), fused_upsample=few)
    return Bounds(winograd=(), fused_upsample=())


def bounds_from(data: Any) -> Bounds | None:
    """`dataclasses.asdict` of Bounds, as JSON gives it back; None for anything else."""
    names = [field.name for field in dataclasses.fields(Bounds)]
    if not isinstance(data, Mapping) or set(data) != set(names):
        return None
    if not all(isinstance(data[name], list) and all(map(_is_range, data[name])) for name in names):
        return None
    found = {name: tuple(Range(*each) for each in data[name]) for name in names}
    return Bounds(**found) if all(list(each) == sorted(each) for each in found.values()) else None


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(n) is int and 0 <= n <= ALL for n in value)
