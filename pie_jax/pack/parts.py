"""What every part of a pack is for, and where its owner publishes weights for it. Nothing is ever downloaded."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One part of a pack."""

    use: str  # what it is for
    disables: str  # the terms of the energy and the edits that there are not without it
    published: str  # owner and repository or page, and the file
    command: str  # what makes the part


CATALOGUE = {
    "generator": Entry(
        use="embed, edit", disables="everything",
        published="NVlabs/stylegan2-ada-pytorch, NVlabs/stylegan, rosinality/stylegan2-pytorch (GitHub): FFHQ networks",
        command="python -m converters.stylegan FILE --pack DIR"),
    "morphable": Entry(
        use="embed, edit, rendering",
        disables="terms edit, invariance; edits of expression by name, rendering, training of rigs",
        published="faces.dmi.unibas.ch (Basel Face Model, by request), flame.is.tue.mpg.de, ICT-VGL/ICT-FaceKit",
        command="python -m converters.morphable FILE --pack DIR"),
    "regressor": Entry(
        use="edit, terms edit, identity, invariance", disables="terms edit, identity, invariance; all edits, training",
        published="sicxu/Deep3DFaceRecon_pytorch (GitHub): epoch_20.pth",
        command="python -m converters.regressor FILE --pack DIR"),
    "landmarks": Entry(
        use="landmark error, terms edit, invariance", disables="terms edit, invariance; the pool, training of rigs",
        published="1adrianb/face-alignment (GitHub): 2DFAN4",
        command="python -m converters.landmarks FILE --pack DIR"),
    "perceptual": Entry(
        use="term synthesis", disables="the perceptual part of term synthesis (its pixel part stays)",
        published="pytorch/vision: vgg16-397923af.pth; richzhang/PerceptualSimilarity: lpips/weights/v0.1/vgg.pth",
        command="python -m converters.vgg FILE --pack DIR"),
    "recognition": Entry(
        use="identity cosine, term recognition", disables="term recognition, the identity figure",
        published="robots.ox.ac.uk/~vgg/software/vgg_face (Oxford), albanie/pytorch-mcn (vgg_face_dag.pth)",
        command="python -m converters.vgg FILE --pack DIR"),
    "pool": Entry(
        use="terms edit, invariance, recognition", disables="terms edit, invariance; recognition of edited portraits",
        published="nobody: it is made from the pack's own networks",
        command="python -m pie_jax.tuning.pool --pack DIR"),
    "dfr": Entry(
        use="training of rigs", disables="training of rigs; embed asks the regressor instead, which is slower",
        published="nobody that is known here: train it",
        command="python -m pie_jax.training.dfr --pack DIR"),
    **{f"rignet_{control}": Entry(
        use=f"edits of {word}", disables=f"edits of {word}, and this control in the terms edit, identity, invariance",
        published="nobody that is known here: train it",
        command=f"python -m pie_jax.training.rignet --pack DIR --control {control}")
       for control, word in (("pose", "pose"), ("expression", "expression"), ("illumination", "light"))},
}
