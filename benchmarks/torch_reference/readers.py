"""The networks that look at images: VGG-16 / VGG-Face, and the MoFA regressor (a ResNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.torch_reference.tensors import oihw, tensors

BATCH_NORM_EPSILON = 1e-5


class VGG:
    """images_01 [B, 3, H, W] -> {layer: features [B, C, h, w]}, and "fc7" [B, N] where there is one."""

    def __init__(self, config, weights, *, channels_last: bool):
        if getattr(config, "heads", False):
            raise ValueError("config: the reference has no LPIPS heads")
        self.config, self.format = config, torch.channels_last if channels_last else torch.contiguous_format
        weights = tensors(weights)
        self.convolutions = [(name, oihw(layer["kernel"]).to(memory_format=self.format), layer["bias"])
                             for name, layer in sorted(weights.items()) if name.startswith("conv")]
        self.dense = {}
        if config.fc_width > 0:
            # NHWC was flattened; here NCHW is.
            kernel = weights["fc6"]["kernel"].permute(3, 2, 0, 1)
            self.dense = {"fc6": (kernel.reshape(kernel.shape[0], -1).contiguous(), weights["fc6"]["bias"]),
                          "fc7": (weights["fc7"]["kernel"].T.contiguous(), weights["fc7"]["bias"])}
        self.mean = torch.tensor(config.mean_rgb).view(1, 3, 1, 1)
        self.std = torch.tensor(config.std_rgb).view(1, 3, 1, 1)

    def __call__(self, images_01: torch.Tensor) -> dict[str, torch.Tensor]:
        side = self.config.resolution
        if images_01.shape[2:] != (side, side):
            whole = images_01.shape[2] % side == 0 and images_01.shape[3] % side == 0
            images_01 = (F.adaptive_avg_pool2d(images_01, side) if whole else F.interpolate(
                images_01, (side, side), mode="bilinear", antialias=True, align_corners=False))
        x = ((255.0 * images_01 - self.mean) / self.std).contiguous(memory_format=self.format)
        found = {}
        for name, kernel, bias in self.convolutions:
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(F.conv2d(x, kernel, bias, padding=1))
            if name in self.config.layers:
                found[name] = x
        if self.dense:
            x = F.max_pool2d(x, 2).flatten(1)
            x = F.relu(F.linear(x, *self.dense["fc6"]))
            found["fc7"] = F.relu(F.linear(x, *self.dense["fc7"]))
        return found


class Regressor:
    """face_crop_01 [B, 3, R, R] -> params_vector [B, 257].

    Batch normalisation is folded into the kernels when it is loaded.
    """

    def __init__(self, config, weights, *, channels_last: bool):
        self.config, self.format = config, torch.channels_last if channels_last else torch.contiguous_format
        weights = tensors(weights)
        self.stem = self._fold(weights["conv1"], weights["bn1"])
        self.blocks = []
        for stage, count in enumerate(config.stage_sizes, start=1):
            for i in range(count):
                tree = weights[f"layer{stage}_{i}"]
                convolutions = [self._fold(tree[f"conv{k}"], tree[f"bn{k}"]) for k in (1, 2, 3) if f"conv{k}" in tree]
                side = self._fold(tree["downsample_conv"], tree["downsample_bn"]) if "downsample_conv" in tree else None
                self.blocks.append((convolutions, side, 2 if stage > 1 and i == 0 else 1))
        self.head = weights["head"]["kernel"].T.contiguous(), weights["head"]["bias"]
        self.scale, self.shift = weights["output_std"], weights["output_mean"]

    def _fold(self, convolution, norm):
        factor = norm["scale"] * torch.rsqrt(norm["var"] + BATCH_NORM_EPSILON)
        kernel = oihw(convolution["kernel"]) * factor[:, None, None, None]
        return kernel.to(memory_format=self.format), norm["bias"] - norm["mean"] * factor

    def __call__(self, face_crop_01: torch.Tensor) -> torch.Tensor:
        x = face_crop_01.contiguous(memory_format=self.format)
        x = F.max_pool2d(F.relu(F.conv2d(x, *self.stem, stride=2, padding=3)), 3, 2, 1)
        strided = 1 if self.config.bottleneck else 0  # v1.5: the first 3x3 has the stride
        for convolutions, side, stride in self.blocks:
            y = x
            for i, (kernel, bias) in enumerate(convolutions):
                y = F.conv2d(y, kernel, bias, stride=stride if i == strided else 1, padding=kernel.shape[2] // 2)
                y = y if i == len(convolutions) - 1 else F.relu(y)
            x = F.relu(y + (x if side is None else F.conv2d(x, *side, stride=stride)))
        return F.linear(x.mean((2, 3)), *self.head) * self.scale + self.shift
