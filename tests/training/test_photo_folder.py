"""Photos that a network learns from: their points, moved with them."""

import numpy as np
import pytest
from PIL import Image

from pie_jax.errors import InputError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import load_pack
from pie_jax.photo.detect import find_faces
from pie_jax.training.data import photo_folder
from pie_jax.training.data.photo_folder import MIRRORED, PhotoFaces, holds_out, read_photos, with_points
from pie_jax.training.losses.face_losses import projected_landmarks

SIDE = 64


def test_a_mirrored_face_has_the_mirrored_points():
    pack = load_pack("demo", parts=("morphable",))
    centred = pack.configs.camera
    points = np.asarray(projected_landmarks(pack.morphable, FaceParams.zeros(leading=(1,)), centred))[0]
    middle = points[27:31, 0].mean()  # the bridge of the nose
    mirrored = points[MIRRORED] * (-1, 1) + (2 * middle, 0)
    np.testing.assert_allclose(mirrored, points, atol=0.01)
    assert sorted(MIRRORED) == list(range(66)) and np.abs(points[:17] - points[:17][::-1]).max() > 0.3


def test_points_move_with_their_pixels():
    rng = np.random.default_rng(0)
    points = rng.uniform(0.3, 0.7, (66, 2)).astype(np.float32)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[tuple(np.floor(points[37] * SIDE).astype(int)[::-1])] = 255
    places, seen = set(), []
    for _ in range(20):
        moved_image, moved = photo_folder._moved(rng, image, points)
        row, column = np.unravel_index(moved_image[..., 0].argmax(), (SIDE, SIDE))
        seen.append(min(np.abs(moved[k] * SIDE - (column + 0.5, row + 0.5)).max() for k in (37, int(MIRRORED[37]))))
        places.add((row, column))
    assert max(seen) < 1.6 and len(places) > 15


def test_a_batch_is_a_function_of_seed_and_step():
    images = np.random.default_rng(0).integers(0, 255, (5, SIDE, SIDE, 3)).astype(np.uint8)
    faces = PhotoFaces(images=images, points=np.full((5, 66, 2), 0.5, np.float32))
    first, again, other = faces.batch(1, 2, 4), faces.batch(1, 2, 4), faces.batch(1, 3, 4)
    np.testing.assert_array_equal(first["images"], again["images"])
    assert first["points"].shape == (4, 66, 2) and not np.array_equal(first["images"], other["images"])
    plain = PhotoFaces(images=images, points=None).batch(1, 2, 4)
    assert set(plain) == {"images"} and all((each == images).all((1, 2, 3)).any() for each in plain["images"])


def test_photos_without_a_face_are_left_out(photo_pack, photo):
    face = np.asarray(photo.resize((192, 192)))
    wall = np.full_like(face, 128)
    found = with_points(photo_pack, np.stack([wall, face]))
    assert len(found) == 1
    np.testing.assert_allclose(found.points[0], find_faces(photo_pack, photo)[0].landmarks / photo.width, atol=0.01)
    with pytest.raises(InputError, match="no face"):
        with_points(photo_pack, wall[None])
    assert with_points(load_pack("demo", parts=("morphable",)), wall[None]).points is None


def test_a_folder_of_pictures_is_read(tmp_path):
    Image.new("RGB", (40, 40), (200, 100, 50)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    photos = read_photos(str(tmp_path), resolution=32, limit=10)
    assert photos.shape == (1, 32, 32, 3) and tuple(photos[0, 0, 0]) == (200, 100, 50)
    assert not holds_out(str(tmp_path))
    with pytest.raises(InputError, match="no readable photos"):
        read_photos(str(tmp_path / "nowhere"), resolution=32, limit=10)
