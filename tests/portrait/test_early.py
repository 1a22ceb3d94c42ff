"""What an embedding has made for the edit that may follow it."""

import jax
import numpy as np
import pytest
import toy

from pie_jax.face3d.morphable import FaceParams
from pie_jax.photo.align import whole
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.portrait import early


@pytest.mark.parametrize("found_by,pixels", [("face_mesh", True), ("user", True), ("landmarks", False)])
def test_pixels_of_a_face_that_the_pack_knows_are_not_prepared_for_edits(monkeypatch, found_by, pixels):
    """Edits of such a face are the generator's (see `portrait.matching`)."""
    begun = []
    monkeypatch.setattr(early, "beside", lambda work: begun.append(work.func))
    image = np.zeros((256, 256, 3), np.uint8)
    photo = FittedPhoto(portrait=image, params=FaceParams.zeros(), landmarks=np.zeros((66, 2), np.float32),
                        matte=image[..., 0], square=whole((256, 256)), size=(256, 256), residual_px=0.5,
                        landmarks_by=found_by)
    early.make_edits_early(toy.toy_pack(jax.random.key(0), parts=("generator",)), photo=photo)
    assert begun == [early._edit_photo] * pixels + [early._make_edits]
