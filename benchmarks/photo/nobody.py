"""Pictures without a face: gradients, noise, textures, text, and studio hair from behind."""

from __future__ import annotations

import string

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_SIZE = 384
KINDS = ("gradient", "noise", "texture", "text", "behind")


def picture(number: int, head) -> tuple[str, Image.Image]:
    """The kind and the picture of a number; the same for the same number. head: of the studio."""
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng(number)
    if kind == "behind":
        return kind, _behind(head, number)
    return kind, {"gradient": _gradient, "noise": _noise, "texture": _texture, "text": _text}[kind](rng)


def _image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))


def _gradient(rng) -> Image.Image:
    corners = rng.uniform(size=(2, 2, 3)).astype(np.float32)
    across = np.linspace(0, 1, _SIZE)[None, :, None]
    down = np.linspace(0, 1, _SIZE)[:, None, None]
    top, bottom = (corners[i, 0] * (1 - across) + corners[i, 1] * across for i in (0, 1))
    return _image(top * (1 - down) + bottom * down)


def _noise(rng) -> Image.Image:
    cells = int(2 ** rng.integers(2, 9))
    small = _image(rng.uniform(size=(cells, cells, 3)))
    return small.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)


def _texture(rng) -> Image.Image:
    y, x = np.mgrid[:_SIZE, :_SIZE] / _SIZE
    value = np.zeros((_SIZE, _SIZE))
    for _ in range(rng.integers(1, 5)):
        angle, waves, phase = rng.uniform(0, np.pi), rng.uniform(2, 40), rng.uniform(0, 6)
        value += np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    dots = np.zeros((_SIZE, _SIZE))
    for _ in range(rng.integers(0, 30)):
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.01, 0.15)
        dots = np.where((x - cx) ** 2 + (y - cy) ** 2 < r * r, rng.uniform(-2, 2), dots)
    mixed = 1 / (1 + np.exp(-(value + dots)))[..., None]
    colours = rng.uniform(size=(2, 3))
    return _image(colours[0] * mixed + colours[1] * (1 - mixed))


def _text(rng) -> Image.Image:
    image = Image.new("RGB", (_SIZE, _SIZE), tuple(int(c) for c in rng.integers(150, 256, 3)))
    draw, y = ImageDraw.Draw(image), 4
    while y < _SIZE:
        size = int(rng.integers(10, 60))
        letters = "".join(rng.choice(list(string.ascii_letters + string.digits + "  ;:()oO.")) for _ in range(40))
        ink = tuple(int(c) for c in rng.integers(0, 120, 3))
        draw.text((4, y), letters, fill=ink, font=ImageFont.load_default(size))
        y += int(1.3 * size)
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2))))


def _behind(head, number: int) -> Image.Image:
    """A person of the studio who has turned away."""
    import jax.numpy as jnp

    from pie_jax.studio.family import scenes_of_seeds
    from pie_jax.studio.render import render_scenes
    from pie_jax.studio.scene import posed

    scene = scenes_of_seeds([number], head=head)
    away = posed(head, scene, jnp.asarray([[0.0, np.pi + 0.2 * np.sin(number), 0.0]], jnp.float32))
    return _image(np.asarray(render_scenes(head, away, resolution=_SIZE // 2).images[0])).resize((_SIZE, _SIZE))
