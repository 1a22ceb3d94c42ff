"""A pack: all that one domain needs - weights, morphable model, pool of v, energy defaults, manifest.

On disk a pack is a folder with `manifest.json` and one folder a part, written by Orbax (v1). The
manifest holds the configs, and for each part its folder, its storage type, the SHA-256 of its arrays
and the record of the command that trained it. A part's folder is named after its hash and is never
changed: a new version is written beside the old one, then the manifest is replaced in one rename, so
a reader or a crash never meets half a pack, and two training commands may update two parts at once.
A part that is not there is a missing key of `Pack.weights`, not an error.
"""

from pie_jax.pack.parts import PARTS, Part, is_network
from pie_jax.pack.pool import Pool
from pie_jax.pack.schema import check_weights, schema
from pie_jax.pack.store import (
    array_hash,
    configs_of,
    find_pack,
    load_pack,
    manifest_hash,
    read_manifest,
    save_pack,
    update_configs,
    update_part,
)
from pie_jax.pack.types import Manifest, Pack, PackConfigs, has_encoder, own_psnr_db, pack_hash

__all__ = [
    "PARTS",
    "Manifest",
    "Pack",
    "Part",
    "PackConfigs",
    "Pool",
    "array_hash",
    "check_weights",
    "configs_of",
    "find_pack",
    "has_encoder",
    "is_network",
    "load_pack",
    "own_psnr_db",
    "pack_hash",
    "manifest_hash",
    "read_manifest",
    "save_pack",
    "schema",
    "update_configs",
    "update_part",
]
