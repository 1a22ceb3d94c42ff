"""Convolutions that are timed in both of their forms, the direct one and the one that `bounds.Bounds` may put there."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.bounds import Bounds, Range
from pie_jax.nn.layers.convolution import conv
from pie_jax.nn.layers.fused_upsample import fused_up_conv
from pie_jax.nn.layers.resampling import phase_kernels, up_conv
from pie_jax.nn.layers.winograd import SIDE, convolve
from pie_jax.runtime import threads

FORMS = ("winograd", "fused_upsample")  # fields of Bounds
_PASSES = 2
_TURNS, _BUDGET = (3, 8), 0.2  # the fewest and most turns of a pass; seconds after which no turn begins beyond them
_SHORT = 0.004  # seconds that a program is repeated for in a turn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """One 3x3 convolution of x [B, H, W, I], of the kind that a field of Bounds decides on."""

    form: str  # one of FORMS
    shape: tuple[int, int, int, int]  # of x
    features: int  # O

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def range_in(self, bounds: Bounds) -> Range:
        """The sizes of x for which bounds put the other form in the place of the direct one."""
        if self.form == "winograd":
            return bounds.winograd_range(min(self.shape[3], self.features))
        return bounds.fused_range(self.features)


class Times(NamedTuple):
    """Seconds of the shortest run of a probe in each form, in each of several passes."""

    direct: tuple[float, ...]
    other: tuple[float, ...]


def time_probes(probes: Sequence[Probe]) -> dict[Probe, Times]:
    """The times of each probe, on the device that `configure` chose.

    In a pass all of them run in turns, so that a load which comes and goes meets both forms, and each finds the caches
    as another left them. A turn repeats what is short.
    """
    calls = [call for probe in probes for call in _calls(probe)]
    types = [jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), shapes, is_leaf=_is_shape)
             for _, shapes in calls]
    with ThreadPoolExecutor(max(1, min(threads(), len(calls)))) as pool:
        programs = list(pool.map(lambda call, given: jax.jit(call[0]).lower(*given).compile(), calls, types))
    arrays = [jax.device_put(jax.tree.map(lambda a: np.ones(a.shape, a.dtype), given)) for given in types]
    for program, given in zip(programs, arrays, strict=True):  # the first run of a program takes its memory
        jax.block_until_ready(program(*given))
    passes = [_shortest_of_all(programs, arrays) for _ in range(_PASSES)]
    both = list(zip(*passes, strict=True))  # of each program the shortest run in each pass
    return {probe: Times(both[2 * i], both[2 * i + 1]) for i, probe in enumerate(probes)}


def _shortest_of_all(programs: Sequence[Callable], arrays: Sequence[tuple]) -> list[float]:
    shortest, began = [math.inf] * len(programs), time.perf_counter()
    for turn in range(_TURNS[1]):
        if turn >= _TURNS[0] and time.perf_counter() - began > _BUDGET:
            break
        for i, (program, given) in enumerate(zip(programs, arrays, strict=True)):
            shortest[i] = min(shortest[i], _shortest(program, given))
    return shortest


def _shortest(program: Callable, arrays: tuple) -> float:
    shortest, first = math.inf, time.perf_counter()
    while True:
        start = time.perf_counter()
        jax.block_until_ready(program(*arrays))
        now = time.perf_counter()
        shortest = min(shortest, now - start)
        if now - first > _SHORT:
            return shortest


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) for n in value)


def _calls(probe: Probe) -> list[tuple[Callable, tuple]]:
    """The direct and the other form, each as a function and the shapes of its arrays, float32."""
    inputs, features = probe.shape[3], probe.features
    weight = (3, 3, inputs, features)
    if probe.form == "winograd":
        direct, kernels = _conv, (weight, (3, 3, features, inputs))
        other, other_kernels = convolve, ((SIDE * SIDE, inputs, features),)
    else:
        phases = jax.eval_shape(phase_kernels, jax.ShapeDtypeStruct(weight, jnp.float32))
        direct, kernels = _up_conv, (weight, jax.tree.map(lambda a: a.shape, phases))
        fused = (SIDE * SIDE, inputs, 4 * features), (SIDE * SIDE, 4 * features, inputs)
        other, other_kernels = fused_up_conv, (weight, fused)
    return [(_layer(form), (probe.shape, (1, 1, 1, inputs), (1, 1, 1, features), *given))
            for form, given in ((direct, kernels), (other, other_kernels))]


def _layer(convolution: Callable) -> Callable:
    """A convolution between the products and sums of a layer, into which XLA fuses what stands beside them."""
    def layer(x, before, after, *kernels):
        y = convolution(x * before, *kernels) * after + after
        return jnp.maximum(y, 0.2 * y)

    return layer


def _conv(x, weight, adjoint):
    return conv(x, weight, adjoint=adjoint)


def _up_conv(x, weight, kernels):
    return up_conv(x, weight, kernels=kernels)
