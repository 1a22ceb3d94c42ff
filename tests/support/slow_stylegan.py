"""Slow forwards of StyleGAN 1 and 2 in the originals' semantics: float64, NCHW, their owners' names of tensors.

`nvidia2_image` reads stylegan2-ada-pytorch's names, `nvidia1_image` the variables of the TensorFlow StyleGAN with its
fused up-sampling, `rosinality1_image` style-based-gan-pytorch's.
"""

import math

import numpy as np

FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64.0
BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16.0


def correlate(x, weight, *, padding=0):
    """x [B, I, H, W] with weight [O, I, kh, kw]."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kh, kw = weight.shape[2:]
    height, width = x.shape[2] - kh + 1, x.shape[3] - kw + 1
    return sum(np.einsum("bihw,oi->bohw", x[:, :, i:i + height, j:j + width], weight[:, :, i, j])
               for i in range(kh) for j in range(kw))


def scatter(x, weight):
    """Transposed convolution of stride 2: x[i] weight[k] is added to y[2 i + k]; weight [O, I, kh, kw]."""
    batch, _, height, width = x.shape
    kh, kw = weight.shape[2:]
    y = np.zeros((batch, weight.shape[0], 2 * height + kh - 2, 2 * width + kw - 2))
    for i in range(kh):
        for j in range(kw):
            y[:, :, i:i + 2 * height:2, j:j + 2 * width:2] += np.einsum("bihw,oi->bohw", x, weight[:, :, i, j])
    return y


def each_channel(x, kernel, *, low, high):
    batch, channels, height, width = x.shape
    x = np.pad(x.reshape(batch * channels, 1, height, width), ((0, 0), (0, 0), (low, high), (low, high)))
    y = correlate(x, kernel[None, None])
    return y.reshape(batch, channels, *y.shape[2:])


def upsampled(x):
    """Zeros between pixels, then the filter with gain 4."""
    y = np.zeros((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]))
    y[:, :, ::2, ::2] = x
    return each_channel(y, 4 * FIR, low=2, high=1)


def doubled(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x)


def mapped(z, layers, *, scale, bias_scale, gain):
    x = z / np.sqrt(np.mean(z**2, axis=1, keepdims=True) + 1e-8)
    for weight, bias in layers:
        x = gain * lrelu(x @ weight.T * scale / math.sqrt(x.shape[1]) + bias * bias_scale)
    return x


def nvidia2_image(t, w_plus, *, resolution, clamp=None):
    """The original's synthesis with constant noise: weights are modulated for every sample."""
    def bounded(x, gain=1.0):
        return x if clamp is None else np.clip(x, -clamp * gain, clamp * gain)

    def modulated(name, x, w, *, up=False, rgb=False):
        style = w @ t[f"{name}.affine.weight"].T / math.sqrt(w.shape[1]) + t[f"{name}.affine.bias"]
        outputs = []
        for b in range(len(x)):
            weight = t[f"{name}.weight"] * style[b][None, :, None, None]
            if rgb:
                weight = weight / math.sqrt(weight.shape[1])
            else:
                weight = weight / np.sqrt(np.sum(weight**2, axis=(1, 2, 3), keepdims=True) + 1e-8)
            one = x[b:b + 1]
            outputs.append(each_channel(scatter(one, weight), 4 * FIR, low=1, high=1) if up else
                           correlate(one, weight, padding=weight.shape[2] // 2))
        return np.concatenate(outputs)

    def layer(name, x, w, *, up=False, gain=1.0):
        x = modulated(name, x, w, up=up) + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
        return bounded(math.sqrt(2) * gain * lrelu(x + t[f"{name}.bias"][None, :, None, None]), gain)

    x = np.repeat(t["synthesis.b4.const"][None].astype(np.float64), len(w_plus), axis=0)
    image, n, index = None, 4, 0
    while n <= resolution:
        block, before = f"synthesis.b{n}", x
        residual = f"{block}.skip.weight" in t
        half = math.sqrt(0.5) if residual else 1.0
        if n > 4:
            x = layer(f"{block}.conv0", x, w_plus[:, index], up=True)
            index += 1
        x = layer(f"{block}.conv1", x, w_plus[:, index], gain=half)
        index += 1
        if residual:
            weight = t[f"{block}.skip.weight"]
            x = x + half * upsampled(correlate(before, weight / math.sqrt(weight.shape[1])))
        if f"{block}.torgb.weight" in t:
            rgb = modulated(f"{block}.torgb", x, w_plus[:, index], rgb=True)
            rgb = rgb + t[f"{block}.torgb.bias"][None, :, None, None]
            image = bounded(rgb) if image is None else upsampled(image) + bounded(rgb)
        n *= 2
    return image


def nvidia1_image(t, w_plus, *, resolution, eps=1e-8):
    """The original's synthesis: from 128 px on a transposed convolution by the kernel summed over four shifts."""
    x = np.repeat(t["4x4/Const/const"].astype(np.float64), len(w_plus), axis=0)
    for index in range(2 * int(math.log2(resolution)) - 2):
        n = 4 * 2**(index // 2)
        name = (("Const", "Conv") if n == 4 else ("Conv0_up", "Conv1"))[index % 2]
        layer = f"{n}x{n}/{name}"
        if name != "Const":
            weight = t[f"{layer}/weight"].transpose(3, 2, 0, 1) * math.sqrt(2 / (9 * x.shape[1]))
            if name == "Conv0_up" and n >= 128:
                summed = np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))
                summed = sum(summed[:, :, a:a + 4, b:b + 4] for a in (0, 1) for b in (0, 1))
                x = scatter(x, summed)[:, :, 1:-1, 1:-1]
            else:
                x = correlate(doubled(x) if name == "Conv0_up" else x, weight, padding=1)
            x = each_channel(x, BINOMIAL, low=1, high=1) if name == "Conv0_up" else x
        x = x + t[f"noise{index}"] * t[f"{layer}/Noise/weight"][None, :, None, None]
        x = normalised(lrelu(x + t[f"{layer}/bias"][None, :, None, None]), eps)
        style = w_plus[:, index] @ t[f"{layer}/StyleMod/weight"] / math.sqrt(w_plus.shape[2])
        style = style + t[f"{layer}/StyleMod/bias"]
        scale, shift = np.split(style[:, :, None, None], 2, axis=1)
        x = x * (scale + 1) + shift
    weight = t["ToRGB_lod0/weight"].transpose(3, 2, 0, 1) / math.sqrt(x.shape[1])
    return correlate(x, weight) + t["ToRGB_lod0/bias"][None, :, None, None]


def normalised(x, eps):
    return (x - x.mean(axis=(2, 3), keepdims=True)) / np.sqrt(x.var(axis=(2, 3), keepdims=True) + eps)


def rosinality1_image(r, w, noise, *, step):
    """The original's synthesis of one style."""
    def equal(name):
        weight = r[name]
        return weight * math.sqrt(2 / math.prod(weight.shape[1:]))

    def per_channel(name):
        return r[name][None, :, None, None]

    x = np.repeat(r["generator.progression.0.conv1.input"].astype(np.float64), len(w), axis=0)
    for i in range(step + 1):
        p = f"generator.progression.{i}"
        if f"{p}.conv1.0.weight" in r:
            weight = r[f"{p}.conv1.0.weight"]  # [I, O, 3, 3], as torch's transposed convolution has it
            weight = np.pad(weight * math.sqrt(2 / (9 * weight.shape[0])), ((0, 0), (0, 0), (1, 1), (1, 1)))
            weight = sum(weight[:, :, a:a + 4, b:b + 4] for a in (0, 1) for b in (0, 1)) / 4
            x = scatter(x, weight.swapaxes(0, 1))[:, :, 1:-1, 1:-1] + per_channel(f"{p}.conv1.0.bias")
            x = each_channel(x, BINOMIAL, low=1, high=1)
        elif i:
            x = correlate(doubled(x), equal(f"{p}.conv1.1.conv.weight_orig"), padding=1)
            x = each_channel(x + per_channel(f"{p}.conv1.1.conv.bias"), BINOMIAL, low=1, high=1)
        for j in (1, 2):
            if j == 2:
                x = correlate(x, equal(f"{p}.conv2.conv.weight_orig"), padding=1) + per_channel(f"{p}.conv2.conv.bias")
            x = normalised(lrelu(x + noise[i] * equal(f"{p}.noise{j}.weight_orig")), 1e-5)
            style = w @ equal(f"{p}.adain{j}.style.linear.weight_orig").T + r[f"{p}.adain{j}.style.linear.bias"]
            scale, shift = np.split(style[:, :, None, None], 2, axis=1)
            x = x * scale + shift
    last = f"generator.to_rgb.{step}.conv"
    return correlate(x, equal(f"{last}.weight_orig")) + per_channel(f"{last}.bias")
