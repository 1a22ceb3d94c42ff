"""Every command of the project: its words after `pie`, its module, and one line of help. Imports nothing heavy."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """One command; `pie WORDS` is `python -m MODULE`."""

    words: tuple[str, ...]
    module: str  # its `main(argv) -> int` is called
    help: str


def _commands(group: str, package: str, helps: dict[str, str]) -> tuple[Command, ...]:
    return tuple(Command(words=(group, name), module=f"{package}.{name}", help=text) for name, text in helps.items())


COMMANDS = (
    Command(words=("embed",), module="pie_jax.embed", help="photos to embeddings"),
    Command(words=("edit",), module="pie_jax.edit", help="an embedding with other pose, expression or light"),
    Command(words=("drive",), module="pie_jax.drive", help="a photo that moves as another person does"),
    Command(words=("view",), module="pie_jax.view", help="portraits on the screen, with sliders"),
    Command(words=("packs",), module="pie_jax.packs.__main__", help="what packs hold, and whether they are whole"),
    *_commands("studio", "pie_jax.studio", {
        "render": "portraits of made people, with their truth",
        "sheet": "people and changes in one picture"}),
    *_commands("train", "pie_jax.training", {
        "demo_pack": "the demo pack from nothing",
        "pack": "a pack of your own photographs",
        "photographs": "photographs to framed portraits, unfit ones sorted out",
        "generator": "StyleGAN2, supervised, decoded or adversarial",
        "regressor": "portrait to face parameters (MoFA)",
        "landmarks": "portrait to 66 landmarks",
        "perceptual": "features of the synthesis term",
        "recognition": "features of the identity",
        "encoder": "a portrait to a first guess of its code",
        "mouth": "insides of mouths, for photos",
        "dfr": "code to face parameters",
        "rignet": "the rig of one control",
        "photograph_page": "samples, nearest pictures and figures of a generator",
        "codes": "codes that DFR and rigs are trained on",
        "studio_data": "studio portraits for supervised training",
        "family_data": "pairs for the generator"}),
    *_commands("tune", "pie_jax.tuning", {
        "pool": "portraits that the energy compares with",
        "balance": "weights of the energy for this pack",
        "calibrate": "how edits answer to what is asked"}),
    *_commands("convert", "converters", {
        "all": "a folder of downloads into one pack",
        "stylegan": "StyleGAN 1 and 2",
        "vgg": "VGG-16, LPIPS, VGG-Face",
        "morphable": "Basel, FLAME, ICT-FaceKit",
        "regressor": "Deep3DFaceRecon",
        "landmarks": "FAN 2D",
        "rignet": "RigNet and DFR",
        "tflite": "MediaPipe's face detector, face mesh, person matte",
        "tfjs": "Human's face descriptor"}),
)
GROUPS = {"studio": "made people with exact truth", "train": "trainings, for any pack",
          "tune": "measure a trained pack and set its numbers", "convert": "published checkpoints into a pack"}
