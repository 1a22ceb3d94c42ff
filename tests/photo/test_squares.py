"""Squares of a photo: places there and back, pixels as they are, the photo reflected outside."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from pie_jax.photo.squares import Square, SquareReader, reflected


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(1, 2000), st.floats(-3.2, 3.2))
@settings(max_examples=50, deadline=None)
def test_places_go_there_and_back(x, y, side, angle):
    square = Square(x=x, y=y, side=side, angle=angle)
    points = np.array([[0.0, 0.0], [1.0, 0.3], [0.4, 0.9]])
    np.testing.assert_allclose(square.from_photo(square.to_photo(points)), points, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(np.diff(square.corners(), axis=0), axis=1), side, rtol=1e-9)


def image(width=48, height=40, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8))


def test_pixels_stay_what_they_are():
    picture = image()
    read = SquareReader(picture).read(Square(x=20.0, y=18.0, side=16.0), 16)
    np.testing.assert_allclose(read, np.asarray(picture)[10:26, 12:28] / 255.0, atol=1e-6)


def test_a_quarter_turn_is_exact():
    picture = image(40, 40)
    read = SquareReader(picture).read(Square(x=20.0, y=20.0, side=40.0, angle=np.pi / 2), 40)
    np.testing.assert_allclose(read, np.rot90(np.asarray(picture)) / 255.0, atol=1 / 255)


def test_outside_is_black_or_a_reflection_that_fades():
    y, x = np.mgrid[0:200, 0:200] / 199.0
    ramp = np.stack([x, y, 1 - x], axis=-1)
    picture = Image.fromarray(np.round(255 * ramp).astype(np.uint8))
    square = Square(x=0.0, y=100.0, side=200.0)
    assert not SquareReader(picture).read(square, 200)[:, :100].any()
    whole = SquareReader(picture).read(square, 200, mirror=True)
    np.testing.assert_allclose(whole[:, 100:], np.asarray(picture)[:, :100] / 255, atol=1e-6)  # inside nothing changes
    np.testing.assert_allclose(whole[20:180, 99], whole[20:180, 100], atol=0.03)  # no seam
    median = np.median(np.asarray(picture).reshape(-1, 3), axis=0) / 255
    np.testing.assert_allclose(whole[:, :60], np.broadcast_to(median, (200, 60, 3)), atol=0.02)  # farther out: gone


@pytest.mark.parametrize("square", [
    Square(x=3.0, y=50.0, side=60.0, angle=0.2), Square(x=190.0, y=140.0, side=90.0),
    Square(x=100.0, y=75.0, side=400.0), Square(x=100.0, y=10.0, side=80.0, angle=-0.5)])
def test_only_what_a_square_needs_is_made_of_a_reflection(square):
    """The whole photo, grown by more than enough, blurred and faded at once, gives the same pixels."""
    picture, by = image(200, 150), 400
    grown = np.pad(np.asarray(picture), ((by, by), (by, by), (0, 0)), mode="symmetric")
    blurred = np.asarray(Image.fromarray(grown).filter(ImageFilter.GaussianBlur(0.02 * square.side)), np.float32)
    y, x = (np.arange(-by, size + by) for size in (150, 200))
    away = [np.maximum(np.maximum(-index, index + 1 - size), 0) for index, size in ((x, 200), (y, 150))]
    distance = np.hypot(away[0][None], away[1][:, None])[..., None] / square.side
    median = np.median(np.asarray(picture.resize((64, 64))).reshape(-1, 3), axis=0)
    faded = grown + (blurred - grown) * np.clip(distance / 0.02, 0, 1)
    faded = np.round(faded + (median - faded) * np.clip(distance / 0.15, 0, 1)).astype(np.uint8)
    moved = dataclasses.replace(square, x=square.x + by, y=square.y + by)
    expected = SquareReader(Image.fromarray(faded)).read(moved, 256)
    np.testing.assert_allclose(SquareReader(picture).read(square, 256, mirror=True), expected, atol=1.01 / 255)


def test_large_squares_are_averaged_down():
    noise = SquareReader(image(512, 512)).read(Square(x=256.0, y=256.0, side=512.0), 32)
    assert noise.std() < 0.05 and noise.mean() == pytest.approx(0.5, abs=0.02)


def test_reflection_has_no_end():
    assert reflected(np.array([-1, -4, 0, 3, 4, 7, 8, 11]), 4).tolist() == [0, 3, 0, 3, 3, 0, 0, 3]
