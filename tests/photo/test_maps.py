"""Maps: read between their pixels, packed and made finer."""

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.photo.maps import (
    doubled,
    finer,
    is_grey,
    means,
    nearest,
    once,
    pack_image,
    sample,
    sample_packed,
    unpack_image,
    without_colour,
)


def test_samples_lie_between_pixels():
    image = jnp.arange(12.0).reshape(3, 4)
    x, y = jnp.asarray([[0.5, 0.5], [1.0, 0.5], [0.5, 1.0], [3.5, 2.5], [-5.0, 9.0]]).T
    np.testing.assert_allclose(sample(image, x, y), [0.0, 0.5, 2.0, 11.0, 8.0])
    np.testing.assert_allclose(nearest(image, x, y), [0.0, 1.0, 4.0, 11.0, 8.0])


def test_packed_images_are_read_as_their_planes_are():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.array_equal(unpack_image(pack_image(image)), image)
    x, y = rng.uniform(-2, 10, (2, 50)).astype(np.float32)
    planes = sample(jnp.moveaxis(jnp.asarray(image, jnp.float32), -1, 0), x, y)
    read = sample_packed(jnp.asarray(pack_image(image)), x, y)
    np.testing.assert_allclose(jnp.stack(read[:3]), planes, atol=1e-3)
    np.testing.assert_allclose(read[3], 255.0, atol=1e-3)


def test_a_doubled_map_is_jaxs_own_resizing():
    planes = np.random.default_rng(1).normal(size=(2, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(doubled(jnp.asarray(planes)), jax.image.resize(planes, (2, 16, 16), "linear"), atol=1e-5)


def test_finer_maps_are_jaxs_own_resizing_and_means_those_of_squares():
    planes = np.random.default_rng(4).normal(size=(2, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(finer(planes, 4), jax.image.resize(planes, (2, 32, 32), "linear"), atol=1e-5)
    np.testing.assert_allclose(means(planes, 4), planes.reshape(2, 2, 4, 2, 4).mean((2, 4)), atol=1e-6)
    for same in (finer(planes, 1), means(planes, 1)):
        np.testing.assert_array_equal(same, planes)


def test_planes_kept_are_a_place_that_no_loop_is_made_across():
    @jax.jit
    def read_often(x):
        plane, mask = once((jnp.sin(x), x > 0))
        return jnp.where(mask[1:], plane[1:] * plane[:-1] - jnp.roll(plane, 3, axis=1)[1:], plane[:-1])

    x = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32)
    plane = np.sin(x)
    due = np.where(x[1:] > 0, plane[1:] * plane[:-1] - np.roll(plane, 3, axis=1)[1:], plane[:-1])
    np.testing.assert_allclose(read_often(x), due, rtol=1e-5, atol=1e-6)
    assert " conditional(" in read_often.lower(x).compile().as_text()  # XLA:CPU has not seen through it
    assert np.isnan(read_often(np.full_like(x, np.inf))).all()


def test_only_a_grey_portrait_loses_colours():
    rng = np.random.default_rng(3)
    grey = np.repeat(rng.uniform(size=(1, 8, 8)), 3, axis=0).astype(np.float32)
    planes = jnp.asarray(rng.uniform(size=(3, 4, 4)), jnp.float32)
    assert is_grey(jnp.asarray(grey)) and not is_grey(jnp.asarray(rng.uniform(size=(3, 8, 8)), jnp.float32))
    np.testing.assert_array_equal(without_colour(planes, jnp.asarray(False)), planes)
    np.testing.assert_allclose(without_colour(planes, jnp.asarray(True)), [planes.mean(axis=0)] * 3, rtol=1e-6)
