"""Files: what is written is never half there, and photos that nobody vouches for are read safely. No JAX here."""

from pie_jax.io.atomic import replace_file, replacing
from pie_jax.io.images import encode_png, is_picture, load_photo, load_portrait, save_picture, save_png
from pie_jax.io.json_file import read_json, write_json
from pie_jax.io.npz import read_npz, write_npz
from pie_jax.io.text import cause_of, shown

__all__ = [
    "cause_of",
    "encode_png",
    "is_picture",
    "load_photo",
    "load_portrait",
    "read_json",
    "read_npz",
    "replace_file",
    "replacing",
    "save_picture",
    "save_png",
    "shown",
    "write_json",
    "write_npz",
]
