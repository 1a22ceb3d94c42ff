"""Packs: what is written is what is read, half-written or damaged ones are refused with a reason."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from orbax.checkpoint import v1 as ocp

from pie_jax import pack as packs
from pie_jax import programs
from pie_jax.config import CameraConfig, EnergyConfig, VGGConfig
from pie_jax.errors import PackError, ResourceError
from pie_jax.face3d.morphable import MorphableModel


def morphable():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return MorphableModel(
        mean_shape=normal(20, 3), identity_basis=normal(20, 3, 80), expression_basis=normal(20, 3, 64),
        mean_albedo=normal(20, 3), texture_basis=normal(20, 3, 80), triangles=jnp.zeros((7, 3), jnp.int32),
        landmark_vertices=jnp.arange(66, dtype=jnp.int32), expression_names=tuple(f"e{k}" for k in range(64)))


def pool():
    x = jnp.arange(12) / 12.0
    images = jnp.stack([200 * jnp.outer(x, x) + 10 * k for k in range(5)])[..., None] + jnp.array([[[[0, 5, 9]]]])
    return packs.Pool(images=images.astype(jnp.uint8), params_vector=jnp.ones((5, 257)),
                      landmarks=jnp.full((5, 66, 2), 0.5))


def perceptual(key):
    config = VGGConfig(width=8, resolution=32)
    shapes = packs.schema("perceptual", packs.PackConfigs(perceptual=config))
    leaves, tree = jax.tree.flatten(shapes)
    keys = jax.random.split(key, len(leaves))
    return config, tree.unflatten([jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)])


def test_round_trip_of_parts_static_fields_and_configs(tmp_path):
    folder = tmp_path / "pack"
    packs.update_part(folder, "morphable", morphable(), record={"seed": 3})
    packs.update_part(folder, "pool", pool())
    packs.update_configs(folder, camera=CameraConfig(crop_x=0.25), energy=EnergyConfig(samples=2), licence="Apache-2.0")
    pack = packs.load_pack(folder)
    assert pack.name == "pack" and pack.weights == {} and pack.manifest["licence"] == "Apache-2.0"
    assert pack.configs.camera.crop_x == 0.25 and pack.configs.energy.samples == 2
    assert pack.manifest["training"]["morphable"] == {"seed": 3}
    assert pack.morphable.expression_names == tuple(f"e{k}" for k in range(64))
    np.testing.assert_array_equal(pack.morphable.mean_shape, morphable().mean_shape)
    assert pack.morphable.triangles.dtype == jnp.int32 and pack.pool.images.dtype == jnp.uint8
    np.testing.assert_allclose(pack.morphable.identity_basis, morphable().identity_basis, rtol=2e-3, atol=1e-3)
    assert pack.morphable.identity_basis.dtype == jnp.float32
    assert pack.pool.images.shape == (5, 12, 12, 3)
    np.testing.assert_allclose(pack.pool.images.astype(float), pool().images.astype(float), atol=6)
    np.testing.assert_array_equal(pack.pool.landmarks, pool().landmarks)
    with pytest.raises(PackError, match="'generator' is missing"):
        pack.require("pool", "generator")
    jax.jit(lambda p: p.pool.params_vector.sum())(pack)  # a Pack is a pytree with hashable static data


def test_storage(tmp_path):
    a, tiny = np.linspace(-2, 2, 4096, dtype=np.float32).reshape(64, 64), np.full((64, 64), 1e-9, np.float32)
    tree = {"a": a, "large": a * 1e5, "tiny": tiny, "w_mean": a}
    stored = packs.store._nested_numpy(tree, "float16")
    assert {k: v.dtype.name for k, v in stored.items()} == {
        "a": "float16", "large": "float32", "tiny": "float32", "w_mean": "float32"}
    assert packs.store._nested_numpy(tree, "float32")["a"].dtype == np.float32


def test_networks_are_checked_against_their_modules(tmp_path):
    config, weights = perceptual(jax.random.key(0))
    packs.update_part(tmp_path / "p", "perceptual", weights, config=config, storage="float32")
    pack = packs.load_pack(tmp_path / "p")
    assert pack.configs.perceptual == config
    jax.tree.map(np.testing.assert_array_equal, pack.weights["perceptual"], weights)
    with pytest.raises(PackError, match="shape"):
        packs.update_part(tmp_path / "p", "perceptual", weights, config=dataclasses.replace(config, width=16))
    with pytest.raises(PackError, match="lacks array"):
        packs.update_part(tmp_path / "p", "perceptual", {}, config=config)
    with pytest.raises(PackError, match="unknown array 'more'"):
        packs.update_part(tmp_path / "p", "perceptual", {**weights, "more": np.ones(3)}, config=config)
    assert packs.load_pack(tmp_path / "p").hash == pack.hash  # a refused part changes nothing


def test_a_new_version_replaces_the_old_one(tmp_path):
    packs.update_part(tmp_path / "p", "pool", pool())
    first = packs.load_pack(tmp_path / "p")
    packs.update_part(tmp_path / "p", "pool", dataclasses.replace(pool(), params_vector=jnp.zeros((5, 257))))
    second = packs.load_pack(tmp_path / "p")
    assert first.hash != second.hash and float(second.pool.params_vector.max()) == 0.0
    assert len([f for f in (tmp_path / "p").iterdir() if f.is_dir()]) == 1

def test_a_whole_pack_can_be_copied(tmp_path):
    packs.update_part(tmp_path / "p", "morphable", morphable(), record={"seed": 1})
    pack = packs.load_pack(tmp_path / "p")
    packs.save_pack(tmp_path / "copy", pack)
    copy = packs.load_pack(tmp_path / "copy")
    assert copy.hash == pack.hash and copy.manifest["training"] == {"morphable": {"seed": 1}}


def test_damage_is_named(tmp_path):
    with pytest.raises(PackError, match="not a pack"):
        packs.load_pack(tmp_path)
    with pytest.raises(PackError, match="not a pack"):
        packs.load_pack("no_such_pack")
    folder = tmp_path / "p"
    packs.update_part(folder, "pool", pool())
    manifest = json.loads((folder / "manifest.json").read_text())
    part = folder / manifest["parts"]["pool"]["folder"]

    def written(change):
        changed = json.loads(json.dumps(manifest))
        change(changed)
        (folder / "manifest.json").write_text(json.dumps(changed))

    another = {"sha256": "0" * 64, "folder": "pool-000000000000"}
    written(lambda m: (m["parts"]["pool"].update(another), m.pop("sha256")))
    part.rename(folder / another["folder"])
    with pytest.raises(PackError, match="SHA-256"):
        packs.load_pack(folder)
    (folder / another["folder"]).rename(part)
    written(lambda m: m.update(format=99))
    with pytest.raises(PackError, match="format 99"):
        packs.load_pack(folder)
    written(lambda m: m["configs"]["camera"].update(lens=1))
    with pytest.raises(PackError, match="unknown field 'lens'"):
        packs.load_pack(folder)
    (folder / "manifest.json").write_text("<html>")
    with pytest.raises(PackError, match="cannot be read"):
        packs.load_pack(folder)
    written(lambda m: None)
    for file in part.rglob("*"):
        if file.is_file() and file.stat().st_size > 0:
            file.write_bytes(b"")
    with pytest.raises(PackError, match="damaged"):
        packs.load_pack(folder)
    part.rename(folder / "gone")
    with pytest.raises(PackError, match="is missing"):
        packs.load_pack(folder)


def test_a_small_part_is_kept_beside_the_programs(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_folder", lambda: tmp_path / "kept")
    folder = tmp_path / "pack"
    packs.update_part(folder, "morphable", morphable())

    def read():
        return np.asarray(packs.load_pack(folder).morphable.mean_shape)

    first, load = read(), ocp.load
    (kept,) = (tmp_path / "kept").iterdir()
    monkeypatch.setattr(ocp, "load", None)
    np.testing.assert_array_equal(read(), first)  # without Orbax
    monkeypatch.setattr(ocp, "load", load)
    kept.write_bytes(kept.read_bytes()[:-9])
    np.testing.assert_array_equal(read(), first)  # a damaged one is made again
    (part,) = (path for path in folder.iterdir() if path.is_dir() and path.name.startswith("morphable"))
    for file in part.rglob("*"):
        if file.is_file() and file.stat().st_size > 0:
            file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(PackError, match="damaged"):  # the pack's own files are what counts
        packs.load_pack(folder)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        packs.update_part(tmp_path / "file" / "pack", "pool", pool())


def test_a_pack_names_no_folder_of_the_machine_that_made_it(tmp_path):
    packs.save_pack(tmp_path / "toy", toy.toy_pack(jax.random.key(0), parts=("generator",)))
    for file in (tmp_path / "toy").rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), file
