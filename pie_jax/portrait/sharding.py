"""A batch of portraits over several devices: each has its share of the photos and all weights, nothing is exchanged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pie_jax.arrays import Array, Device
from pie_jax.energy import Inputs, PortraitEnergy

_AXIS = "portraits"


def portrait_mesh(devices: Sequence[Device]) -> Mesh:
    """The devices in a row, along which a batch is shared out. ValueError: none."""
    if not devices:
        raise ValueError("devices: expected at least one")
    return jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=list(devices))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """The arrays of a pytree whole on every device; those that are there already are not copied."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def shard_batch(mesh: Mesh, tree: Any) -> Any:
    """The arrays [B, ...] of a pytree with B / devices rows on each."""
    return jax.device_put(tree, NamedSharding(mesh, P(_AXIS)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardedEnergy:
    """The energy of a batch that is `shard_batch`: every device computes its own portraits, and waits for no other."""

    energy: PortraitEnergy
    mesh: Mesh

    @property
    def lazy_terms(self) -> tuple[str, ...]:
        """See `PortraitEnergy`."""
        return self.energy.lazy_terms

    def without_lazy_terms(self) -> ShardedEnergy:
        """See `PortraitEnergy`."""
        return dataclasses.replace(self, energy=self.energy.without_lazy_terms())

    def __call__(self, inputs: Inputs, latent: Array, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As the energy itself; latent, keys and `inputs.target` lead with B, all else is `replicate`."""
        whole, rows = jax.tree.map(lambda _: P(), inputs), jax.tree.map(lambda _: P(_AXIS), inputs.target)
        specs = dataclasses.replace(whole, target=rows)
        # check_vma: the rasterizer's loops start from constants, which it would want declared as varying
        over_devices = jax.shard_map(self.energy, mesh=self.mesh, in_specs=(specs, P(_AXIS), P(_AXIS)),
                                     out_specs=P(_AXIS), check_vma=False)
        return over_devices(inputs, latent, keys)
