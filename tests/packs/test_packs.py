"""`packs status` of a pack with parts missing, and what such a pack can still do: embed by the synthesis term alone."""

import json

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from pie_jax.embed import main as embed
from pie_jax.pack import PARTS, save_pack, update_part
from pie_jax.packs.__main__ import main as packs


@pytest.fixture(scope="module")
def small_pack(tmp_path_factory):
    """Generator and perceptual network only, as two converters leave them."""
    folder = tmp_path_factory.mktemp("packs") / "small"
    pack = toy.toy_pack(jax.random.key(0), parts=("generator", "perceptual"))
    save_pack(folder, pack)
    record = {"licence": "BSD 3-Clause", "converted_from": {"file": "vgg16-397923af.pth"}}
    update_part(folder, "perceptual", pack.weights["perceptual"], record=record)
    return folder


def test_catalogue_knows_every_part():
    assert all(name == part.name for name, part in PARTS.items())
    assert all(entry.use and entry.disables and entry.published and entry.command for entry in PARTS.values())


def test_status_says_what_is_missing_and_where_it_is(small_pack, capsys):
    assert packs(["status", str(small_pack)]) == 0
    out = capsys.readouterr().out
    manifest = json.loads((small_pack / "manifest.json").read_text())
    for part in ("generator", "perceptual"):
        assert manifest["parts"][part]["sha256"][:12] in out
    assert "perceptual: from vgg16-397923af.pth; licence: BSD 3-Clause" in out
    for part in set(PARTS) - {"generator", "perceptual"}:
        assert f"{part:<21}without it: {PARTS[part].disables}" in out
        assert PARTS[part].published in out and PARTS[part].command in out
    assert packs(["status", str(small_pack), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parts"]["perceptual"]["licence"] == "BSD 3-Clause"
    assert set(facts["disabled"]) == set(facts["missing"]) == set(PARTS) - {"generator", "perceptual"}
    assert packs(["verify", str(small_pack)]) == 0
    assert capsys.readouterr().out.count(" ok\n") == 2


def test_embed_minimises_the_synthesis_term_alone_and_says_so(small_pack, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(photo)
    assert embed([str(photo), "--pack", str(small_pack), "--steps", "3,2", "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "the energy is the term synthesis alone" in err
    for term in ("identity", "edit", "invariance", "recognition"):
        assert f"{term} is left out of the energy: the pack has no" in err
    report = json.loads((tmp_path / "out" / "photo" / "report.json").read_text())
    assert set(report["terms"]) == {"energy", "synthesis"} and report["outcome"] == "finished"
    assert {what for what, _ in report["left_out"]} >= {"identity", "edit", "invariance", "recognition"}
    assert "photo" in out
