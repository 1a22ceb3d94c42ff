"""Embed one portrait so that its pose, expression and light can be edited with plain numbers (PIE in JAX)."""

import importlib
import typing

__version__ = "0.1.0"

_HOMES = {
    "EmbedConfig": "pie_jax.config",
    "EnergyConfig": "pie_jax.config",
    "StageConfig": "pie_jax.config",
    "PieError": "pie_jax.errors",
    "FaceParams": "pie_jax.face3d.morphable",
    "MorphableModel": "pie_jax.face3d.morphable",
    "Pack": "pie_jax.pack",
    "load_pack": "pie_jax.pack",
    "Embedding": "pie_jax.portrait",
    "edit_photo": "pie_jax.portrait",
    "PhotoEditor": "pie_jax.portrait",
    "edit_portrait": "pie_jax.portrait",
    "embed_portraits": "pie_jax.portrait",
    "load_portrait": "pie_jax.io",
    "FittedPhoto": "pie_jax.photo.fitted",
    "open_photo": "pie_jax.photo.fitted",
    "show_edits": "pie_jax.notebook",
}

__all__ = [
    "__version__",
    "EmbedConfig",
    "EnergyConfig",
    "StageConfig",
    "PieError",
    "FaceParams",
    "MorphableModel",
    "Pack",
    "load_pack",
    "Embedding",
    "PhotoEditor",
    "edit_photo",
    "edit_portrait",
    "embed_portraits",
    "load_portrait",
    "FittedPhoto",
    "open_photo",
    "show_edits",
]

if typing.TYPE_CHECKING:
    from pie_jax.config import EmbedConfig, EnergyConfig, StageConfig
    from pie_jax.errors import PieError
    from pie_jax.face3d.morphable import FaceParams, MorphableModel
    from pie_jax.io import load_portrait
    from pie_jax.notebook import show_edits
    from pie_jax.pack import Pack, load_pack
    from pie_jax.photo.fitted import FittedPhoto, open_photo
    from pie_jax.portrait import Embedding, PhotoEditor, edit_photo, edit_portrait, embed_portraits


def __getattr__(name):  # names are imported when they are first used: `--help` must not wait for JAX
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pie_jax' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
