"""Morphable models: `python -m converters.morphable FILE --pack DIR`, one module a family of files.

    bfm      Deep3D's BFM_model_front.mat, the Basel Face Model 2009 (01_MorphableModel.mat)
    basel    Basel Face Model 2017 and 2019 (.h5)
    flame    FLAME 2017 to 2023 (.pkl)
    ict      ICT-FaceKit's folder of .obj

All become what Deep3D's renderer uses: decimetres, x right in the image, y up, z towards the camera; bases times their
standard deviations; 80 identity, 64 expression and 80 texture components, cut where a model has more and padded with
zeros where it has fewer; 66 landmark vertices. A model without colours gets one even skin colour.

--check REFERENCE.npz: `identity` [B, 80], `expression` [B, 64], `texture` [B, 80] (absent ones are 0), and `vertices`
[B, V, 3], `albedo` [B, V, 3] or `landmarks` [B, 66, 3] of model space.
"""

from converters.morphable.command import convert, forward, main, recognise

__all__ = ["convert", "forward", "main", "recognise"]
