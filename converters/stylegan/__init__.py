"""StyleGAN 1 and 2 of every public layout -> the part "generator".

`python -m converters.stylegan FILE --pack DIR`. The layout is recognised by the names of the tensors, every size is
read from their shapes. One module a layout states its rules; `pie_jax.nn.stylegan1` and `pie_jax.nn.stylegan2` are the
schema they must fill. Layouts: NVIDIA's TensorFlow pickles of both, stylegan2-ada-pytorch and stylegan3-repository
pickles of StyleGAN2, rosinality's of both, genforce's and lernapparat's StyleGAN1.

--check wants an .npz with w_plus [B, L, D] and image [B, R, R, 3] (or [B, 3, R, R]) in about [-1, 1], made with the
constant noise of the file, and / or z [B, Z] and w [B, D].
"""

from converters.stylegan.convert import convert, forward, layout_of, main, recognise

__all__ = ["convert", "forward", "layout_of", "main", "recognise"]
