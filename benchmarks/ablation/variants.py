"""The embeddings that are compared: PIE's energy, parts of it, and its schedule in other orders."""

from __future__ import annotations

import dataclasses

from pie_jax.config import EmbedConfig, EnergyConfig, StageConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to embed. All variants make the same number of steps, with the same constants of the optimiser."""

    name: str
    says: str  # what it is, for the table
    without: tuple[str, ...] = ()  # terms of the energy that are left out
    space: str | None = None  # of every stage; None: as the preset has them, W then W+
    lazy_interval: int | None = None  # of every stage; None: as the preset has it
    detail: float | None = None  # of what readers read, where a portrait is painted for them alone; None: the pack's

    def config(self, energy: EnergyConfig, stages: tuple[StageConfig, ...]) -> EmbedConfig:
        """What to embed with, from the pack's energy and the preset's stages."""
        terms = tuple(term for term in energy.terms if term not in self.without)
        changes = {name: value for name in ("space", "lazy_interval") if (value := getattr(self, name)) is not None}
        stages = tuple(dataclasses.replace(stage, **changes) for stage in stages)
        detail = energy.edit_detail if self.detail is None else self.detail
        return EmbedConfig(energy=dataclasses.replace(energy, terms=terms, edit_detail=detail), stages=stages)


_FACE = ("identity", "edit", "invariance", "recognition")

VARIANTS = (
    Variant(name="full", says="all terms, W then W+ (PIE)"),
    *(Variant(name=f"no_{term}", says=f"without E_{term}", without=(term,)) for term in _FACE),
    Variant(name="w", says="all terms, W only", space="w"),
    Variant(name="w_plus", says="all terms, W+ from the start", space="w_plus"),
    Variant(name="synthesis", says="E_synthesis alone, W then W+", without=_FACE),
    Variant(name="image2stylegan", says="E_synthesis alone, W+ (Image2StyleGAN)", without=_FACE, space="w_plus"),
    Variant(name="lazy", says="all terms but E_synthesis in every second step", lazy_interval=2),
    Variant(name="half_detail", says="W stage and edits painted to half of what is read", detail=0.5),
)
NAMES = tuple(variant.name for variant in VARIANTS)
