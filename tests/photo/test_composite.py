"""The edited photo: bit-identical where nothing changes, changed where it should be."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from pie_jax.face3d.render import light
from pie_jax.imaging import to_linear, to_srgb
from pie_jax.pack import load_pack
from pie_jax.photo import composite
from pie_jax.photo.composite import edited_photo, edited_portrait
from pie_jax.photo.fitted import PARTS, FittedPhoto
from pie_jax.photo.layers import edit_layers, prepare_photo, sources
from pie_jax.portrait.early import _edit_photo
from pie_jax.portrait.request import expression_names


def layers_of(photo_pack, fitted, **changes):
    target = dataclasses.replace(fitted.params, **changes)
    return edit_layers(photo_pack, prepare_photo(photo_pack, fitted), target)


def test_without_an_edit_the_photo_is_itself(photo_pack, photo, fitted):
    layers, pixels = layers_of(photo_pack, fitted), np.asarray(photo)
    out, changed = edited_photo(pixels, fitted, layers)
    assert np.array_equal(out, pixels) and not changed.any()
    np.testing.assert_array_equal(edited_portrait(layers), fitted.portrait)
    photo_share, generated, filled = sources(layers)
    assert float(photo_share.sum()) == float(generated.sum()) == float(filled.sum()) == 0


def test_a_turn_changes_the_person_alone(photo_pack, photo, fitted):
    layers = layers_of(photo_pack, fitted, rotation=fitted.params.rotation + np.float32([0, 0.2, 0]))
    pixels = np.asarray(photo)
    out, changed = edited_photo(pixels, fitted, layers)
    assert np.array_equal(out[~changed], pixels[~changed]) and 0.1 < changed.mean() < 0.9
    border = np.concatenate([out[:3].reshape(-1, 3), out[:, :3].reshape(-1, 3)])
    assert np.array_equal(border, np.concatenate([pixels[:3].reshape(-1, 3), pixels[:, :3].reshape(-1, 3)]))
    assert np.abs(out.astype(int) - pixels).max() > 60
    photo_share, _, filled = (float(part.sum()) for part in sources(layers))
    assert photo_share > 4 * filled > 0


def test_small_tiles_of_small_windows_give_the_same(photo_pack, photo, fitted, monkeypatch):
    pixels = np.asarray(photo.resize((500, 437)))
    scale = np.array(pixels.shape[1::-1]) / photo.size
    square = dataclasses.replace(fitted.square, x=fitted.square.x * scale[0], y=fitted.square.y * scale[1],
                                 side=fitted.square.side * scale.min(), angle=0.1)
    placed = dataclasses.replace(fitted, square=square, size=(500, 437))
    for changes in ({"rotation": fitted.params.rotation + np.float32([0.1, 0.4, 0.3])},
                    {"illumination": np.asarray(light(70.0, 10.0, 1.2, ambient=0.3))}):
        layers = layers_of(photo_pack, placed, **changes)
        out, changed = edited_photo(pixels, placed, layers)
        with monkeypatch.context() as patched:
            patched.setattr(composite, "_TILE", 96)
            patched.setattr(composite, "_WINDOW", 128)
            tiled, changed_so = edited_photo(pixels, placed, layers)
        assert changed.mean() > 0.1 and (changed != changed_so).mean() < 1e-4
        assert np.abs(out.astype(int) - tiled).max() <= 1 and (out != tiled).mean() < 1e-3


def test_photos_of_all_sizes_share_their_programs(photo_pack, photo, fitted, monkeypatch):
    monkeypatch.setattr(composite, "_TILE", fitted.portrait.shape[0])
    programs = composite._tile, composite._composed, composite._painted
    for program in programs:
        program.forget()
    _edit_photo(photo_pack, fitted.portrait.shape[0])
    counts = [program._cache_size() for program in programs]
    assert counts == [1, 2, 1]  # a tile is as large as this portrait, but is made of a window
    for width in (300, 777, 1500):
        large = photo.resize((width, round(width * photo.height / photo.width)))
        scale = width / photo.width
        square = dataclasses.replace(fitted.square, x=fitted.square.x * scale, y=fitted.square.y * scale,
                                     side=fitted.square.side * scale)
        placed = dataclasses.replace(fitted, square=square, size=large.size)
        layers = layers_of(photo_pack, placed, rotation=fitted.params.rotation + np.float32([0, 0.2, 0]))
        assert edited_photo(np.asarray(large), placed, layers)[1].any()
    assert [program._cache_size() for program in programs] == counts


def test_beyond_the_photo_s_border_nothing_changes(photo_pack, fitted):
    width, height = fitted.size
    cut = dataclasses.replace(fitted, square=dataclasses.replace(fitted.square, y=fitted.square.side * 0.3,
                                                                 x=width / 2), size=(width, height))
    beyond = ~within(cut, resolution=fitted.portrait.shape[0], margin=0.03)
    assert 0.1 < beyond.mean() < 0.5
    for changes in ({"rotation": cut.params.rotation + np.float32([0, 0.3, 0])},
                    {"illumination": np.asarray(light(70.0, 10.0, 1.2, ambient=0.3))}):
        out = edited_portrait(layers_of(photo_pack, cut, **changes))
        assert np.array_equal(out[beyond], cut.portrait[beyond])
        assert (out[~beyond] != cut.portrait[~beyond]).mean() > 0.1


def within(fitted, *, resolution, margin):
    """[resolution, resolution] bool: the pixels in the photo, or less than `margin` portraits beyond its border."""
    middles = (np.arange(resolution) + 0.5) / resolution
    places = fitted.square.to_photo(np.stack(np.meshgrid(middles, middles), axis=-1))
    far = margin * fitted.square.side
    return np.all((places >= -far) & (places <= np.array(fitted.size) + far), axis=-1)


def test_holes_in_the_matte_move_with_the_person(photo_pack, fitted):
    holed = fitted.matte.copy()
    middle = len(holed) // 2
    assert holed[middle - 2:middle + 3, middle - 2:middle + 3].min() > 250
    holed[middle - 2:middle + 3, middle - 2:middle + 3] = 0
    prepared = prepare_photo(photo_pack, dataclasses.replace(fitted, matte=holed))
    closed = np.asarray(prepared.matte)[len(prepared.matte) // 2]
    assert closed[len(closed) // 2 - 4:len(closed) // 2 + 5].min() > 0.9


def test_hair_and_ears_beyond_the_matte_move_with_the_head(photo_pack, fitted):
    half = dataclasses.replace(fitted, matte=np.where(np.arange(fitted.matte.shape[1]) < fitted.matte.shape[1] // 2,
                                                      fitted.matte, 0).astype(np.uint8))
    turn = {"rotation": fitted.params.rotation + np.float32([0, 0.2, 0])}
    whole, cut = (edited_portrait(layers_of(photo_pack, photo, **turn)).astype(int) for photo in (fitted, half))
    assert np.abs(whole - cut).mean() < 0.5  # only the light on what turns knows the matte


def test_light_stays_off_the_background(photo_pack, fitted):
    layers = layers_of(photo_pack, fitted, illumination=np.asarray(light(70.0, 10.0, 1.2, ambient=0.3)))
    pixels, out = fitted.portrait.astype(int), edited_portrait(layers).astype(int)
    matte = np.asarray(jax.image.resize(layers.prepared.matte, pixels.shape[:2], "nearest"))
    background = matte < 0.01
    assert background.mean() > 0.1 and np.abs(out - pixels)[background].max() <= 2
    assert np.abs(out - pixels)[~background].mean() > 3


def test_a_grey_photo_stays_grey(fitted):
    pack = load_pack("demo", parts=(*PARTS, "mouth"))
    luma = np.asarray(Image.fromarray(fitted.portrait).convert("L"))
    grey = dataclasses.replace(fitted, portrait=np.repeat(luma[..., None], 3, axis=-1))
    jaw = expression_names(pack).index("jaw_open")
    layers = layers_of(pack, grey, illumination=light(60.0, 15.0, 1.0),
                       expression=fitted.params.expression + 1.5 * np.eye(len(fitted.params.expression))[jaw])
    assert (np.asarray(layers.painting.frame) >> 24).max() > 200  # the inside of the mouth is painted too
    out = edited_portrait(layers).astype(int)
    assert np.abs(out - grey.portrait).max() > 40
    assert np.array_equal(out, np.repeat(out[..., :1], 3, axis=-1))


def test_a_lamp_does_not_brighten_the_dark_behind_the_person(photo_pack, fitted):
    size = fitted.portrait.shape[0]
    dark = np.full_like(fitted.portrait, 30)
    dark[:size // 6, :size // 2] = 250
    lit = dataclasses.replace(fitted, portrait=dark)
    turned = edited_portrait(layers_of(photo_pack, lit, rotation=lit.params.rotation + np.float32([0, 0.2, 0])))
    assert (turned != dark).mean() > 0.01  # the lamp moved with what is around the head
    assert np.abs(turned[size // 3:].astype(int) - 30).max() < 10


def test_a_fitted_photo_comes_back_from_its_arrays(fitted):
    again = FittedPhoto.from_arrays(fitted.to_arrays())
    assert again.square == fitted.square and again.size == fitted.size
    assert np.array_equal(again.portrait, fitted.portrait) and np.array_equal(again.matte, fitted.matte)
    np.testing.assert_array_equal(again.params.to_vector(), fitted.params.to_vector())
    for name, bad in (("portrait", fitted.portrait.astype(np.float32)), ("params", np.full(257, np.nan, np.float32))):
        with pytest.raises(ValueError):
            FittedPhoto.from_arrays({**fitted.to_arrays(), name: bad})


def test_light_and_srgb_are_inverse():
    values = np.linspace(0, 1, 101, dtype=np.float32)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=1e-5)
    assert float(to_linear(np.float32(0.5))) == pytest.approx(0.2140, abs=1e-4)


def test_added_light_eases_off_below_white():
    before = np.linspace(0.0, 1.0, 201, dtype=np.float32)
    for factor in (0.3, 1.0, 4.0):
        after = np.asarray(composite._lit(before, np.float32(factor)))
        dark = before * (1 + factor) <= composite._SHOULDER
        np.testing.assert_allclose(after[dark], (before * (1 + factor))[dark], rtol=1e-6)
        assert (np.diff(after) > -1e-6).all() and (after <= 1.0).all() and (after >= before - 1e-6).all()
        assert (after[before < 0.99] < 1.0).all()  # nothing burns out that was not white
    np.testing.assert_array_equal(composite._lit(before, np.float32(0.0)), before)
    np.testing.assert_allclose(composite._lit(before, np.float32(-0.5)), before / 2, rtol=1e-6)
