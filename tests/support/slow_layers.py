"""The layers of networks as slow numpy loops: what fast layers are compared with."""

import numpy as np

FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64.0


def correlate(x, kernel, *, stride=1):
    """x [B, H, W, I] with kernel [kh, kw, I, O], no padding, by loops."""
    height, width = ((x.shape[1 + i] - kernel.shape[i]) // stride + 1 for i in (0, 1))
    y = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            window = x[:, i * stride:i * stride + kernel.shape[0], j * stride:j * stride + kernel.shape[1]]
            y[:, i, j] = np.einsum("bhwi,hwio->bo", window, kernel)
    return y


def pad(x, low, high):
    return np.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))


def insert_zeros(x):
    y = np.zeros((x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]))
    y[:, ::2, ::2] = x
    return y


def each_channel(x, filter2d):
    return np.concatenate([correlate(x[..., c:c + 1], filter2d[:, :, None, None]) for c in range(x.shape[3])], axis=-1)


def slow_up_conv(x, weight):
    """Scatter x[i] weight[k] to 2 i + k, then filter: the definition of a transposed convolution."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height + 1, 2 * width + 1, weight.shape[3]))
    for i in range(height):
        for j in range(width):
            y[:, 2 * i:2 * i + 3, 2 * j:2 * j + 3] += np.einsum("bi,hwio->bhwo", x[:, i, j], weight)
    return each_channel(pad(y, 1, 1), 4 * FIR)
