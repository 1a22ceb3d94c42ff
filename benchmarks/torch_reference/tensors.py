"""Arrays of a pack as tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from pie_jax.nn.layers import PRECOMPUTED


def tensor(array) -> torch.Tensor:
    """One array, copied; the type stays."""
    return torch.from_numpy(np.array(array))


def tensors(tree):
    """A nested dict of arrays as one of tensors, without what `pie_jax` keeps beside its weights."""
    if not isinstance(tree, Mapping):
        return tensor(tree)
    return {name: tensors(branch) for name, branch in tree.items() if name != PRECOMPUTED}


def oihw(kernel: torch.Tensor) -> torch.Tensor:
    """A kernel [kh, kw, I, O] in PyTorch's order [O, I, kh, kw]."""
    return kernel.permute(3, 2, 0, 1).contiguous()
