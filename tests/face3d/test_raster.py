"""The z-buffer against a slow one in float64, its gradients against finite differences, and every degenerate input."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from pie_jax.face3d import raster

RNG = np.random.default_rng(0)
rasterize = jax.jit(raster.rasterize, static_argnames=("height", "width", "near", "cull_back"))


def reference(vertices, triangles, height, width):
    """Ids and depth, a triangle at a time in float64; `sure` is False within 1e-4 of an edge or of a second surface."""
    vertices = vertices.astype(np.float64)
    best, second = np.zeros((height, width)), np.zeros((height, width))
    ids, margin = np.full((height, width), -1), np.full((height, width), np.inf)
    y, x = np.mgrid[:height, :width] + 0.5
    for number, corners in enumerate(triangles):
        a, b, c = vertices[corners]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if min(a[2], b[2], c[2]) <= 1e-6 or abs(area) < 1e-9:
            continue
        weights = np.stack([((p[0] - x) * (q[1] - y) - (q[0] - x) * (p[1] - y)) / area
                            for p, q in ((b, c), (c, a), (a, b))])
        key = weights[0] / a[2] + weights[1] / b[2] + weights[2] / c[2]
        least = weights.min(0)
        margin = np.minimum(margin, np.abs(least))
        inside = least >= 0
        won = inside & (key > best)
        second = np.where(won, best, np.where(inside, np.maximum(second, key), second))
        best, ids = np.where(won, key, best), np.where(won, number, ids)
    sure = (margin > 1e-4) & ((best == 0) | (best - second > 3e-7 * best))
    return ids, np.where(best > 0, 1 / np.where(best > 0, best, 1), 0), sure


def ball(rows, columns, size, *, bump=0.0):
    """A closed-looking surface in pixels and depth: [V, 3], [T, 3]."""
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, columns, endpoint=False),
                                      np.linspace(0.05, np.pi - 0.05, rows))
    radius = 1 + bump * np.sin(5 * longitude) * np.sin(4 * latitude)
    x, y, z = (radius * np.sin(latitude) * np.cos(longitude), radius * np.cos(latitude),
               radius * np.sin(latitude) * np.sin(longitude))
    depth = 6 - z
    vertices = np.stack([(0.5 + 2.1 * x / depth) * size, (0.5 - 2.1 * y / depth) * size, depth], -1)
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, 1)
    triangles = np.concatenate([np.stack([index[:-1], right[:-1], index[1:]], -1).reshape(-1, 3),
                                np.stack([right[1:], index[1:], right[:-1]], -1).reshape(-1, 3)])
    return vertices.reshape(-1, 3).astype(np.float32), triangles.astype(np.int32)


def soup(count, size, extent, seed=0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, size, (count, 1, 2))
    xy = centre + rng.uniform(-extent, extent, (count, 3, 2))
    vertices = np.concatenate([xy, rng.uniform(1, 5, (count, 3, 1))], -1).reshape(-1, 3).astype(np.float32)
    return vertices, np.arange(3 * count, dtype=np.int32).reshape(count, 3)


SLIVERS = soup(60, 64, 30.0)
SCENES = {
    "fine mesh": (*ball(40, 50, 64), 64, 64),
    "coarse mesh": (*ball(7, 9, 96, bump=0.2), 96, 80),
    "small soup": (*soup(60, 64, 3.0), 72, 64),
    "large soup": (*soup(60, 64, 90.0), 72, 64),
    "slivers": (SLIVERS[0] * np.float32([1, 0.02, 1]) + np.float32([0, 30, 0]), SLIVERS[1], 72, 64),
}


@pytest.mark.parametrize("scene", SCENES)
def test_matches_the_slow_z_buffer(scene):
    vertices, triangles, height, width = SCENES[scene]
    ids, depth, sure = reference(vertices, triangles, height, width)
    fragments = rasterize(vertices, triangles, height=height, width=width)
    assert sure.mean() > 0.9 and (ids >= 0).mean() > 0.01
    np.testing.assert_array_equal(np.where(sure, fragments.triangle_id, 0), np.where(sure, ids, 0))
    agree = np.asarray(fragments.triangle_id) == ids
    np.testing.assert_allclose(np.asarray(fragments.depth)[agree], depth[agree], rtol=2e-5)
    hit = np.asarray(fragments.triangle_id) >= 0
    np.testing.assert_allclose(np.asarray(fragments.barycentric).sum(-1), hit, atol=1e-5)
    assert np.asarray(fragments.barycentric).min() > -1e-3


@pytest.mark.parametrize("size, cells", [(64, 150), (64, 3), (200, 60), (512, 5)])
def test_no_holes_in_a_jittered_sheet(size, cells):
    """A sheet over the whole canvas in triangles of any size, from parts of a pixel to 100 px: every pixel is hit."""
    x, y = np.meshgrid(np.linspace(-5, size + 5, cells + 1), np.linspace(-5, size + 5, cells + 1))
    jitter = 0.3 * (size + 10) / cells * RNG.uniform(-1, 1, (2, *x.shape))
    jitter[:, [0, -1]] = jitter[:, :, [0, -1]] = 0
    vertices = np.stack([x + jitter[0], y + jitter[1], np.full_like(x, 3)], -1).reshape(-1, 3).astype(np.float32)
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    triangles = np.concatenate([np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1]], -1).reshape(-1, 3),
                                np.stack([index[1:, 1:], index[1:, :-1], index[:-1, 1:]], -1).reshape(-1, 3)])
    assert (np.asarray(rasterize(vertices, triangles, height=size, width=size).triangle_id) >= 0).all()


def test_vertices_exactly_on_pixel_centres_leave_no_holes():
    x, y = np.meshgrid(np.arange(17) + 0.5, np.arange(17) + 0.5)
    vertices = np.stack([x, y, np.full_like(x, 2)], -1).reshape(-1, 3).astype(np.float32)
    index = np.arange(17 * 17).reshape(17, 17)
    triangles = np.concatenate([np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1]], -1).reshape(-1, 3),
                                np.stack([index[1:, 1:], index[1:, :-1], index[:-1, 1:]], -1).reshape(-1, 3)])
    assert (np.asarray(rasterize(vertices, triangles, height=17, width=17).triangle_id) >= 0).all()


def test_thin_layers_and_ids_above_sixteen_bits():
    """80 000 triangles: a sheet 1e-4 in front of another at depth 10 hides it everywhere, whichever comes first."""
    side = 141
    x, y = np.meshgrid(np.linspace(-1, 129, side), np.linspace(-1, 129, side))
    index = np.arange(side * side).reshape(side, side)
    sheet = np.concatenate([np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1]], -1).reshape(-1, 3),
                            np.stack([index[1:, 1:], index[1:, :-1], index[:-1, 1:]], -1).reshape(-1, 3)])
    slope = 10 + 0.01 * x
    for front_first in (True, False):
        depths = (slope, slope + 1e-4) if front_first else (slope + 1e-4, slope)
        vertices = np.concatenate([np.stack([x, y, d], -1).reshape(-1, 3) for d in depths]).astype(np.float32)
        triangles = np.concatenate([sheet, sheet + side * side])
        ids = np.asarray(rasterize(vertices, triangles, height=128, width=128).triangle_id)
        assert ((ids < len(sheet)) == front_first).all() and (ids >= 0).all()
    assert ids.max() > 2**16


def test_perspective_interpolation_in_closed_form():
    """An attribute linear in space is recovered from the pixel's own ray, which affine interpolation would miss."""
    size, focal = 32, 40.0
    world = np.array([[-2, -2, 2], [3, -1, 6], [0, 3, 4]], np.float32)
    vertices = np.stack([size / 2 + focal * world[:, 0] / world[:, 2], size / 2 + focal * world[:, 1] / world[:, 2],
                         world[:, 2]], -1)
    triangles = np.array([[0, 1, 2]])
    fragments = rasterize(vertices, triangles, height=size, width=size)
    points = np.asarray(raster.interpolate(fragments, triangles, world))
    hit = np.asarray(fragments.triangle_id) >= 0
    y, x = np.mgrid[:size, :size] + 0.5
    np.testing.assert_allclose(points[..., 2], fragments.depth, rtol=1e-5)
    assert hit.sum() > 100 and (points[~hit] == 0).all()
    for axis, pixel in ((0, x), (1, y)):
        back = size / 2 + focal * points[hit][:, axis] / points[hit][:, 2]
        np.testing.assert_allclose(back, pixel[hit], rtol=1e-4)


def draw(vertices, attributes, triangles, size):
    fragments = raster.rasterize(vertices, triangles, height=size, width=size)
    return jnp.concatenate([raster.interpolate(fragments, triangles, attributes), fragments.depth[..., None]], -1)


@jax.jit
def weighed(vertices, attributes, triangles, weight):
    return jnp.sum(weight * jnp.sin(draw(vertices, attributes, triangles, 20)))


@pytest.mark.parametrize("scene", ["mesh", "soup"])
def test_gradients_to_vertices_and_attributes(scene):
    vertices, triangles = mesh = ball(9, 11, 20, bump=0.1)
    if scene == "soup":  # filled up to the size of the mesh: by vertices of no triangle, and by triangles of one point
        vertices, triangles = (np.concatenate([each, np.zeros((len(other) - len(each), 3), each.dtype)])
                               for each, other in zip(soup(12, 20, 9.0), mesh))
    with jax.enable_x64(True):
        attributes = jnp.asarray(RNG.uniform(0, 1, (len(vertices), 2)))
        vertices, triangles = jnp.asarray(vertices, jnp.float64), jnp.asarray(triangles)
        weight = jnp.asarray(RNG.standard_normal((20, 20, 3)))

        def value(v, a):
            return weighed(v, a, triangles, weight)

        check_grads(value, (vertices, attributes), order=1, modes=["rev"], eps=1e-6, rtol=1e-5)
        assert float(jnp.abs(jax.grad(value)(vertices, attributes)).max()) > 0.01


@pytest.mark.parametrize("leading", [(2, 2)])
def test_any_batch_shape_any_transform(leading):
    """Leading dimensions and (nested) vmap agree with one image at a time, gradients too."""
    size = 24
    vertices, triangles = ball(12, 14, size, bump=0.1)
    vertices = vertices + RNG.uniform(-1, 1, (*leading, *vertices.shape)).astype(np.float32)
    attributes = RNG.uniform(0, 1, (*leading, vertices.shape[-2], 3)).astype(np.float32)
    one = functools.partial(draw, triangles=triangles, size=size)

    def gradient(function):
        def value(v, a):
            out = function(v, a)
            return jnp.sum(jnp.cos(out)), out

        return jax.jit(jax.grad(value, argnums=(0, 1), has_aux=True))

    mapped = one
    for _ in leading:
        mapped = jax.vmap(mapped)
    single = gradient(one)
    flat = zip(vertices.reshape(-1, *vertices.shape[-2:]), attributes.reshape(-1, *attributes.shape[-2:]))
    loop = [single(v, a) for v, a in flat]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(*leading, *leaves[0].shape), *loop)
    for function in (one, mapped):
        for left, right in zip(jax.tree.leaves(gradient(function)(vertices, attributes)), jax.tree.leaves(expected)):
            np.testing.assert_allclose(left, right, atol=1e-4)


def test_eager_is_jit():
    vertices, triangles, height, width = SCENES["coarse mesh"]
    eager = raster.rasterize(vertices, triangles, height=height, width=width)
    jitted = rasterize(vertices, triangles, height=height, width=width)
    np.testing.assert_array_equal(eager.triangle_id, jitted.triangle_id)


def test_vmap_over_triangles():
    vertices, triangles = ball(8, 9, 24)
    several = np.stack([triangles, np.roll(triangles, 5, 0), triangles[:, [1, 2, 0]]])
    function = functools.partial(raster.rasterize, height=24, width=24)
    one = jax.jit(function)
    expected = [one(vertices, t).depth for t in several]
    mapped = jax.jit(jax.vmap(function, (None, 0)))(vertices, several).depth
    np.testing.assert_allclose(mapped, np.stack(expected), atol=1e-6)
    twice = jax.jit(jax.vmap(jax.vmap(function, (0, None)), (None, 0)))
    both = twice(np.stack([vertices, vertices + 1]), several).depth
    np.testing.assert_allclose(both[:, 0], np.stack(expected), atol=1e-6)


def test_one_image_does_not_depend_on_its_neighbours():
    vertices, triangles, height, width = SCENES["fine mesh"]
    crowd = np.stack([vertices, *(vertices * np.float32([s, s, 1]) for s in (0.2, 3.0, 9.0))])
    alone = rasterize(vertices, triangles, height=height, width=width)
    first = rasterize(crowd, triangles, height=height, width=width)
    np.testing.assert_array_equal(first.triangle_id[0], alone.triangle_id)


def degenerate(name):
    vertices, triangles = ball(6, 7, 16)
    if name == "zero area":
        vertices[triangles[3]] = vertices[triangles[3][0]]
        triangles[0] = triangles[0, 0]
    elif name == "all on one point":
        vertices[:] = vertices[0]
    elif name == "behind":
        vertices[:, 2] *= -1
    elif name == "across the camera":
        vertices[::3, 2] = -1
    elif name == "at the camera":
        vertices[::2, 2] = 0
    elif name == "off the canvas":
        vertices[:, 0] += 1000
    elif name == "far too large":
        vertices[:, :2] = (vertices[:, :2] - 8) * 1e6
    elif name == "infinite":
        vertices[::5, 0], vertices[1::5, 2] = np.inf, np.nan
    return vertices, triangles


@jax.jit
def squared(vertices, attributes, triangles):
    def value(v, a):
        out = draw(v, a, triangles, 16)
        return jnp.sum(out * out), out

    gradients, out = jax.grad(value, argnums=(0, 1), has_aux=True)(vertices, attributes)
    return out, gradients


@pytest.mark.parametrize("name", ["zero area", "all on one point", "behind", "across the camera", "at the camera",
                                  "off the canvas", "far too large", "infinite"])
def test_degenerate_input_stays_finite(name):
    vertices, triangles = degenerate(name)
    attributes = RNG.uniform(0, 1, (len(vertices), 3)).astype(np.float32)

    out, gradients = squared(vertices, attributes, triangles)
    assert np.isfinite(out).all() and all(np.isfinite(g).all() for g in gradients)
    if name in ("behind", "off the canvas", "all on one point"):
        assert (np.asarray(out) == 0).all() and all((np.asarray(g) == 0).all() for g in gradients)


def test_no_triangles_and_no_vertices():
    fragments = raster.rasterize(jnp.zeros((2, 4, 3)), jnp.zeros((0, 3), jnp.int32), height=5, width=6)
    assert fragments.barycentric.shape == (2, 5, 6, 3) and (np.asarray(fragments.triangle_id) == -1).all()
    assert raster.interpolate(fragments, jnp.zeros((0, 3), jnp.int32), jnp.zeros((4, 7))).shape == (2, 5, 6, 7)
    assert raster.rasterize(jnp.zeros((0, 3)), jnp.zeros((0, 3), jnp.int32), height=2, width=2).depth.shape == (2, 2)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="vertices_px: expected shape"):
        raster.rasterize(jnp.zeros((4, 2)), jnp.zeros((1, 3), jnp.int32), height=4, width=4)
    with pytest.raises(ValueError, match="height, width: expected at least 1 pixel"):
        raster.rasterize(jnp.zeros((4, 3)), jnp.zeros((1, 3), jnp.int32), height=0, width=4)


def test_culling_keeps_one_side():
    square = np.array([[1, 1, 2], [31, 1, 2], [1, 31, 2]], np.float32)
    seen = [[(np.asarray(rasterize(square, np.array([t]), height=32, width=32, cull_back=cull).triangle_id) >= 0).any()
             for cull in (False, True)] for t in ((0, 1, 2), (0, 2, 1))]
    assert seen == [[True, True], [True, False]]


def test_vertex_visibility_of_a_ball():
    vertices, triangles = ball(40, 60, 96)
    fragments = rasterize(vertices, triangles, height=96, width=96)
    seen = np.asarray(jax.jit(raster.vertex_visibility)(vertices, fragments))
    limb = np.sqrt(6**2 - 1)  # tangent rays touch the ball at this distance, at this depth: limb^2 / 6
    assert seen[vertices[:, 2] < limb**2 / 6 - 0.25].all()
    assert not seen[vertices[:, 2] > limb**2 / 6 + 0.25].any()
    behind = dataclasses.replace(fragments, depth=jnp.zeros_like(fragments.depth) + 0.5)
    behind = dataclasses.replace(behind, triangle_id=jnp.zeros_like(fragments.triangle_id))
    assert not np.asarray(raster.vertex_visibility(vertices, behind)).any()


def test_no_second_trace():
    traces = []

    @jax.jit
    def value(v, t):
        traces.append(1)
        return raster.rasterize(v, t, height=16, width=16).depth

    for seed in range(3):
        value(*soup(10, 16, 4.0, seed=seed))
    assert len(traces) == 1


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 1), st.floats(0.5, 30.0))
def test_any_triangles_match_the_slow_z_buffer(seed, extent):
    """Soups of 24 triangles of any size, some with corners behind the camera or without area."""
    vertices, triangles = soup(24, 20, extent, seed=seed)
    rng = np.random.default_rng(seed)
    vertices[rng.random(len(vertices)) < 0.05, 2] *= -1
    triangles[rng.random(len(triangles)) < 0.1, 2] = triangles[0, 0]
    seen = rasterize(vertices, triangles, height=20, width=20)
    ids, depth, sure = reference(vertices, triangles, 20, 20)
    np.testing.assert_array_equal(np.asarray(seen.triangle_id)[sure], ids[sure])
    np.testing.assert_allclose(np.asarray(seen.depth)[sure], depth[sure], rtol=1e-4, atol=1e-5)
    hit = np.asarray(seen.triangle_id) >= 0
    np.testing.assert_allclose(np.asarray(seen.barycentric)[hit].sum(-1), 1.0, atol=1e-5)
