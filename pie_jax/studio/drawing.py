"""Scenes to pixels: vertices of a whole scene, spherical-harmonic light, 2 x 2 supersampling."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.face3d.geometry import px_from_world, rotation_matrix
from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import irradiance
from pie_jax.studio.head import EXPRESSION_NAMES, FULL, NECK_PIVOT, Head
from pie_jax.studio.scene import STUDIO_CAMERA, Scene
from pie_jax.studio.surface import EYEBALL_RADIUS
from pie_jax.studio.zbuffer import nearest_triangles

BLINK, BLINK_FULL = EXPRESSION_NAMES.index("blink"), FULL["blink"]
LID_THICKNESS = 0.008
BODY_TURN = 0.35  # share of the head's rotation that the shoulders follow


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneRendering:
    """What the studio's camera saw of B scenes, H = W = resolution."""

    images: Array  # [B, H, W, 3] float32, 0..1
    coverage: Array  # [B, H, W] float32, share of the pixel that shows the morphable model's skin
    segments: Array  # [B, H, W] uint8, index into SEGMENTS of what fills most of the pixel
    landmarks: Array  # [B, 66, 2] pixels of this resolution, first centre at 0.5
    params: FaceParams  # [B, ...] the truth


def scene_vertices(head: Head, scene: Scene) -> tuple[jax.Array, jax.Array]:
    """(vertices [Vs, 3] in world space, albedo [Vs, 3]) of one scene: morphable, extras, hair."""
    m, x, h, p = head.morphable, head.extras, head.hair, scene.params
    dot = partial(jnp.einsum, "vcn,n->vc", precision=jax.lax.Precision.HIGHEST)
    turn_by = partial(jnp.einsum, "vi,ji->vj", precision=jax.lax.Precision.HIGHEST)
    person = m.mean_shape + dot(m.identity_basis, p.identity)
    face = person + dot(m.expression_basis, p.expression)
    look = rotation_matrix(jnp.stack([-scene.gaze[1], scene.gaze[0], jnp.zeros(())]))
    extras = x.mean_shape + dot(x.identity_basis, p.identity) + dot(x.expression_basis, p.expression)
    for eye in (0, 1):
        own = (x.gaze == eye + 1)[:, None]
        # an eyeball is rigid: where its sphere would pierce the closed lids of this person, it lies deeper
        closed = person[x.lids[eye]] + BLINK_FULL * m.expression_basis[x.lids[eye], :, BLINK]
        moved = (x.identity_basis[x.eye_vertices[eye]] * p.identity[None]).sum(-1)
        centre = x.eye_centres[eye] + moved
        aside = jnp.sum(jnp.square(closed[:, :2] - centre[None, :2]), -1)
        radius = EYEBALL_RADIUS + LID_THICKNESS
        deepest = jnp.min(closed[:, 2] - jnp.sqrt(jnp.maximum(radius**2 - aside, 0.0)))
        centre = centre.at[2].min(deepest)
        local = x.mean_shape - x.eye_centres[eye][None]
        extras = jnp.where(own, turn_by(local, look) + centre[None], extras)
        extras = jnp.where((x.gaze == -eye - 1)[:, None], local + centre[None], extras)  # glints do not turn
    style = scene.hair_style
    rest = jnp.asarray(h.skull)[style]
    locks = rest + (jnp.asarray(h.mean_shape)[style] - rest) * scene.hair_volume
    locks = locks + dot(jnp.asarray(h.identity_basis)[style], p.identity)
    vertices = jnp.concatenate([face, extras, locks])
    weight = jnp.concatenate([jnp.ones(len(m.mean_shape)), x.head_weight, jnp.asarray(h.head_weight)[style]])[:, None]
    turn, body_turn = rotation_matrix(p.rotation), rotation_matrix(BODY_TURN * p.rotation)
    pivot = jnp.asarray(NECK_PIVOT, jnp.float32)
    with_head = turn_by(vertices, turn)
    with_body = turn_by(vertices - pivot[None], body_turn) + turn_by(pivot[None], turn)
    world = weight * with_head + (1.0 - weight) * with_body + p.translation[None]
    colours = jnp.stack([scene.eye_colour, scene.hair_colour, scene.cloth_colour])
    albedo = jnp.concatenate(
        [
            m.mean_albedo + dot(m.texture_basis, p.texture),
            x.mean_albedo
            + dot(x.texture_basis, p.texture)
            + jnp.matmul(x.colour_weights, colours, precision=jax.lax.Precision.HIGHEST),
            jnp.asarray(h.tone)[style][:, None] * scene.hair_colour[None],
        ]
    )
    return world, jnp.clip(albedo, 0.0, 1.2)


def _unit(v):
    return v * jax.lax.rsqrt(jnp.maximum(jnp.sum(v * v, -1, keepdims=True), 1e-20))


def _normals(vertices, triangles, adjacent):
    """Vertex normals from padded lists of adjacent triangles [Vs, A] (padding: index T)."""
    p = vertices[triangles]
    n = _unit(jnp.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]))
    n = jnp.concatenate([n, jnp.zeros((1, 3))])
    return _unit(n[adjacent].sum(1))


def _draw(head: Head, scene: Scene, *, resolution, camera):
    pixels = 2 * resolution
    world, albedo = scene_vertices(head, scene)
    colour = albedo * jnp.maximum(
        irradiance(_normals(world, head.triangles, head.adjacent), scene.params.illumination), 0.0
    )
    px = px_from_world(world, camera, resolution=pixels)
    ids = nearest_triangles(px, head.triangles, head.two_sided, pixels=pixels)
    corner = head.triangles[jnp.maximum(ids, 0)]  # [P, P, 3]
    a, b, c = (px[corner[..., k]] for k in range(3))
    centres = jnp.arange(pixels) + 0.5
    dx, dy = centres[None, :] - a[..., 0], centres[:, None] - a[..., 1]
    ux, uy, vx, vy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1], c[..., 0] - a[..., 0], c[..., 1] - a[..., 1]
    area = ux * vy - vx * uy
    inverse = 1.0 / jnp.where(jnp.abs(area) < 1e-9, 1.0, area)
    w1 = (jnp.clip((dx * vy - vx * dy) * inverse, 0.0, 1.0))[..., None]
    w2 = (jnp.clip((ux * dy - dx * uy) * inverse, 0.0, 1.0))[..., None]
    surface = colour[corner[..., 0]] * (1 - w1 - w2) + colour[corner[..., 1]] * w1 + colour[corner[..., 2]] * w2
    t = (centres / pixels)[:, None, None]
    background = scene.background_top[None, None] * (1 - t) + scene.background_bottom[None, None] * t
    hit = ids >= 0
    image = jnp.where(hit[..., None], surface, jnp.broadcast_to(background, surface.shape))
    shape = (resolution, 2, resolution, 2)
    image = jnp.clip(image, 0.0, 1.0).reshape(*shape, 3).mean((1, 3))
    coverage = (hit & (ids < len(head.morphable.triangles))).reshape(shape).mean((1, 3), dtype=jnp.float32)
    segment = jnp.where(hit, jnp.asarray(head.segments)[jnp.maximum(ids, 0)], 0).astype(jnp.uint8).reshape(shape)
    samples = [segment[:, i, :, j] for i in (0, 1) for j in (0, 1)]
    votes = [sum((s == o).astype(jnp.int8) for o in samples) for s in samples]
    best, most = samples[0], votes[0]
    for s, v in zip(samples[1:], votes[1:]):
        best, most = jnp.where(v > most, s, best), jnp.maximum(v, most)
    landmarks = px[head.morphable.landmark_vertices, :2] / 2.0
    return image, coverage, best, landmarks


@partial(jax.jit, static_argnames=("resolution", "camera"))
def _draw_batch(head, scenes, *, resolution, camera):
    return jax.lax.map(lambda s: _draw(head, s, resolution=resolution, camera=camera), scenes)


def render_scenes(
    head: Head, scenes: Scene, *, resolution: int = 128, camera: CameraConfig = STUDIO_CAMERA
) -> SceneRendering:
    """Portraits of `scenes` (fields [B, ...]) at `resolution` px, drawn at twice that and averaged.

    One compilation for each (B, resolution).
    """
    image, coverage, segment, landmarks = _draw_batch(head, scenes, resolution=resolution, camera=camera)
    return SceneRendering(images=image, coverage=coverage, segments=segment, landmarks=landmarks, params=scenes.params)
