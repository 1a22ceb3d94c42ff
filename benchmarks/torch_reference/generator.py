"""StyleGAN2's synthesis network with skip outputs (arXiv 1912.04958), in the two forms of `FORMS`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from benchmarks.torch_reference.tensors import oihw, tensors

FORMS = ("fused", "scaled")
FILTER = (1.0, 3.0, 3.0, 1.0)
EPSILON = 1e-8  # under the root of the demodulation


def _dense(weights, x):
    """The equalised affine layer that makes styles."""
    return F.linear(x, weights["weight"], weights["bias"])


def _loaded_dense(tree):
    weight = tree["weight"]
    return {"weight": (weight / math.sqrt(weight.shape[0])).T.contiguous(), "bias": tree["bias"]}


class Generator:
    """w_plus [B, L, D] -> images_pm1 [B, 3, R, R]. ValueError: a generator that is not StyleGAN2 with skips."""

    def __init__(self, config, weights, *, form: str):
        if config.architecture != "stylegan2" or getattr(config, "synthesis", "skip") != "skip":
            raise ValueError("config: the reference has StyleGAN2 with skip outputs only")
        if form not in FORMS:
            raise ValueError(f"form: expected one of {FORMS}, got {form!r}")
        self.config, self.form = config, form
        taps = torch.tensor(FILTER) / 8.0
        self.filter = (torch.outer(taps, taps) * 4.0)[None, None]  # gain 4 makes up for the inserted zeros
        self.blocks = {size: self._load(tensors(weights[f"b{size}"])) for size in config.block_resolutions}
        self.const = tensors(weights["b4"])["const"].permute(2, 0, 1)[None].contiguous()

    def _load(self, block):
        loaded = {}
        for name, layer in block.items():
            if name == "const":
                continue
            fan_in = layer["weight"].shape[2]
            # Equalised learning rate; modulation and demodulation cancel any common factor but for the epsilon.
            weight = oihw(layer["weight"])
            weight = weight / math.sqrt(fan_in) if name == "torgb" else weight
            own = {"weight": weight, "bias": layer["bias"], "affine": _loaded_dense(layer["affine"])}
            if name != "torgb":
                own["noise"] = (layer["noise_const"] * layer["noise_strength"])[None, None]
                own["power"] = weight.square().sum((2, 3)).T.contiguous()  # [I, O]
                own["transposed"] = weight.transpose(0, 1).contiguous()
            if self.form == "scaled":
                own = {key: value.to(memory_format=torch.channels_last)
                       if isinstance(value, torch.Tensor) and value.ndim == 4 else value for key, value in own.items()}
            loaded[name] = own
        return loaded

    def __call__(self, w_plus: torch.Tensor) -> torch.Tensor:
        x, image = self.const.expand(w_plus.shape[0], -1, -1, -1), None
        if self.form == "scaled":
            x = x.contiguous(memory_format=torch.channels_last)
        index = 0
        for size in self.config.block_resolutions:
            block = self.blocks[size]
            if "conv0" in block:
                x = self._convolve(block["conv0"], x, w_plus[:, index], up=True)
                index += 1
            x = self._convolve(block["conv1"], x, w_plus[:, index], up=False)
            index += 1
            rgb = self._to_rgb(block["torgb"], x, w_plus[:, index])  # the next block's conv0 reads the same style
            image = rgb if image is None else self._upsample(image) + rgb
        return image

    def _convolve(self, layer, x, w, *, up: bool):
        style = _dense(layer["affine"], w)
        x = (self._fused if self.form == "fused" else self._scaled)(layer, x, style, up)
        x = x + layer["noise"] + layer["bias"].view(1, -1, 1, 1)
        x = F.leaky_relu(x, 0.2) * math.sqrt(2.0)
        clamp = self.config.clamp
        return x if clamp is None else x.clamp(-clamp, clamp)

    def _fused(self, layer, x, style, up: bool):
        batch, channels, height, width = x.shape
        weight = layer["weight"][None] * style[:, None, :, None, None]  # [B, O, I, 3, 3]
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + EPSILON)
        features = weight.shape[1]
        x = x.reshape(1, batch * channels, height, width)
        if up:
            weight = weight.transpose(1, 2).reshape(batch * channels, features, 3, 3)
            x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
            x = x.reshape(batch, features, *x.shape[2:])
            return F.conv2d(x, self.filter.expand(features, -1, -1, -1), padding=1, groups=features)
        x = F.conv2d(x, weight.reshape(batch * features, channels, 3, 3), padding=1, groups=batch)
        return x.reshape(batch, features, height, width)

    def _scaled(self, layer, x, style, up: bool):
        demodulation = torch.rsqrt(style.square() @ layer["power"] + EPSILON)[:, :, None, None]
        x = x * style[:, :, None, None]
        if up:
            return _blur(F.conv_transpose2d(x, layer["transposed"], stride=2)) * demodulation
        return F.conv2d(x, layer["weight"], padding=1) * demodulation

    def _to_rgb(self, layer, x, w):
        style = _dense(layer["affine"], w)
        batch, channels, height, width = x.shape
        if self.form == "fused":
            weight = (layer["weight"][None] * style[:, None, :, None, None]).reshape(batch * 3, channels, 1, 1)
            rgb = F.conv2d(x.reshape(1, batch * channels, height, width), weight, groups=batch)
            rgb = rgb.reshape(batch, 3, height, width)
        else:
            rgb = F.conv2d(x * style[:, :, None, None], layer["weight"])
        rgb = rgb + layer["bias"].view(1, 3, 1, 1)
        clamp = self.config.clamp
        return rgb if clamp is None else rgb.clamp(-clamp, clamp)

    def _upsample(self, image):
        return F.conv_transpose2d(image, self.filter.expand(3, -1, -1, -1), stride=2, padding=1, groups=3)


def _blur(x):
    """outer([1, 3, 3, 1]) / 16 over the last two axes, zero padded by 1, as shifted sums."""
    x = F.pad(x, (1, 1, 1, 1))
    for axis in (2, 3):
        n = x.shape[axis] - 3
        a, b, c, d = (x.narrow(axis, k, n) for k in range(4))
        x = (a + d) * 0.25 + (b + c) * 0.75
    return x
