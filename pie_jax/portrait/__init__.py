"""The verbs: `embed_portraits` and `edit_portrait`, and the `Embedding` between them."""

from pie_jax.portrait.checkpoint import Checkpoint
from pie_jax.portrait.edits import ReachWarning, edit_portrait, render_params
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.inversion import EmbedProgress, embed_portraits
from pie_jax.portrait.latent_edits import edit_latent
from pie_jax.portrait.photo_edits import PhotoEditor, edit_photo
from pie_jax.portrait.synthesis import synthesise

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
