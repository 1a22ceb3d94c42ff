"""In a notebook an embedding is a picture and edits are a strip; sliders come with ipywidgets alone."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from pie_jax.config import EmbedConfig
from pie_jax.errors import PackError, UsageError
from pie_jax.notebook import Strip, show_edits, sliders
from pie_jax.pack import load_pack
from pie_jax.portrait import Embedding


def shown(value):
    return np.asarray(Image.open(io.BytesIO(value._repr_png_())))


@pytest.fixture(scope="module")
def pack():
    return load_pack("demo", parts=("generator", "morphable"))


@pytest.fixture(scope="module")
def embedding(pack, fitted):
    generator = pack.configs.generator
    w_plus = np.repeat(np.asarray(pack.weights["generator"]["w_mean"])[None], generator.num_layers, axis=0)
    return Embedding(w_plus=w_plus.astype(np.float32), params=fitted.params, portrait_params=None, landmarks=None,
                     portrait_landmarks=None, trace={}, config=EmbedConfig(energy=pack.configs.energy),
                     pack_name="demo", pack_hash=pack.hash, report={"metrics": {"psnr_db": 20.0}}, photo=fitted)


def test_an_embedding_is_its_photo_or_what_the_pack_gives_back(embedding, fitted):
    import dataclasses

    assert np.array_equal(shown(embedding), fitted.portrait)
    made = dataclasses.replace(embedding, photo=None)
    assert shown(made).std() > 10
    assert dataclasses.replace(made, pack_name="none of these")._repr_png_() is None
    assert dataclasses.replace(made, pack_hash="another")._repr_png_() is None


def test_edits_are_a_strip(pack, embedding, fitted):
    strip = show_edits(pack, embedding, [{"yaw": 10}, {"expression": {"smile": 1.0}}])
    assert strip.labels == ["portrait", "yaw +10", "smile +1"] and len(strip) == 3
    assert np.abs(strip[0] * 255 - fitted.portrait).max() < 1 < np.abs(strip[1] - strip[0]).mean() * 255
    assert shown(strip).shape[1] > 2 * shown(strip).shape[0]
    assert show_edits(pack, embedding, {"turned": {"yaw": 10}}).labels == ["portrait", "turned"]
    assert shown(Strip([np.zeros((8, 8, 3))] * 7, list("abcdefg"))).ndim == 3


def test_sliders_need_ipywidgets(pack, embedding, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(PackError, match="ipywidgets"):
        sliders(pack, embedding)


def test_a_slider_draws_the_portrait_anew(pack, embedding, monkeypatch):
    class Widget:
        def __init__(self, value=None, **facts):
            self.value, self.facts, self.watchers = value, facts, []

        def observe(self, work, name):
            self.watchers.append(work)

    boxes = types.SimpleNamespace(FloatSlider=Widget, Image=Widget, HBox=list, VBox=list)
    monkeypatch.setitem(sys.modules, "ipywidgets", boxes)
    picture, controls = sliders(pack, embedding)
    before = picture.value
    yaw = next(control for control in controls if control.facts["description"] == "yaw")
    yaw.value += 12
    yaw.watchers[0](None)
    assert picture.value != before and len(controls) == 7
    with pytest.raises(UsageError, match="nose"):
        sliders(pack, embedding, components=("nose",))
