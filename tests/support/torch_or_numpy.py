"""Reference operations on NCHW arrays, by PyTorch where it is installed and by numpy where not, and files of tensors.

    conv, linear, batch_norm, max_pool, mean_pool, enlarge, relu, elu, leaky         float32 in and out, numpy arrays
    save(path, tree)      as torch.save does it; without PyTorch a pickle of the same names
"""

import pickle

import numpy as np

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None


def _t(array):
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def conv(x, kernel, bias=None, *, stride=1, padding=0):
    """x [B, C, H, W], kernel [O, C, k, k]."""
    if torch is not None:
        return F.conv2d(_t(x), _t(kernel), None if bias is None else _t(bias), stride, padding).numpy()
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    y = np.einsum("bchwij,ocij->bohw", windows, kernel, optimize=True)
    return (y if bias is None else y + bias.reshape(1, -1, 1, 1)).astype(np.float32)


def linear(x, kernel, bias):
    """x [B, I], kernel [O, I]."""
    return F.linear(_t(x), _t(kernel), _t(bias)).numpy() if torch is not None else x @ kernel.T + bias


def batch_norm(x, tensors, name):
    """Evaluation form of tensors[name + ".weight"] and so on."""
    scale, bias, mean, var = (tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    if torch is not None:
        return F.batch_norm(_t(x), _t(mean), _t(var), _t(scale), _t(bias), eps=1e-5).numpy()
    shape = (1, -1, 1, 1)
    normal = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-5)
    return (normal * scale.reshape(shape) + bias.reshape(shape)).astype(np.float32)


def max_pool(x, *, size=2, stride=2, padding=0):
    """Largest value; padded with minus infinity."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    return windows.max(axis=(4, 5))


def mean_pool(x):
    """2x2 means."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def enlarge(x):
    """Every pixel four times."""
    return x.repeat(2, axis=2).repeat(2, axis=3)


def relu(x):
    return np.maximum(x, 0)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def norm_tensors(rng, name, channels):
    """A BatchNorm's state with statistics that matter."""
    return {f"{name}.weight": 1 + 0.2 * rng.normal(size=channels), f"{name}.bias": 0.2 * rng.normal(size=channels),
            f"{name}.running_mean": 0.2 * rng.normal(size=channels),
            f"{name}.running_var": rng.uniform(0.5, 2, size=channels)}


def kernel(rng, *shape):
    """Normal numbers that keep the variance."""
    return rng.normal(size=shape) * np.sqrt(1.5 / np.prod(shape[1:]))


def float32(tensors):
    return {name: np.asarray(array, np.float32) for name, array in tensors.items()}


def save(path, tree, *, legacy=False):
    """A checkpoint of nested dicts of arrays: torch's zip, or its old format; a pickle of them without PyTorch."""
    if torch is None:
        path.write_bytes(pickle.dumps(tree, protocol=4))
        return path
    torch.save(_tensors(tree), path, _use_new_zipfile_serialization=not legacy)
    return path


def _tensors(tree):
    if isinstance(tree, dict):
        return {name: _tensors(value) for name, value in tree.items()}
    return torch.from_numpy(np.array(tree))


def relative(got, due):
    """Largest error in units of the largest magnitude."""
    got, due = np.asarray(got, np.float64), np.asarray(due, np.float64)
    assert got.shape == due.shape, (got.shape, due.shape)
    assert np.abs(due).max() > 1e-3, "a reference of zeros proves nothing"
    return np.abs(got - due).max() / np.abs(due).max()
