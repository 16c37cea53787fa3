"""Reconstruction loss over ragged foreground, fused: one pass forward, one backward.

Reads features and reconstruction once in each direction, in the precision in which they are stored, sums in
float32, and keeps two numbers per row between the directions. Normalised copies never exist, nor, with
`rows`, a packed copy of the features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.kernels.dispatch import Backend, use_triton
from spheremap.model.losses import reconstruction_loss


def cosine_reconstruction(
    features: Tensor, reconstruction: Tensor, rows: Tensor | None = None, *, backend: Backend = "auto"
) -> Tensor:
    """Mean of `1 - cos` between foreground features and their reconstruction (the paper's Γ).

    Mariotti et al. 2024, Section 3.1. Features are frozen: only the reconstruction gets a gradient.

    Args:
        features: `(R, D)`, float16, bfloat16 or float32.
        reconstruction: `(M, D)`, of any of these types, not necessarily the same.
        rows: `(M,)` int64, which row of `features` each row of `reconstruction` stands for; a negative one
            marks a row of padding, which does not count. Without `rows`, row i stands for row i and R = M.
        backend: see `dispatch.use_triton`.

    Returns:
        Scalar in [0, 2], float32; 0 if no row counts. A zero vector counts as orthogonal to all and gets no
        gradient.

    Raises:
        InputError: if the shapes do not fit together, or the backend cannot run on these tensors.
    """
    of_rows = features.shape[:1] if rows is None else rows.shape
    if features.shape[1:] != reconstruction.shape[1:] or of_rows != reconstruction.shape[:1]:
        raise InputError(
            "features and reconstruction do not fit together",
            expected="features (R, D), reconstruction (M, D), rows (M,), or R = M without rows",
            found=", ".join(
                str(None if tensor is None else tuple(tensor.shape))
                for tensor in (features, reconstruction, rows)
            ),
        )
    features = features.detach()
    if use_triton(backend, features, reconstruction):
        return _cosine_reconstruction(features, reconstruction, rows)[0]
    return reference(features, reconstruction, rows)


def reference(features: Tensor, reconstruction: Tensor, rows: Tensor | None = None) -> Tensor:
    """Define the kernel: same arguments and result as `cosine_reconstruction`. Takes float64 as well."""
    reconstruction = reconstruction.to(torch.promote_types(reconstruction.dtype, torch.float32))
    if rows is None:
        return reconstruction_loss(features, reconstruction)
    # padding is taken as perfect: the cosine of an axis with itself is 1, exactly
    padding = (rows < 0).unsqueeze(-1)
    axis = torch.arange(features.shape[-1], device=features.device) == 0  # (D,)
    picked = torch.where(padding, axis.to(features.dtype), F.embedding(rows.clamp_min(0), features))
    reconstruction = torch.where(padding, axis.to(reconstruction.dtype), reconstruction)
    return reconstruction_loss(picked, reconstruction) * (len(rows) / (rows >= 0).sum().clamp_min(1))


@torch.library.custom_op("spheremap::cosine_reconstruction", mutates_args=())
def _cosine_reconstruction(
    features: Tensor, reconstruction: Tensor, rows: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss `()`, factors `(M, 2)` of the two vectors in a row's gradient, and 1 / number of rows `(1,)`."""
    from spheremap.kernels.programs import cosine_reconstruction as programs

    return programs.forward(features, reconstruction, rows)


@_cosine_reconstruction.register_fake
def _(features: Tensor, reconstruction: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    def empty(*shape: int) -> Tensor:
        return reconstruction.new_empty(shape, dtype=torch.float32)

    return empty(), empty(reconstruction.shape[0], 2), empty(1)


@torch.library.custom_op("spheremap::cosine_reconstruction_backward", mutates_args=())
def _cosine_reconstruction_backward(
    gradient: Tensor,
    features: Tensor,
    reconstruction: Tensor,
    rows: Tensor | None,
    factors: Tensor,
    inverse_count: Tensor,
) -> Tensor:
    """Gradient `(M, D)` of the loss with respect to the reconstruction, times `gradient` `()`."""
    from spheremap.kernels.programs import cosine_reconstruction as programs

    return programs.backward(gradient, features, reconstruction, rows, factors, inverse_count)


@_cosine_reconstruction_backward.register_fake
def _(
    gradient: Tensor,
    features: Tensor,
    reconstruction: Tensor,
    rows: Tensor | None,
    factors: Tensor,
    inverse_count: Tensor,
) -> Tensor:
    return torch.empty_like(reconstruction, memory_format=torch.contiguous_format)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, factors, inverse_count = output
    ctx.mark_non_differentiable(factors, inverse_count)
    ctx.save_for_backward(*inputs, factors, inverse_count)


def _differentiate(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[None, Tensor | None, None]:
    if not ctx.needs_input_grad[1]:
        return None, None, None
    return None, _cosine_reconstruction_backward(gradient, *ctx.saved_tensors), None


_cosine_reconstruction.register_autograd(_differentiate, setup_context=_remember)
