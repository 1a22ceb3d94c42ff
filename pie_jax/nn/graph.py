"""A feed-forward network that is told as a list of operations: the small face networks of other projects.

    outputs = apply(Graph(config), weights, images)        # one array for each of config.outputs

An operation is a line of text, so that a network stands in a pack's manifest as it is read here:

    12 conv 11 kernel=3x3 stride=2x2 features=24 padding=same

is value 12, a convolution of value 11; value 0 is the image. Convolution kernels are HWIO, depthwise ones HWC.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import GraphConfig
from pie_jax.nn.layers.convolution import DIMENSIONS

ACTIVATIONS = {
    "relu": jax.nn.relu, "relu6": lambda x: jnp.clip(x, 0.0, 6.0), "sigmoid": jax.nn.sigmoid,
    "hard_swish": lambda x: x * jnp.clip(x + 3.0, 0.0, 6.0) / 6.0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """One line of a GraphConfig."""

    number: int  # of the value it makes
    kind: str
    inputs: tuple[int, ...]
    settings: dict[str, str]

    @classmethod
    def parse(cls, line: str) -> Operation:
        """ValueError: not of the form "NUMBER KIND INPUT,... KEY=VALUE ..."."""
        number, kind, inputs, *rest = line.split()
        return cls(number=int(number), kind=kind, inputs=tuple(int(n) for n in inputs.split(",")),
                   settings=dict(word.split("=", 1) for word in rest))

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.settings.items()]
        return " ".join([str(self.number), self.kind, ",".join(str(n) for n in self.inputs), *words])

    def sizes(self, name: str) -> tuple[int, ...]:
        """A setting like "3x3" or "61,146" as numbers."""
        return tuple(int(n) for n in self.settings[name].replace("x", ",").split(","))

    @property
    def padding(self) -> str:
        """As `jax.lax` names it."""
        return self.settings["padding"].upper()


class Graph(nn.Module):
    """images [B, R, R, C] in the range that the network was trained with -> a tuple of its outputs."""

    config: GraphConfig

    @nn.compact
    def __call__(self, images: Array) -> tuple[jax.Array, ...]:
        values: dict[int, Any] = {0: jnp.asarray(images)}
        for line in self.config.operations:
            operation = Operation.parse(line)
            inputs = [values[n] for n in operation.inputs]
            values[operation.number] = self._compute(operation, *inputs)
        return tuple(values[n] for n in self.config.outputs)

    def _compute(self, operation: Operation, x, *more):
        kind, number = operation.kind, operation.number
        if kind in ACTIVATIONS:
            return ACTIVATIONS[kind](x)
        if kind == "prelu":
            return jnp.where(x >= 0, x, x * _channels(self._weight(number, "alpha", x.shape[-1:]), x))
        if kind in ("conv", "conv_transpose"):
            shape = (*operation.sizes("kernel"), x.shape[-1], int(operation.settings["features"]))
            kernel = self._weight(number, "kernel", shape)
            bias = self._weight(number, "bias", shape[-1:])
            y = (_conv if kind == "conv" else _conv_transpose)(operation, x, kernel)
            return y + _channels(bias, y)
        if kind == "depthwise":
            kernel = self._weight(number, "kernel", (*operation.sizes("kernel"), x.shape[-1]))
            y = depthwise_conv(x, kernel, strides=operation.sizes("stride"), padding=operation.padding)
            return y + _channels(self._weight(number, "bias", x.shape[-1:]), y)
        return _PLAIN[kind](operation, x, *more)

    def _weight(self, number: int, name: str, shape: tuple[int, ...]) -> Array:
        name = f"{number:03d}_{name}"
        if self.is_initializing():
            return self.param(name, nn.initializers.zeros, shape)
        return self.get_variable("params", name)  # without Flax's check of shapes: it takes a fifth of the tracing


def _channels(values, x):
    """[C] beside x [..., C]."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,))


def depthwise_conv(x: Array, kernel: Array, *, strides: tuple[int, ...], padding: str) -> jax.Array:
    """x [B, H, W, C] by kernel [kh, kw, C], a channel at a time, as a sum of shifted products: XLA fuses them."""
    # In terms of `jax.lax`: a face mesh has hundreds of these products, and `jnp` takes several times as long to trace.
    (down, across), channels = strides, x.shape[3]
    pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*each, 0) for each in pads), (0, 0, 0)])
    high, wide = (size - k + 1 for size, k in zip(x.shape[1:3], kernel.shape[:2]))
    products = []
    for row, column in np.ndindex(*kernel.shape[:2]):
        part = jax.lax.slice(x, (0, row, column, 0), (len(x), row + high, column + wide, channels))
        weight = jax.lax.slice(kernel, (row, column, 0), (row + 1, column + 1, channels))
        products.append(jax.lax.mul(part, jax.lax.broadcast_in_dim(weight, part.shape, (1, 2, 3))))
    every = functools.reduce(jax.lax.add, products)
    return jax.lax.slice(every, (0, 0, 0, 0), every.shape, (1, down, across, 1))


def _conv(operation, x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, operation.sizes("stride"), operation.padding,
                                        dimension_numbers=DIMENSIONS)


def _conv_transpose(operation, x, kernel):
    """Kernel and stride of one size: every input pixel paints a block of its own."""
    (kh, kw), (batch, height, width, _) = operation.sizes("kernel"), x.shape
    blocks = jnp.einsum("bhwi,yxio->bhywxo", x, kernel)
    return blocks.reshape(batch, height * kh, width * kw, -1)


def _pool(operation, x, start, combine):
    window, stride = operation.sizes("kernel"), operation.sizes("stride")
    return jax.lax.reduce_window(x, start, combine, (1, *window, 1), (1, *stride, 1), operation.padding)


def _mean_pool(operation, x):
    kh, kw = operation.sizes("kernel")
    return _pool(operation, x, 0.0, jax.lax.add) / (kh * kw)


def _scale(operation, x):
    factors = jnp.asarray([float(word) for word in operation.settings["by"].split(",")])
    return x * (factors[0] if len(factors) == 1 else factors.reshape(1, *x.shape[1:]))


def _pad(operation, x):
    pads = operation.sizes("pads")
    return jnp.pad(x, list(zip(pads[::2], pads[1::2])))


def _crop_matrix(operation, points):
    """[B, 4, 4]: output pixel of a crop -> pixel of the image that `points` [B, K, 3] are in.

    The crop turns so that two points lie level, and its box holds some points with a margin.
    """
    settings = operation.settings
    chosen = points[:, jnp.asarray(operation.sizes("points")), :2]
    across = points[:, int(settings["right"]), :2] - points[:, int(settings["left"]), :2]
    angle = float(settings["angle"]) - jnp.arctan2(across[:, 1], across[:, 0])
    turned = jnp.einsum("bij,bkj->bki", _rotation(angle), chosen)
    low, high = turned.min(axis=1), turned.max(axis=1)
    back = _rotation(-angle)
    middle = jnp.einsum("bij,bj->bi", back, (low + high) / 2)
    size = jnp.asarray(operation.sizes("size")[::-1], jnp.float32)  # x, y
    scale = float(settings["scale"]) * (high - low) / size[None]
    linear = back * scale[:, None, :]
    matrix = jnp.tile(jnp.eye(4), (len(points), 1, 1)).at[:, :2, :2].set(linear)
    return matrix.at[:, :2, 3].set(middle - jnp.einsum("bij,j->bi", linear, size / 2))


def _rotation(angle):
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)


def _crop(operation, x, matrix):
    """x [B, H, W, C] read at the pixels that `matrix` names, between them bilinearly, 0 outside."""
    height, width = operation.sizes("size")
    row, column = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    places = jnp.stack([column, row], axis=-1)
    found = jnp.einsum("bij,hwj->bhwi", matrix[:, :2, :2], places) + matrix[:, None, None, :2, 3] - 0.5
    return jax.vmap(_read)(x, found)


def _read(x, places):
    last = jnp.asarray(x.shape[1::-1])[None, None] - 1
    inside = jnp.all((places >= 0) & (places <= last), axis=-1)
    corner = jnp.floor(places).astype(jnp.int32)
    share = places - corner
    total = jnp.zeros((*places.shape[:-1], x.shape[-1]), x.dtype)
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (share[..., 0] if dx else 1 - share[..., 0]) * (share[..., 1] if dy else 1 - share[..., 1])
            at = jnp.clip(corner + jnp.asarray([dx, dy])[None, None], 0, last)
            total = total + weight[..., None] * x[at[..., 1], at[..., 0]]
    return jnp.where(inside[..., None], total, 0.0)


def _move_points(_, points, matrix):
    """points [B, K, 2 or 3] of a crop where they lie in the image."""
    moved = jnp.einsum("bij,bkj->bki", matrix[:, :2, :2], points[..., :2]) + matrix[:, None, :2, 3]
    return jnp.concatenate([moved, points[..., 2:]], axis=-1)


_PLAIN = {
    "add": lambda _, x, y: x + y,
    "multiply": lambda _, x, y: x * y,
    "scale": _scale,
    "max_pool": lambda operation, x: _pool(operation, x, -jnp.inf, jax.lax.max),
    "mean_pool": _mean_pool,
    "pad": _pad,
    "reshape": lambda operation, x: x.reshape(x.shape[0], *operation.sizes("shape")),
    "concatenate": lambda operation, *x: jnp.concatenate(x, axis=int(operation.settings["axis"])),
    "resize": lambda operation, x: jax.image.resize(x, (x.shape[0], *operation.sizes("size"), x.shape[-1]), "linear"),
    "crop_matrix": _crop_matrix,
    "crop": _crop,
    "move_points": _move_points,
}
