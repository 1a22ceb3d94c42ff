"""What an embedding has made for the edit that may follow it."""

import dataclasses

import jax
import numpy as np

from pie_jax.photo.composite import edited_photo, packed_portrait
from pie_jax.photo.fitted import stand_in
from pie_jax.photo.layers import sources
from pie_jax.portrait import early
from pie_jax.portrait.photo_edits import PhotoEditor
from pie_jax.programs import Kept, _type_of


def test_a_stand_in_for_a_photo_takes_the_programs_that_its_edits_take(photo_pack, fitted, monkeypatch):
    """The sample photo: none of its first edit's programs is left to make."""
    begun, programs, call = [], set(), Kept.__call__
    monkeypatch.setattr(early, "beside", begun.append)

    def noting(function, *args, **statics):
        programs.add((function.__name__, str(statics), str(list(map(_type_of, jax.tree.leaves(args))))))
        return call(function, *args, **statics)

    monkeypatch.setattr(Kept, "__call__", noting)
    size = fitted.portrait.shape[0]
    early.make_photo_edits_early(photo_pack, size=size)
    (make,) = begun
    make()
    made = set(programs)
    turned = dataclasses.replace(fitted.params, rotation=fitted.params.rotation + np.float32(0.1))
    layers = PhotoEditor(photo_pack, fitted).layers(turned)
    edited_photo(fitted.portrait, stand_in(photo_pack, size), layers)
    packed_portrait(layers), sources(layers)
    assert {name for name, *_ in programs} >= {"_prepared", "_layers", "_tile", "_composed", "sources"}
    assert programs == made
