"""Made people at the size of photographs: an edit of their picture against the same edit done to the person.

The truth turns the head where it is: a photograph's frame does not follow the face. The generator's portraits do; it
is compared with a truth that is framed anew, as in `benchmarks.quality`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.photo.measure import psnr, to_image
from benchmarks.quality.edits import Edit, true_scene
from benchmarks.quality.portraits import Portrait, Truth
from pie_jax.pack import Pack
from pie_jax.photo.align import whole
from pie_jax.photo.detect import find_faces
from pie_jax.portrait import PhotoEditor, edit_portrait, embed_portraits
from pie_jax.portrait.face_points import fit_face
from pie_jax.portrait.request import AXES
from pie_jax.studio.drawing import render_scenes
from pie_jax.studio.family import scenes_of_seeds
from pie_jax.studio.names import EXPRESSION_NAMES

EDITS = {"yaw": (Edit(quantity="yaw", asked=-15.0), Edit(quantity="yaw", asked=15.0)),
         "light": (Edit(quantity="azimuth", asked=-45.0), Edit(quantity="azimuth", asked=45.0)),
         "jaw_open": (Edit(quantity="jaw_open", asked=1.5),), "smile": (Edit(quantity="smile", asked=1.5),),
         "blink": (Edit(quantity="blink", asked=2.0),)}
_SAME = 30.0  # dB: a person who shows already what is asked says nothing of the edit
_MOUTH = slice(48, 66)  # of the landmarks
_MARGIN = 0.35  # around their box, in its width: the region of an open mouth


def measure(pack: Pack, head, *, count: int, resolution: int) -> Iterator[tuple]:
    """(row, pictures [portrait, edited, truth]) of each of `count` people and each edit."""
    small = pack.configs.generator.resolution
    for seed in range(count):
        scene = scenes_of_seeds([seed], head=head)
        person = Portrait(seed=seed, scene=scene, **vars(drawn(head, scene, resolution)))
        faces = find_faces(pack, to_image(person.image))
        if not faces:
            yield {"kind": "studio", "seed": seed, "edit": "", "found": False}, ()
            continue
        photo = fit_face(pack, to_image(person.image), whole((resolution, resolution)), faces[0].landmarks)
        shrunk = np.asarray(to_image(person.image).resize((small, small), Image.Resampling.LANCZOS), np.float32)
        embedding = embed_portraits(pack, shrunk[None] / 255.0, landmarks=[photo.landmarks])[0]
        for name, edits in EDITS.items():
            for edit in edits:
                row, shown = _row(pack, head, person, photo, embedding, name, edit)
                if row["unedited_db"] < _SAME:
                    yield row, shown


def _row(pack, head, person, photo, embedding, name: str, edit: Edit):
    resolution = person.image.shape[0]
    scene = true_scene(head, person.scene, edit)
    framed = drawn(head, scene, resolution)
    kept = dataclasses.replace(scene.params, translation=person.scene.params.translation)
    truth = framed if edit.control != "pose" else drawn(head, dataclasses.replace(scene, params=kept), resolution)
    edited = PhotoEditor(pack, photo, embedding=embedding).edit(**request_of(edit, photo, person)) / 255.0
    unedited = _region_psnr(person.image, truth, name)
    painted = edit_portrait(pack, embedding, detail=0.0, **edit.request)
    large = np.asarray(to_image(painted).resize((resolution, resolution), Image.Resampling.BICUBIC)) / 255.0
    row = {"kind": "studio", "seed": person.seed, "edit": edit.name, "of": name, "found": True,
           "landmarks_by": photo.landmarks_by,
           "unedited_db": unedited, "gain_db": _region_psnr(edited, truth, name) - unedited,
           "over_generator_db": _region_psnr(edited, truth, name) - _region_psnr(large, framed, name)}
    return row, (person.image, edited, truth.image)


def drawn(head, scene, resolution: int) -> Truth:
    """Scene [1] as the studio draws it at this size."""
    seen = render_scenes(head, scene, resolution=resolution)
    return Truth(image=np.clip(np.asarray(seen.images[0]), 0, 1), coverage=np.asarray(seen.coverage[0]),
                 landmarks=np.asarray(seen.landmarks[0]))


def request_of(edit: Edit, photo, person) -> dict:
    """The edit as a change of what the fit found: what is measured is the picture, not the fit's zero."""
    if edit.control == "illumination":
        return edit.request
    found, true = (_value(params, edit) for params in (photo.params, person.scene.params))
    value = found + edit.asked - true
    return {edit.quantity: value} if edit.control == "pose" else {"expression": {edit.quantity: value}}


def _value(params, edit: Edit) -> float:
    """The quantity of an edit in FaceParams [n] or [1, n]: degrees or standard deviations."""
    if edit.control == "pose":
        return float(np.degrees(np.ravel(params.rotation)[AXES.index(edit.quantity)]))
    return float(np.ravel(params.expression)[EXPRESSION_NAMES.index(edit.quantity)])


def _region_psnr(image, truth, name: str) -> float:
    region = truth.coverage > 0.5
    if name in ("jaw_open", "smile"):
        low, high = truth.landmarks[_MOUTH].min(axis=0), truth.landmarks[_MOUTH].max(axis=0)
        margin = _MARGIN * (high[0] - low[0])
        y, x = np.mgrid[:region.shape[0], :region.shape[1]]
        near = (np.stack([x, y], -1) > low - margin) & (np.stack([x, y], -1) < high + margin)
        region = region & near.all(axis=-1)
    return psnr(image, truth.image, region)
