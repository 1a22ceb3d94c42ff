"""A pack that someone else wrote: nothing outside of it is read or removed, and what is wrong is said at once."""

import json
import shutil

import jax
import numpy as np
import pytest
import toy

from benchmarks.reliability import flips
from pie_jax.errors import NumericsError, PackError
from pie_jax.pack import load_pack, manifest_hash, read_manifest, save_pack, update_part


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "pack"
    save_pack(folder, toy.toy_pack(jax.random.key(0)))
    return folder


@pytest.fixture
def pack(written, tmp_path):
    return shutil.copytree(written, tmp_path / "pack")


def rewritten(pack, change, *, sealed=True):
    """The manifest with a change; sealed: as its writer would have hashed it."""
    manifest = json.loads((pack / "manifest.json").read_text())
    change(manifest)
    if sealed:
        manifest["sha256"] = manifest_hash(manifest)
    (pack / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("place", ["/{outside}", "../{outside}", "{outside}", "..", ".", "", "generator/../x", 3, None])
def test_a_manifest_names_no_folder_but_its_own(pack, tmp_path, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    named = place.format(outside=str(outside).lstrip("/")) if isinstance(place, str) else place
    rewritten(pack, lambda m: m["parts"]["generator"].update(folder=named))
    for attempt in (lambda: load_pack(pack), lambda: read_manifest(pack), lambda: update_part(
            pack, "generator", {"w_mean": np.zeros(3, np.float32)}, check=False)):
        with pytest.raises(PackError, match="manifest.json: cannot be read"):
            attempt()
    assert (outside / "kept.txt").read_text() == "kept"


def test_links_are_not_followed(pack, tmp_path):
    part = pack / read_manifest(pack)["parts"]["generator"]["folder"]
    part.rename(tmp_path / "moved")
    part.symlink_to(tmp_path / "moved", target_is_directory=True)
    with pytest.raises(PackError, match="symbolic link"):
        load_pack(pack)
    update_part(pack, "generator", {"w_mean": np.zeros(3, np.float32)}, check=False)
    assert any((tmp_path / "moved").rglob("*"))
    part.unlink()
    (tmp_path / "moved").rename(part)
    inner = next(p for p in part.rglob("*") if p.is_file())
    inner.rename(tmp_path / "file")
    inner.symlink_to(tmp_path / "file")
    rewritten(pack, lambda m: m["parts"]["generator"].update(folder=part.name, sha256=part.name[-12:] + "0" * 52))
    with pytest.raises(PackError, match="symbolic link"):
        load_pack(pack)


def test_every_byte_of_a_manifest_is_covered(pack):
    text = (pack / "manifest.json").read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(text), 300):
        damaged = bytearray(text)
        damaged[place] ^= 1 << int(rng.integers(0, 7))
        (pack / "manifest.json").write_bytes(bytes(damaged))
        try:
            assert read_manifest(pack) == json.loads(text)  # a space, say
        except PackError:
            pass
    (pack / "manifest.json").write_bytes(text)
    rewritten(pack, lambda m: m["configs"]["camera"].update(crop_size=0.57), sealed=False)
    with pytest.raises(PackError, match="SHA-256"):
        read_manifest(pack)


@pytest.mark.parametrize("change,said", [
    (lambda m: m["configs"]["generator"].update(w_dim=10**9), "at most 65536"),
    (lambda m: m["configs"]["generator"].update(w_dim="x"), "expected int"),
    (lambda m: m["configs"]["generator"].update(w_dim=[3]), "expected int"),
    (lambda m: m["configs"]["camera"].update(focal=float("nan")), "finite"),
    (lambda m: m["configs"].update(camera=[1, 2]), "expected an object"),
    (lambda m: m.update(configs=[]), "configs: expected an object"), (lambda m: m.update(parts=[]), "parts: expected"),
    (lambda m: m["parts"]["generator"].update(sha256="x"), "sha256 is none"),
    (lambda m: m.update(name="a\x1b[2Jb"), "control characters: a"),
    (lambda m: m["training"].update(generator={"command": "x\x07"}), "control characters"),
    (lambda m: m["parts"].update(generator=3), "cannot be read"), (lambda m: m.update(format="x"), "cannot be read")])
def test_what_a_manifest_says_is_checked(pack, change, said):
    rewritten(pack, change)
    with pytest.raises(PackError, match=said):
        load_pack(pack)


def test_bits_turned_over_are_refused_or_change_nothing(pack):
    due, rng = load_pack(pack), np.random.default_rng(0)
    found = [flips.flip(pack, due, rng) for _ in range(16)]
    assert {outcome for outcome, _ in found} == {"refused", "the same"}, found


def test_every_bit_turned_over_in_an_index_or_in_large_arrays_is_refused(pack):
    tried = 0
    for part, entry in read_manifest(pack)["parts"].items():
        index = list((pack / entry["folder"]).glob("state/d/*"))
        large = [path for path in (pack / entry["folder"]).glob("state/ocdbt.process_0/d/*")
                 if path.stat().st_size > 50_000]  # smaller ones also hold what a writer leaves unread
        assert index
        for file in index + large:
            whole = file.read_bytes()
            for eighth in (1, 3, 5, 7):
                data = bytearray(whole)
                data[len(data) * eighth // 8] ^= 1
                file.write_bytes(data)
                with pytest.raises((PackError, NumericsError)):
                    load_pack(pack, parts=(part,))
                tried += 1
            file.write_bytes(whole)
    assert tried > 40 and load_pack(pack)


def test_a_hash_cannot_lose_its_name(pack):
    rewritten(pack, lambda m: m.update(shb256=m.pop("sha256")), sealed=False)
    with pytest.raises(PackError, match="SHA-256 has lost its name"):
        load_pack(pack)


def test_a_damaged_part_costs_one_line(pack, caplog, capfd):
    file = max(pack.glob("generator-*/state/ocdbt.process_0/d/*"), key=lambda p: p.stat().st_size)
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(PackError, match="damaged") as caught:
        load_pack(pack)
    assert "\n" not in str(caught.value) and not caplog.records and "Traceback" not in capfd.readouterr().err


def test_writers_clear_what_killed_ones_left(pack):
    kept = [pack / "mine", pack / "generator", pack / "notes-0123456789ab"]  # not our names
    dead = [pack / "generator-0123456789ab", pack / ".rignet_pose-0123456789ab-77",
            pack / ".rignet_pose-0123456789ab-77.orbax-checkpoint-tmp"]
    for folder in (*kept, *dead):
        folder.mkdir()
    (pack / ".manifest.json.x.part").write_text("half")
    update_part(pack, "generator", {"w_mean": np.zeros(3, np.float32)}, check=False)
    assert all(path.is_dir() for path in kept) and not any(path.exists() for path in dead)
    assert not list(pack.glob("*.part")) and not list(pack.glob(".*.part"))


def test_weights_that_are_not_finite_are_named(pack):
    weights = load_pack(pack).weights["generator"]
    weights = jax.tree.map(lambda a: np.array(a), weights)
    weights["w_mean"][1] = np.nan
    update_part(pack, "generator", weights)
    with pytest.raises(NumericsError, match="generator/w_mean holds NaN"):
        load_pack(pack)
