"""A batch in parts that take their steps one after the other: working memory is that of a part, whatever the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.optimise.state import State, plain_keys, with_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class MicroBatches:
    """The inputs of a batch in parts: the first part's are of the first rows of the state, and so on.

    All parts have as many portraits, and share one program. A portrait's result is that of a batch of the part's size.
    """

    parts: tuple[Any, ...]

    def states(self, state: State) -> list[State]:
        """The state [B, ...] in as many pieces. ValueError: B is no multiple of their number."""
        rows, count = state.latent.shape[0], len(self.parts)
        if rows % count:
            raise ValueError(f"state: expected a multiple of {count} portraits, got {rows}")
        each, plain = rows // count, plain_keys(state)
        return [with_keys(jax.tree.map(lambda x, i=i: _placed(x[i * each:(i + 1) * each], x), plain))
                for i in range(count)]

    def run(self, state: State, step: Callable[[State, Any], tuple[State, dict[str, Array]]]
            ) -> tuple[State, dict[str, jax.Array]]:
        """`step` of every part, joined: the state [B, ...] and the trace [chunk, B]."""
        states, traces = zip(*map(step, self.states(state), self.parts), strict=True)
        rows = map(plain_keys, (state, *states))
        joined = with_keys(jax.tree.map(lambda like, *rows: _placed(jnp.concatenate(rows), like), *rows))
        return joined, {name: jnp.concatenate([trace[name] for trace in traces], axis=1) for name in traces[0]}


def _placed(x: jax.Array, like: jax.Array) -> jax.Array:
    """x where `like` is: shared out over as many devices."""
    return jax.device_put(x, like.sharding) if len(like.sharding.device_set) > 1 else x
