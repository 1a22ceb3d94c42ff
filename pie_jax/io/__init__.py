"""Files: what is written is never half there, and photos that nobody vouches for are read safely. No JAX here."""

from pie_jax.io.atomic import clear_unfinished, replace_file, replacing, reserve_array, reserve_space
from pie_jax.io.images import (
    encode_png,
    is_picture,
    load_photo,
    load_portrait,
    load_with_profile,
    save_picture,
    save_png,
    to_profile,
    to_uint8,
)
from pie_jax.io.json_file import read_json, write_json
from pie_jax.io.locks import locked_folder, take_lock
from pie_jax.io.npz import read_npz, write_npz
from pie_jax.io.text import cause_of, shown

__all__ = [
    "cause_of",
    "clear_unfinished",
    "encode_png",
    "is_picture",
    "load_photo",
    "load_portrait",
    "load_with_profile",
    "locked_folder",
    "read_json",
    "read_npz",
    "replace_file",
    "replacing",
    "reserve_array",
    "reserve_space",
    "save_picture",
    "save_png",
    "shown",
    "take_lock",
    "to_profile",
    "to_uint8",
    "write_json",
    "write_npz",
]
