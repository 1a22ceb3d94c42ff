"""What the generator's edit shows that a photo's moved and relit pixels lack.

    seen:      edited = E(photo) + trust * A * 0.75 * low(G(w') - E(G(w)))
    hidden:    edited = G(w')                                                as far as trust * A goes
    outlines:  edited = G(w')                                                where trust is nearly all

E moves and relights pixels, G(w) is the portrait as the generator gives it back, G(w') the generator's edit of it. A is
where both show the same part of the person: well within the face, and within the person's outline where the head
keeps its pose and E moves little. Elsewhere the two may disagree on what is head, and half of each would show two
heads. So around a turned face, where the two are apart, the generator's picture is taken whole or not at all; only
between the two trusts of `_FULL_TRUST` are they mixed.

A generator that gives a photo back knows shape and light of an edit better than the fitted face, but not the photo's
detail: where the photo shows a pixel the broad band follows the generator, and the fine one is the photo's. Both are
estimates with errors of their own, so most of the way is better than all of it. With all of the way and all bands this
is G(w') + E(photo - G(w)), the residual carried along, as in HFGI (arXiv 2109.06590). Where the generator's edit is
what E makes of G(w), every pixel stays what it was.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from pie_jax.arrays import Array
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import Pack
from pie_jax.photo.composite import packed_portrait
from pie_jax.photo.layers import Correction, Layers, edit_layers
from pie_jax.photo.maps import centres, pack_image, sample, unpacked
from pie_jax.photo.windows import narrowest, odd, widest, window_mean
from pie_jax.programs import kept

_WAY = 0.75  # from the moved photo's broad band to the generator's
_BROAD = 5 / 512  # portraits: a window's side; three of them are a Gaussian of about 2.5/512
_OUTLINE = 9 / 512  # portraits: so near to the person's outline the correction fades out
_MUCH = 6 / 512  # portraits: a motion after which outlines may disagree
_WITHIN = 21 / 512  # portraits: the window that must be the face's around what is well within it
_HIDDEN = 5 / 512  # portraits: over so much hidden parts begin
_APART = 0.04  # of 0..1: broad bands that differ by more show other outlines
_AROUND = 11 / 512  # portraits: the window around such a difference
_FULL_TRUST = (0.8, 0.95)  # the trust from which other outlines begin to be the generator's, and at which they are
_LEAST = 1 / 510  # half a level of a picture


def corrected(pack: Pack, layers: Layers, target: FaceParams, *, before: np.ndarray, after: np.ndarray,
              place: np.ndarray, trust: float) -> Layers:
    """`layers`, of the edit to `target` [n], with what the generator's edit shows and they lack.

    before, after: what the generator gives back and its edit, uint8 [H, W, 3]. place [2, 3]: from 0..1 of the edited
    portrait to 0..1 of `after`, for the generator may frame a moved head otherwise. trust: 0..1, of `generator_trust`.
    """
    size = layers.prepared.matte.shape[0]
    shown, edited = (np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
                     for image in (before, after))
    given_back = dataclasses.replace(layers.prepared, portrait=jnp.asarray(pack_image(shown)),
                                     small=jnp.moveaxis(jnp.asarray(shown), -1, 0) / np.float32(255.0))
    found = _correction(layers, packed_portrait(_as_maps(layers)),
                        packed_portrait(edit_layers(pack, given_back, target)), jnp.asarray(pack_image(edited)),
                        jnp.asarray(place, jnp.float32), jnp.float32(trust), jnp.float32(_keeps_pose(layers, target)))
    return dataclasses.replace(layers, correction=found)


def _keeps_pose(layers: Layers, target: FaceParams) -> bool:
    own = layers.prepared.source_face.params
    return all(np.array_equal(getattr(own, field), getattr(target, field)) for field in ("rotation", "translation"))


def _as_maps(layers: Layers) -> Layers:
    """`layers` of a portrait as small as its maps."""
    prepared = layers.prepared
    if prepared.portrait.shape == prepared.matte.shape:
        return layers
    small = np.round(np.moveaxis(np.asarray(prepared.small), 0, -1) * 255.0).astype(np.uint8)
    return dataclasses.replace(layers, prepared=dataclasses.replace(prepared, portrait=jnp.asarray(pack_image(small))))


@kept(level=3)
def _correction(layers: Layers, moved, given_back, after, place, trust, keeps_pose) -> Correction:
    """What is added to the `moved` portrait E(photo).

    moved, given_back, after [R, R], packed: E(photo), E(G(w)) and the generator's edit G(w'). keeps_pose: 0 or 1.
    """
    size = moved.shape[0]
    x, y = (along / size for along in centres(size))
    at = [size * (place[i, 0] * x + place[i, 1] * y + place[i, 2]) for i in range(2)]
    own, shown, edited = (jnp.stack([unpacked(image, i) / 255.0 for i in range(3)])
                          for image in (moved, given_back, after))
    edited, motion = sample(edited, *at), layers.motion
    matte = sample(layers.prepared.matte, *motion.sources())
    person = jnp.clip(2.0 * _mean(_mean(matte, _OUTLINE), _OUTLINE) - 1.0, 0.0, 1.0)
    still = jnp.clip(1.0 - jnp.hypot(*motion.displacement) / (_MUCH * size), 0.0, 1.0)
    face = narrowest((motion.face > 0) & (matte > 0.5), odd(_WITHIN * size))
    face = _mean(_mean(face.astype(jnp.float32), _WITHIN / 3), _WITHIN / 3)
    share = trust * jnp.maximum(face, keeps_pose * person * still) * layers.prepared.within
    broad = edited - shown
    for _ in range(3):  # three boxes are nearly a Gaussian
        broad = jnp.stack([_mean(plane, _BROAD) for plane in broad])
    hidden = _mean(1.0 - motion.seen, _HIDDEN)[None]
    added = share[None] * (_WAY * broad + hidden * (edited - own - _WAY * broad))
    low, high = _FULL_TRUST
    outlines = jnp.clip((trust - low) / (high - low), 0.0, 1.0) * (1.0 - keeps_pose) * (1.0 - still) * (1.0 - share)
    outlines *= _apart(own, edited) * layers.prepared.within
    added += outlines[None] * (edited - own - added)
    share += outlines
    return Correction(planes=jnp.where(jnp.abs(added) > _LEAST, added, 0.0), share=share)


def _apart(one: Array, other: Array) -> jax.Array:
    """[R, R] 0..1: where the broad bands of two images [3, R, R] differ as those of other outlines do."""
    size = one.shape[-1]
    difference = jnp.stack([_mean(_mean(plane, _BROAD), _BROAD) for plane in other - one])
    differs = widest(jnp.max(jnp.abs(difference), axis=0) > _APART, odd(_AROUND * size))
    return _mean(_mean(differs.astype(jnp.float32), _AROUND), _AROUND)


def _mean(plane: Array, side: float) -> jax.Array:
    """`plane` [R, R], each pixel the mean of the window around it, `side` portraits wide."""
    return window_mean(plane, odd(side * plane.shape[0]))
