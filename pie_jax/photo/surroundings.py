"""How the motion of a face is carried on to what is around it: hair, ears, neck, background.

It is found on a map half-way between the photo and the result: there half of a displacement leads to the photo, and
half of it, backward, to the result. So the motion back is the inverse of the motion, whatever the field in between.

- Hair and ears turn with the head (`photo.skull`); shoulders and background stay.
- A smooth field joins them and the mesh. It is a screened Poisson problem, solved from coarse to fine.
- The portrait's frame and the photo's border stay: towards them what moves is squeezed or sheared.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pie_jax.arrays import Absent, Array
from pie_jax.config import CameraConfig
from pie_jax.face3d.morphable import FaceParams
from pie_jax.photo.maps import centres, finer, means, once, sample, smooth_field
from pie_jax.photo.skull import head_motion
from pie_jax.photo.windows import within

COARSER = 4  # the side of a pixel of the map half-way, in pixels of the map
_SURE = 1e3  # how much the field holds to the mesh
_REACH = {"skull": 0.03, "head": 0.1, "still": 0.1}  # in portraits: how far from the mesh the field goes over to the
# skull above the face, to the head beside and below it, and to rest
_ROUNDS = 4  # of search for the place half-way that belongs to a pixel of the result
_STRETCH, _SHEAR = 0.6, 0.95  # of the way to the frame: the longest motion towards it, and along it
_RIM = 8 / 512  # portraits: so much along the photo's border stays as it is
_BORDER = 3  # px of the map half-way: along the mesh's border the field does not hold to it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """For each pixel of the edited portrait, on a map of R px."""

    displacement: Array  # [2, R, R] px: from it to where it comes from, were there neither frame nor border
    half_way: Array  # [2, R, R] px: from it to its place half-way
    border: Array  # [R, R] px: from there to the photo's border


def carried_on(known: Array, visible: Array, drawn: Array, face_px: Array, source: FaceParams, target: FaceParams,
               camera: CameraConfig, *, border: Array | Absent) -> Surroundings:
    """The motion around a mesh that moves from `source` to `target`, FaceParams [n], on a map of R px.

    The first four arrays are on the map half-way, of C = R / `COARSER` px.

    known: [2, C, C] the mesh's displacement, in px of the map of R px.
    visible: [C, C] bool, the mesh is there, and photo and result both show it.
    drawn: [C, C] bool, the mesh is there.
    face_px: [V, 2] the mesh's vertices, px of the map half-way.
    border: [R, R] how far each pixel is from the photo's border, px; None: that is the frame.
    """
    size = drawn.shape[-1]
    skull, head, over = head_motion(face_px, source, target, camera, resolution=size)
    pull = {name: 1.0 / (reach * size) ** 2 for name, reach in _REACH.items()}
    pulled = (pull["head"] * (1 - over) + pull["skull"] * over) * head + pull["still"] * (1 - head)
    sure = once(jnp.where(visible, _SURE * within(visible, _BORDER), jnp.where(drawn, 0.0, pulled)))
    known = once(jnp.where(visible[None], known, COARSER * skull * head[None]))
    field = once(smooth_field(known, sure, coarser=1))

    places = COARSER * jnp.stack(jnp.broadcast_arrays(*centres(size)))
    away = jnp.full((size, size), float(COARSER * size)) if border is None else means(border[None], COARSER)[0]
    known_half_way = jnp.concatenate([field, away[None]])
    read, step = known_half_way, jnp.zeros_like(field)
    for _ in range(_ROUNDS):
        step = _squeezed(read[:2], places, step, read[2], COARSER * size) / 2
        x, y = (places + step) / COARSER
        read = once(sample(known_half_way, x, y))
    large = finer(jnp.concatenate([read[:2], step, read[2:]]), COARSER)
    return Surroundings(displacement=large[:2], half_way=large[2:4], border=large[4])


def framed(displacement: Array, surroundings: Surroundings) -> jax.Array:
    """`displacement` [2, R, R] px with a frame and a photo's border that stay."""
    size = displacement.shape[-1]
    places = jnp.stack(jnp.broadcast_arrays(*centres(size)))
    return _squeezed(displacement, places, surroundings.half_way, surroundings.border, size)


def _squeezed(field, places, step, border, size: int):
    """`field` [2, ...] shorter than the way that there is, half-way, a `step` [2, ...] away from `places` [2, ...].

    size: of the map, px; border [...]: half-way, how far the photo's border is.
    """
    own, middle = (jnp.minimum(at, size - at) for at in (places, places + step))  # to the frame, along x and along y
    room = jnp.clip(middle, 1e-3, own / (1.0 - _STRETCH / 2))  # it cannot be more where the way is half of this motion
    room = jnp.minimum(_STRETCH * room, _SHEAR * room[::-1])
    room = jnp.minimum(room, jnp.maximum(_SHEAR * (border[None] - _RIM * size), 1e-3))
    return field / jnp.power(1.0 + jnp.square(jnp.square(field / room)), 0.25)
