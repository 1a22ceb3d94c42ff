"""PIE's energy of a portrait (arXiv 2009.09485): five terms, and their weighted sum over a pack."""

from pie_jax.energy.portrait_energy import (
    PARTS,
    Inputs,
    PortraitEnergy,
    Target,
    energy_inputs,
    part_weights,
    portrait_energy,
    prepare_target,
)
from pie_jax.energy.terms import (
    CROP_PX,
    edit_term,
    face_distance,
    identity_term,
    invariance_term,
    recognition_term,
    sample_bilinear,
    synthesis_term,
)

__all__ = [
    "CROP_PX",
    "PARTS",
    "Inputs",
    "PortraitEnergy",
    "Target",
    "edit_term",
    "energy_inputs",
    "face_distance",
    "identity_term",
    "invariance_term",
    "part_weights",
    "portrait_energy",
    "prepare_target",
    "recognition_term",
    "sample_bilinear",
    "synthesis_term",
]
