"""What a pack is in memory: configs, weights, morphable model, pool of v, manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax

from pie_jax.arrays import Absent, Weights
from pie_jax.config import (
    CameraConfig,
    DFRConfig,
    EnergyConfig,
    GeneratorConfig,
    LandmarkConfig,
    RegressorConfig,
    RigNetConfig,
    VGGConfig,
)
from pie_jax.errors import PackError
from pie_jax.face3d.morphable import MorphableModel
from pie_jax.pack.parts import PARTS, is_network
from pie_jax.pack.pool import Pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackConfigs:
    """The description of every network of a pack (None: not there), its camera and its energy defaults."""

    generator: GeneratorConfig | Absent = None
    regressor: RegressorConfig | Absent = None
    landmarks: LandmarkConfig | Absent = None
    perceptual: VGGConfig | Absent = None
    recognition: VGGConfig | Absent = None
    rignets: tuple[RigNetConfig, ...] = ()
    dfr: DFRConfig | Absent = None
    others: tuple[tuple[str, Any], ...] = ()  # (part, config) of parts that have no field of their own
    camera: CameraConfig = CameraConfig()
    energy: EnergyConfig = EnergyConfig()

    def rignet(self, control: str) -> RigNetConfig | Absent:
        """The rig of `control`, or None."""
        return next((c for c in self.rignets if c.control == control), None)

    def of(self, part: str) -> Any:
        """The config of a network part ("rignet_pose" included), or None."""
        if part.startswith("rignet_"):
            return self.rignet(part.removeprefix("rignet_"))
        return getattr(self, part) if part in _FIELDS else dict(self.others).get(part)

    def with_part(self, part: str, config: Any) -> PackConfigs:
        """These configs with the one of a network part replaced."""
        if part in _FIELDS:
            return dataclasses.replace(self, **{part: config})
        if not part.startswith("rignet_"):
            rest = tuple(pair for pair in self.others if pair[0] != part)
            return dataclasses.replace(self, others=tuple(sorted((*rest, (part, config)), key=lambda pair: pair[0])))
        control = part.removeprefix("rignet_")
        if config.control != control:
            raise ValueError(f"config: expected a rig for {control!r}, got one for {config.control!r}")
        rest = tuple(c for c in self.rignets if c.control != control)
        return dataclasses.replace(self, rignets=tuple(sorted((*rest, config), key=lambda c: c.control)))


_FIELDS = {field.name for field in dataclasses.fields(PackConfigs)} - {"rignets", "others", "camera", "energy"}


class Manifest(dict):
    """manifest.json as a dict that hashes by value, so a Pack may carry it as static data; not to be changed."""

    def __hash__(self):
        if not hasattr(self, "_hash"):  # every call of a compiled function asks for it
            self._hash = hash(json.dumps(self, sort_keys=True))
        return self._hash


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Pack:
    """A loaded pack. A pytree: weights, morphable model and pool are its arrays, the rest is static."""

    weights: dict[str, Weights]
    morphable: MorphableModel | Absent = None
    pool: Pool | Absent = None
    configs: PackConfigs = dataclasses.field(default=PackConfigs(), metadata={"static": True})
    manifest: Manifest = dataclasses.field(default_factory=Manifest, metadata={"static": True})

    @property
    def name(self) -> str:
        return self.manifest.get("name", "unnamed")

    @property
    def hash(self) -> str:
        """`pack_hash` of the manifest: what a result must be stored with."""
        return pack_hash(self.manifest)

    @property
    def has_encoder(self) -> bool:
        """`has_encoder` of the manifest; of a pack that no manifest describes, whether there is one."""
        return has_encoder(self.manifest) if self.manifest.get("parts") else "encoder" in self.weights

    def require(self, *parts: str) -> None:
        """PackError naming the first of `parts` that the pack lacks."""
        for part in parts:
            there = part in self.weights if is_network(part) else getattr(self, part) is not None
            if not there:
                raise PackError(f"{self.manifest.get('name', 'pack')}: the part {part!r} is missing; "
                                f"train or convert it into the pack first ({PARTS[part].command})")


def has_encoder(manifest: Mapping) -> bool:
    """Whether a pack has an encoder of its very generator: what that of another guesses means nothing here."""
    parts, record = manifest.get("parts", {}), manifest.get("training", {}).get("encoder", {})
    return "encoder" in parts and record.get("generator") == parts.get("generator", {}).get("sha256")


def own_psnr_db(manifest: Mapping) -> float | None:
    """How near a pack's generator comes to its own held-out people; None where the pack records no such figure."""
    return manifest.get("training", {}).get("generator", {}).get("held_out", {}).get("psnr_db")


def pack_hash(manifest: Mapping) -> str:
    """SHA-256 over (part, hash) of every part of a manifest that a code depends on, sorted by part."""
    parts = {name: entry for name, entry in manifest.get("parts", {}).items()
             if name not in PARTS or PARTS[name].in_hash}
    return hashlib.sha256("".join(f"{k} {parts[k]['sha256']}\n" for k in sorted(parts)).encode()).hexdigest()
