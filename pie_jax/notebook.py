"""Portraits in notebooks: edits as a strip of pictures and, where ipywidgets is there, sliders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pie_jax.cli import figures
from pie_jax.errors import PackError
from pie_jax.io import encode_png
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding, PhotoEditor, edit_portrait
from pie_jax.portrait.matching import photo_detail, start_params
from pie_jax.portrait.request import AXES, choose_components
from pie_jax.portrait.synthesis import as_pack

_SLIDERS = ("smile", "jaw_open", "blink", "brow_raise")
_PX = 512  # of the picture beside sliders


class Strip(Sequence):
    """Pictures [H, W, 3] in 0..1 with their labels, in a row; a notebook shows them."""

    def __init__(self, images: Sequence[np.ndarray], labels: Sequence[str]):
        self.images, self.labels = list(images), list(labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images[index]

    def _repr_png_(self) -> bytes:
        tiles = [figures.Tile(image=image, label=label) for image, label in zip(self.images, self.labels, strict=True)]
        return encode_png(figures.grid(tiles, columns=min(len(tiles), 6)))


def show_edits(pack: Pack | str | os.PathLike, embedding: Embedding,
               requests: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> Strip:
    """Edits of an embedding, the portrait itself first.

    requests: arguments of `edit_portrait`, by the labels they are shown with, or a list of them. Errors: as there.
    """
    pack = as_pack(pack)
    named = requests if isinstance(requests, Mapping) else {_words(request): request for request in requests}
    images = [edit_portrait(pack, embedding), *(edit_portrait(pack, embedding, **each) for each in named.values())]
    return Strip(images, ["portrait", *named])


def sliders(pack: Pack | str | os.PathLike, embedding: Embedding, *,
            components: Sequence[str] = _SLIDERS) -> Any:
    """Sliders for pose and some expression components over the edited portrait: a widget of ipywidgets.

    PackError: ipywidgets is not installed. UsageError: unknown component.
    """
    try:
        import ipywidgets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise PackError("sliders need ipywidgets; install it with: pip install ipywidgets, or use pie view") from None
    pack = as_pack(pack)
    components = choose_components(pack, components)
    start = start_params(pack.manifest, embedding, None)
    if start is None:
        raise PackError(f"{pack.name}: the embedding knows no face parameters; embed it with a pack that has a "
                        "regressor")
    photo = embedding.photo if photo_detail(pack.manifest, embedding, None) == 1.0 else None
    editor = PhotoEditor(pack, photo, size=_PX, embedding=embedding) if photo is not None else None
    names = list(pack.morphable.expression_names)
    controls = {name: ipywidgets.FloatSlider(float(np.degrees(start.rotation[AXES.index(name)])), min=-40, max=40,
                                             description=name) for name in ("yaw", "pitch", "roll")}
    controls |= {name: ipywidgets.FloatSlider(float(start.expression[names.index(name)]), min=-3, max=4, step=0.05,
                                              description=name) for name in components}
    picture = ipywidgets.Image(format="png", width=_PX)

    def draw(_: Any = None) -> None:
        request: dict[str, Any] = {name: controls[name].value for name in ("yaw", "pitch", "roll")}
        request["expression"] = {name: controls[name].value for name in components}
        image = editor.edit(**request) if editor is not None else edit_portrait(pack, embedding, **request)
        picture.value = encode_png(image, effort=1)

    for control in controls.values():
        control.observe(draw, "value")
    draw()
    return ipywidgets.HBox([picture, ipywidgets.VBox(list(controls.values()))])


def _words(request: Mapping[str, Any]) -> str:
    """A request as a label."""
    words = []
    for name, value in request.items():
        if isinstance(value, Mapping):
            words += [f"{each} {number:+g}" for each, number in value.items()]
        elif isinstance(value, int | float):
            words.append(f"{name} {value:+g}")
        else:
            words.append(name)
    return ", ".join(words) or "portrait"
