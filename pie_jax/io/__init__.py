"""Files: what is written is never half there, and photos that nobody vouches for are read safely. No JAX here."""

from pie_jax.io.atomic import replace_file, replacing
from pie_jax.io.images import (
    encode_png,
    is_picture,
    load_photo,
    load_portrait,
    load_with_profile,
    save_picture,
    save_png,
    to_profile,
)
from pie_jax.io.json_file import read_json, write_json
from pie_jax.io.npz import read_npz, write_npz
from pie_jax.io.text import cause_of, shown

__all__ = [
    "cause_of",
    "encode_png",
    "is_picture",
    "load_photo",
    "load_portrait",
    "load_with_profile",
    "read_json",
    "read_npz",
    "replace_file",
    "replacing",
    "save_picture",
    "save_png",
    "shown",
    "to_profile",
    "write_json",
    "write_npz",
]
