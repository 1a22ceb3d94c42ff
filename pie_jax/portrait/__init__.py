"""The verbs: `embed_portraits` and `edit_portrait`, and the `Embedding` between them."""

import importlib
import typing

from pie_jax.portrait.checkpoint import Checkpoint
from pie_jax.portrait.edits import ReachWarning, edit_portrait, render_params
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.latent_edits import edit_latent
from pie_jax.portrait.photo_edits import PhotoEditor, edit_photo
from pie_jax.portrait.synthesis import synthesise

if typing.TYPE_CHECKING:
    from pie_jax.portrait.inversion import EmbedProgress, embed_portraits

__all__ = [
    "Checkpoint",
    "EmbedProgress",
    "Embedding",
    "PhotoEditor",
    "ReachWarning",
    "edit_latent",
    "edit_photo",
    "edit_portrait",
    "embed_portraits",
    "render_params",
    "synthesise",
]


def __getattr__(name):  # edits must not wait for the search, its energy and its optimisers
    if name in ("EmbedProgress", "embed_portraits"):
        return getattr(importlib.import_module("pie_jax.portrait.inversion"), name)
    raise AttributeError(f"module 'pie_jax.portrait' has no attribute {name!r}")
