"""The gallery: embeddings are read when they are needed, and only the last ones stay in memory."""

import numpy as np
import pytest

from pie_jax.config import EmbedConfig
from pie_jax.errors import UsageError
from pie_jax.pack import load_pack
from pie_jax.portrait import Embedding
from pie_jax.view import gallery as galleries
from pie_jax.view.gallery import Gallery


@pytest.fixture(scope="module")
def pack():
    return load_pack("demo", parts=("generator", "morphable"))


@pytest.fixture(scope="module")
def out(pack, fitted, tmp_path_factory):
    """A folder of three embeddings, the last one of a made person."""
    folder = tmp_path_factory.mktemp("out")
    generator = pack.configs.generator
    w_plus = np.repeat(np.asarray(pack.weights["generator"]["w_mean"])[None], generator.num_layers, axis=0)
    for name in ("a", "b", "made"):
        (folder / name).mkdir()
        Embedding(w_plus=w_plus.astype(np.float32), params=fitted.params, portrait_params=None, landmarks=None,
                  portrait_landmarks=None, trace={}, config=EmbedConfig(energy=pack.configs.energy), pack_name="demo",
                  pack_hash=pack.hash, report={"metrics": {"psnr_db": 31.0 if name == "made" else 20.0}},
                  photo=None if name == "made" else fitted).save(folder / name / "embedding.npz")
    return folder


def test_embeddings_are_read_when_they_are_needed(pack, out, fitted):
    gallery = Gallery(pack)
    assert gallery.add_folders(out) == 3 and all(p.embedding is None for p in gallery.portraits.values())
    a, b, made = (gallery.of(key) for key in gallery.portraits)
    assert [p.name for p in (a, b, made)] == ["a", "b", "made"]
    assert np.array_equal(gallery.picture(a), fitted.portrait) and gallery.thumbnail(a).size == (160, 160)
    assert made.fitted is None and gallery.picture(made).shape[0] == pack.configs.generator.resolution
    np.testing.assert_array_equal(gallery.start(made).rotation, fitted.params.rotation)
    assert Gallery(pack).add_folders(out / "a") == 1  # one of them alone
    with pytest.raises(UsageError):
        gallery.of("nobody")


def test_only_the_last_ones_stay_in_memory(pack, out, monkeypatch):
    monkeypatch.setattr(galleries, "_READ", 2)
    monkeypatch.setattr(galleries, "_OPEN", 1)
    gallery = Gallery(pack)
    gallery.add_folders(out)
    first, second, third = gallery.portraits
    a, b = gallery.of(first), gallery.of(second)
    editor = gallery.editor(a, size=256)
    assert gallery.editor(a, size=256) is editor
    gallery.editor(b, size=256)
    assert not a.editors and b.editors
    gallery.of(third)
    assert a.embedding is None and a.fitted is None and b.embedding is not None
    assert gallery.of(first).fitted is not None and b.embedding is None


def test_a_gallery_has_a_limit(pack, monkeypatch):
    monkeypatch.setattr(galleries, "LARGEST_GALLERY", 2)
    gallery = Gallery(pack)
    gallery.add("a")
    gallery.add("b")
    with pytest.raises(UsageError, match="more than 2"):
        gallery.add("c")
