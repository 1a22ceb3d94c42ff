"""The one registry of the parts of a pack: what each is, what it serves, what makes it. Imports no JAX.

A new part is one entry here and one network file. Everything that lists parts reads `PARTS`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from pie_jax.config import (
    CONTROLS,
    DFRConfig,
    EncoderConfig,
    GeneratorConfig,
    GraphConfig,
    LandmarkConfig,
    MouthConfig,
    RegressorConfig,
    RigNetConfig,
    VGGConfig,
)

Shapes = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a pack."""

    name: str
    use: str  # what it is for
    disables: str  # the terms of the energy and the edits that there are not without it
    published: str  # owner and repository or page, and the file
    licence: str  # of what is published there; a part of our own training has the project's
    command: str  # what makes or converts the part
    config: type | None = None  # the config of its network; None: the part is no network
    network: str = ""  # "module:class" of its Linen module; "": `pack.schema` composes it
    inputs: Callable[[Any], Shapes] = lambda config: ()  # config -> shapes of the module's inputs, batch 1
    in_hash: bool = True  # of the pack; False: a code means the same without it
    precomputes: bool = False  # a step calls it again and again: values of its weights alone are made once
    terms: tuple[str, ...] = ()  # terms of the energy that cannot be computed without it
    edits: tuple[str, ...] = ()  # controls that cannot be edited without it

    def module(self, config: Any) -> Any:
        """The Linen module of `network` with its config."""
        room, name = self.network.split(":")
        return getattr(importlib.import_module(room), name)(config)


def _image(config: Any) -> Shapes:
    return ((1, config.resolution, config.resolution, 3),)


def _code(config: Any) -> Shapes:
    return ((1, config.num_layers, config.w_dim),)


_TRAINED_HERE = "nobody that is known here: train it"
_OURS = "that of what it was trained with"
_WORDS = {"pose": "pose", "expression": "expression", "illumination": "light"}
_ENTRIES = (
    Part(
        name="generator", config=GeneratorConfig, terms=("synthesis",), edits=CONTROLS,
        use="embed, edit", disables="everything",
        published="NVlabs/stylegan2-ada-pytorch, NVlabs/stylegan, rosinality/stylegan2-pytorch (GitHub): FFHQ networks",
        licence="Nvidia Source Code License or CC BY-NC 4.0: not for commercial use",
        command="python -m converters.stylegan FILE --pack DIR"),
    Part(
        name="regressor", config=RegressorConfig, network="pie_jax.nn.regressor:Regressor", inputs=_image,
        precomputes=True,
        terms=("identity", "edit", "invariance"),
        use="edit, terms edit, identity, invariance", disables="terms edit, identity, invariance; all edits, training",
        published="sicxu/Deep3DFaceRecon_pytorch (GitHub): epoch_20.pth", licence="MIT",
        command="python -m converters.regressor FILE --pack DIR"),
    Part(
        name="landmarks", config=LandmarkConfig, network="pie_jax.nn.landmarks:LandmarkNet", inputs=_image,
        terms=("edit", "invariance"),
        use="landmark error, terms edit, invariance", disables="terms edit, invariance; the pool, training of rigs",
        published="1adrianb/face-alignment (GitHub): 2DFAN4", licence="BSD-3-Clause",
        command="python -m converters.landmarks FILE --pack DIR"),
    Part(
        name="perceptual", config=VGGConfig, network="pie_jax.nn.vgg:VGG", inputs=_image, precomputes=True,
        use="term synthesis", disables="the perceptual part of term synthesis (its pixel part stays)",
        published="pytorch/vision: vgg16-397923af.pth; richzhang/PerceptualSimilarity: lpips/weights/v0.1/vgg.pth",
        licence="BSD-3-Clause; BSD-2-Clause",
        command="python -m converters.vgg FILE --pack DIR"),
    Part(
        name="recognition", config=VGGConfig, network="pie_jax.nn.vgg:VGG", inputs=_image, precomputes=True,
        terms=("recognition",),
        use="identity cosine, term recognition", disables="term recognition, the identity figure",
        published="robots.ox.ac.uk/~vgg/software/vgg_face (Oxford), albanie/pytorch-mcn (vgg_face_dag.pth)",
        licence="CC BY-NC 4.0: not for commercial use",
        command="python -m converters.vgg FILE --pack DIR"),
    Part(
        name="dfr", config=DFRConfig, network="pie_jax.nn.rignet:DFR", inputs=_code,
        use="training of rigs", disables="training of rigs; embed asks the regressor instead, which is slower",
        published=_TRAINED_HERE, licence=_OURS, command="python -m pie_jax.training.dfr --pack DIR"),
    *(Part(
        name=f"rignet_{control}", config=RigNetConfig, edits=(control,),
        use=f"edits of {word}", disables=f"edits of {word}, and this control in the terms edit, identity, invariance",
        published=_TRAINED_HERE, licence=_OURS,
        command=f"python -m pie_jax.training.rignet --pack DIR --control {control}")
      for control, word in _WORDS.items()),
    *(Part(
        name=name, config=GraphConfig, network="pie_jax.nn.graph:Graph", inputs=_image, in_hash=False, use=use,
        disables=disables,
        published=f"google-ai-edge/mediapipe (GitHub): {file}", licence="Apache-2.0",
        command="python -m converters.tflite FILE --pack DIR")
      for name, file, use, disables in (
          ("face_detector", "face_detection_short_range.tflite", "finding the faces of a photo",
           "alignment: photos must be framed already"),
          ("face_mesh", "face_landmark_with_attention.tflite", "478 points of a photo's face",
           "photos edited as photos: the generator alone paints them"),
          ("person_matte", "selfie_segmentation.tflite", "who is the person and what the background of a photo",
           "light that stays off the background"))),
    Part(
        name="face_descriptor", config=GraphConfig, network="pie_jax.nn.graph:Graph", inputs=_image, in_hash=False,
        use="the judge of identity on photographs (benchmarks.photo)", disables="identity figures of photographs",
        published="vladmandic/human (GitHub): models/faceres.json, faceres.bin", licence="Apache-2.0",
        command="python -m converters.tfjs FILE --pack DIR"),
    Part(
        name="mouth", config=MouthConfig, network="pie_jax.nn.mouth:MouthNet", in_hash=False,
        inputs=lambda config: ((1, config.height, config.width, 3), (1, config.height, config.width, 1)),
        use="teeth and tongue where an edit opens a photo's mouth",
        disables="open mouths of photos: lips are stretched over them",
        published=_TRAINED_HERE, licence=_OURS,
        command="python -m pie_jax.training.mouth --photos FOLDER --pack DIR"),
    Part(
        name="encoder", config=EncoderConfig, network="pie_jax.nn.encoder:Encoder", in_hash=False,
        inputs=lambda config: (*2 * _image(config), *_code(config)),
        use="the first guess of a portrait's code", disables="presets that start from a guess: the search is longer",
        published=_TRAINED_HERE, licence=_OURS, command="python -m pie_jax.training.encoder --pack DIR"),
    Part(
        name="morphable", terms=("edit", "invariance"),
        use="embed, edit, rendering",
        disables="terms edit, invariance; edits of expression by name, rendering, training of rigs",
        published="faces.dmi.unibas.ch (Basel Face Model, by request), flame.is.tue.mpg.de, ICT-VGL/ICT-FaceKit",
        licence="by agreement, not for commercial use (Basel, FLAME); MIT (ICT-FaceKit light)",
        command="python -m converters.morphable FILE --pack DIR"),
    Part(
        name="pool", terms=("edit", "invariance"),
        use="terms edit, invariance, recognition", disables="terms edit, invariance; recognition of edited portraits",
        published="nobody: it is made from the pack's own networks", licence=_OURS,
        command="python -m pie_jax.tuning.pool --pack DIR"),
)
PARTS: dict[str, Part] = {part.name: part for part in _ENTRIES}


def is_network(name: str) -> bool:
    """Whether the part is a network's weights."""
    return PARTS[name].config is not None


def needs_of(term: str) -> list[str]:
    """The parts without which a term of the energy cannot be computed."""
    return [name for name, part in PARTS.items() if term in part.terms]
