"""Linear layers, on a CPU by the faster of PyTorch's two libraries for matrix products.

In float32 `torch.nn.functional.linear` calls the BLAS that PyTorch was built with, usually MKL, which leaves
half of the speed of AMD processors unused; oneDNN, in every build for x86, does not. Tensors in its layout
take that way forward and backward. The two differ in rounding alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b`, as `torch.nn.functional.linear`."""
    if not _by_onednn(x):
        return F.linear(x, weight, bias)
    return F.linear(x.to_mkldnn(), weight, bias).to_dense()


def linear_gelu(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear layer and the exact GELU, `(..., in)` to `(..., out)`."""
    if not _by_onednn(x):
        return F.gelu(layer(x))
    return F.gelu(F.linear(x.to_mkldnn(), layer.weight, layer.bias)).to_dense()


def perceptron(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """Two linear layers with the exact GELU between them, which stays in oneDNN's layout."""
    if not _by_onednn(x):
        return second(F.gelu(first(x)))
    hidden = F.gelu(F.linear(x.to_mkldnn(), first.weight, first.bias))
    return F.linear(hidden, second.weight, second.bias).to_dense()


def _by_onednn(x: Tensor) -> bool:
    """Whether it can take this tensor; under autocast and in compiled code PyTorch calls oneDNN by itself."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )
