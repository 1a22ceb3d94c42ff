"""The peer: PIE's energy, its networks, rasterizer and AdaDelta in plain PyTorch, loading the same pack.

Written from the method's description, not from anyone's PyTorch code, so that it checks `pie_jax` as well as racing
it. Nothing of `pie_jax` computes here: a pack's arrays come through numpy, its configs say what the networks are.

Tensors are NCHW, points and vectors as in `pie_jax`. Weights never ask for a gradient. Two forms of the generator:

    "fused"   as NVIDIA's code does it: the kernels of every sample are modulated and a grouped convolution uses them;
              zero insertion and a depthwise filter up-sample
    "scaled"  the best eager form found: activations are modulated, memory is channels_last, what the weights decide is
              computed when they are loaded, the up-sampling filter is a sum of shifted slices

`TorchEnergy(described, inputs, form=...)` is the peer of `pie_jax.energy.PortraitEnergy`; v and the control of each
sample are arguments, drawn by the caller.
"""

from benchmarks.torch_reference.energy import TorchEnergy
from benchmarks.torch_reference.generator import FORMS
from benchmarks.torch_reference.stepper import Stepper

__all__ = ["FORMS", "Stepper", "TorchEnergy"]
