"""Faces of the sample photo: turned, small, two of them, at the border; and pictures without any."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pie_jax.errors import NoFaceError, UsageError
from pie_jax.photo.detect import anchors, find_faces
from pie_jax.photo.fitted import can_fit, frame_photo


def eyes_apart(points):
    return np.linalg.norm(points[33] - points[263])


def test_the_photo_shows_one_face(photo_pack, photo):
    assert can_fit(photo_pack)
    face, = find_faces(photo_pack, photo)
    assert face.points.shape == (478, 3) and face.landmarks.shape == (66, 2) and face.score > 0.9
    left, top, right, bottom = face.box
    assert 0 < left < right < photo.width and 0 < top < bottom < photo.height and face.size < photo.width


@pytest.mark.parametrize("turn,back", [(Image.Transpose.ROTATE_90, lambda p, n: np.stack([n - p[:, 1], p[:, 0]], 1)),
                                       (Image.Transpose.ROTATE_180, lambda p, n: n - p),
                                       (Image.Transpose.ROTATE_270, lambda p, n: np.stack([p[:, 1], n - p[:, 0]], 1))])
def test_turned_by_quarters_the_points_are_the_same(photo_pack, photo, turn, back):
    upright = find_faces(photo_pack, photo)[0].points[:, :2]
    turned = find_faces(photo_pack, photo.transpose(turn))[0].points[:, :2]
    apart = np.linalg.norm(back(turned, photo.width) - upright, axis=1)
    assert np.median(apart) < 0.03 * eyes_apart(upright)


def test_a_small_face_in_a_large_photo(photo_pack, photo):
    large = Image.new("RGB", (1600, 1200), (90, 120, 90))
    large.paste(photo.resize((140, 140), Image.Resampling.LANCZOS), (1100, 700))
    face, = find_faces(photo_pack, large)
    middle = face.points[:, :2].mean(axis=0)
    assert np.all(np.abs(middle - (1170, 770)) < 25) and 40 < face.size < 90


def test_the_largest_of_several_with_a_word(photo_pack, photo):
    both = Image.new("RGB", (900, 512))
    both.paste(photo.resize((512, 512)), (0, 0))
    both.paste(photo.resize((300, 300)), (560, 100))
    faces, told = find_faces(photo_pack, both), []
    assert len(faces) == 2 and faces[0].size > faces[1].size
    square, landmarks = frame_photo(photo_pack, both, where="a.png", tell=told.append)
    assert square.x < 450 and landmarks.shape == (66, 2) and "2 faces, took the largest" in told[0]
    assert frame_photo(photo_pack, both, face=2)[0].x > 550
    with pytest.raises(UsageError, match="--face 3: a.png shows 2 faces"):
        frame_photo(photo_pack, both, face=3, where="a.png")


def test_a_face_at_the_border_is_found(photo_pack, photo):
    assert find_faces(photo_pack, photo.crop((int(0.35 * photo.width), 0, photo.width, photo.height)))


def empty_pictures():
    rng, side = np.random.default_rng(0), 256
    ramp = np.linspace(0, 255, side)[None, :, None] * np.ones((side, 1, 3))
    yield ramp
    yield rng.integers(0, 256, (side, side, 3))
    for seed in range(6):
        blobs = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        yield np.asarray(Image.fromarray(blobs).resize((side, side), Image.Resampling.BICUBIC))
    y, x = np.mgrid[0:side, 0:side]
    for seed in range(6):
        a, b = np.random.default_rng(seed).uniform(3, 30, (2, 3))
        yield 127 + 100 * np.sin(x[..., None] / a) * np.cos(y[..., None] / b)
    page = Image.new("RGB", (side, side), "white")
    for row in range(8, side, 14):
        ImageDraw.Draw(page).text((6, row), "the quick brown fox jumps over the lazy dog", fill="black")
    yield np.asarray(page)


def test_pictures_without_a_face_are_refused(photo_pack):
    for picture in empty_pictures():
        with pytest.raises(NoFaceError, match="wall.png: no face found"):
            frame_photo(photo_pack, Image.fromarray(np.asarray(picture, np.uint8)), where="wall.png")


def test_anchors_are_those_of_two_grids():
    places = anchors()
    assert places.shape == (896, 2) and np.allclose(places[0], 1 / 32) and np.allclose(places[1], 1 / 32)
    assert np.allclose(places[2], (3 / 32, 1 / 32)) and np.allclose(places[512], 1 / 16) and places.max() < 1
