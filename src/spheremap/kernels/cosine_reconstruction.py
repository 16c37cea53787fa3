"""Cosine loss between features and their reconstruction over ragged foreground, fused: one pass each way.

Reads features and reconstruction once in each direction, in the precision in which they are stored, sums in
float32, and keeps two numbers per row between the directions. Normalised copies never exist, nor, with
`rows`, a packed copy of the features. It is bound by memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.base.choices import Backend
from spheremap.kernels.dispatch import launch, reduce_partials, storage_type, tl, triton, use_triton


def cosine_reconstruction(
    features: Tensor, reconstruction: Tensor, rows: Tensor | None = None, *, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Mean of `1 - cos` between foreground features and their reconstruction (the paper's Γ), and its count.

    Mariotti et al. 2024, Section 3.1. Features are frozen: only the reconstruction gets a gradient.

    Args:
        features: `(R, D)`, float16, bfloat16 or float32.
        reconstruction: `(M, D)`, of any of these types, not necessarily the same.
        rows: `(M,)` int64, which row of `features` each row of `reconstruction` stands for; a negative one
            marks a row of padding, which does not count. Without `rows`, row i stands for row i and R = M.
        backend: see `dispatch.use_triton`.

    Returns:
        Scalar in [0, 2], float32, 0 if no row counts; and the number of rows that count, a scalar too. A zero
        vector counts as orthogonal to all and gets no gradient.

    Raises:
        InputError: if the backend cannot run on these tensors.
    """
    assert features.shape[1:] == reconstruction.shape[1:]
    assert (features if rows is None else rows).shape[:1] == reconstruction.shape[:1]
    features = features.detach()
    if use_triton(backend, features, reconstruction):
        mean, count, _ = fused(features, reconstruction, rows)
        return mean, count
    return reference(features, reconstruction, rows)


# --- the torch twin


def reference(features: Tensor, reconstruction: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Define the operator: same arguments and results. Takes float64 as well."""
    reconstruction = reconstruction.to(torch.promote_types(reconstruction.dtype, torch.float32))
    if rows is None:
        rows = torch.arange(len(reconstruction), device=reconstruction.device)
    features = F.embedding(rows.clamp_min(0), features).to(reconstruction.dtype)
    lengths = torch.linalg.vector_norm(features, dim=-1) * torch.linalg.vector_norm(reconstruction, dim=-1)
    usable = lengths != 0  # true for NaN, which must show
    dots = torch.linalg.vecdot(features, reconstruction)
    cosine = torch.where(usable, dots / torch.where(usable, lengths, 1.0), 0.0)
    keep = rows >= 0
    count = keep.sum()
    # divided by all rows first: so it rounded when the committed results were made
    mean = torch.where(keep, 1 - cosine, 0.0).sum() / max(len(rows), 1)
    return mean * (len(rows) / count.clamp_min(1)), count


# --- Triton

BLOCK_ROWS = 8
BLOCK_COLUMNS = 256  # a warp reads 8 values of 16 bits per lane: 16 bytes, the widest access there is
WARPS = 4


@triton.jit
def locate(
    rows: tl.tensor, count: tl.tensor, PICKED: tl.constexpr, BLOCK_ROWS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Rows of this program in the reconstruction and in the features, and whether they count."""
    row = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(tl.int64)
    source = row
    if PICKED:
        source = tl.load(rows + row, mask=row < count, other=-1)
    return row, source, (row < count) & (source >= 0)


@triton.jit(do_not_specialize=["count"])
def cosine_forward(
    features: tl.tensor,
    reconstruction: tl.tensor,
    rows: tl.tensor,
    factors: tl.tensor,
    partials: tl.tensor,
    count: tl.tensor,
    D: tl.constexpr,
    PICKED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
) -> None:
    """Sum of 1 - cos over a block of rows, and the factors of its gradient, f / (|f| |r|) - r cos / |r|²."""
    row, source, counts = locate(rows, count, PICKED, BLOCK_ROWS)
    dots = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    squares_f = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    squares_r = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    for start in tl.static_range(0, D, BLOCK_COLUMNS):
        column = start + tl.arange(0, BLOCK_COLUMNS)[None, :]
        here = counts[:, None] & (column < D)
        f = tl.load(features + source[:, None] * D + column, mask=here, other=0.0).to(tl.float32)
        r = tl.load(reconstruction + row[:, None] * D + column, mask=here, other=0.0).to(tl.float32)
        dots += f * r
        squares_f += f * f
        squares_r += r * r
    square_r = tl.sum(squares_r, 1)
    lengths = tl.sqrt_rn(tl.sum(squares_f, 1)) * tl.sqrt_rn(square_r)
    # written so that NaN is not mistaken for a zero vector
    zero = lengths == 0.0
    inverse = 1.0 / tl.where(zero, 1.0, lengths)
    inverse = tl.where(zero, 0.0, inverse)
    cosine = tl.sum(dots, 1) * inverse
    loss = tl.where(counts, 1.0 - cosine, 0.0)
    tl.store(partials + tl.program_id(0) * 2, tl.sum(loss))
    tl.store(partials + tl.program_id(0) * 2 + 1, tl.sum(counts.to(tl.float32)))
    tl.store(factors + row * 2, inverse, mask=row < count)
    tl.store(factors + row * 2 + 1, cosine / tl.where(zero, 1.0, square_r), mask=row < count)


@triton.jit(do_not_specialize=["count"])
def cosine_backward(
    gradient: tl.tensor,
    features: tl.tensor,
    reconstruction: tl.tensor,
    rows: tl.tensor,
    factors: tl.tensor,
    number: tl.tensor,
    result: tl.tensor,
    count: tl.tensor,
    D: tl.constexpr,
    PICKED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
) -> None:
    """Gradient of a block of rows; zero where they do not count."""
    row, source, counts = locate(rows, count, PICKED, BLOCK_ROWS)
    scale = -tl.load(gradient).to(tl.float32) * (1.0 / tl.maximum(tl.load(number), 1.0))
    of_f = scale * tl.load(factors + row * 2, mask=counts, other=0.0)
    of_r = scale * tl.load(factors + row * 2 + 1, mask=counts, other=0.0)
    for start in tl.static_range(0, D, BLOCK_COLUMNS):
        column = start + tl.arange(0, BLOCK_COLUMNS)[None, :]
        here = counts[:, None] & (column < D)
        f = tl.load(features + source[:, None] * D + column, mask=here, other=0.0).to(tl.float32)
        r = tl.load(reconstruction + row[:, None] * D + column, mask=here, other=0.0).to(tl.float32)
        g = of_f[:, None] * f - of_r[:, None] * r
        inside = (row[:, None] < count) & (column < D)
        tl.store(result + row[:, None] * D + column, g.to(result.dtype.element_ty), mask=inside)


def _options(reconstruction: Tensor, rows: Tensor | None) -> dict[str, Any]:
    return {
        "D": reconstruction.shape[1],
        "PICKED": rows is not None,
        "BLOCK_ROWS": BLOCK_ROWS,
        "BLOCK_COLUMNS": BLOCK_COLUMNS,
        "num_warps": WARPS,
        "enable_fp_fusion": True,
    }


def forward(features: Tensor, reconstruction: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Loss `()`, number of rows that count `()` float32, and factors of the gradient `(M, 2)`."""
    count = len(reconstruction)
    grid = (triton.cdiv(count, BLOCK_ROWS),)
    factors = torch.empty(count, 2, dtype=torch.float32, device=reconstruction.device)
    partials = torch.empty(*grid, 1, 2, dtype=torch.float32, device=reconstruction.device)
    options = _options(reconstruction, rows)
    launch(cosine_forward, grid, features, reconstruction, rows, factors, partials, count, **options)
    means, counts = reduce_partials(partials)
    return means.view(()), counts.view(()), factors


def backward(
    gradient: Tensor,
    features: Tensor,
    reconstruction: Tensor,
    rows: Tensor | None,
    number: Tensor,
    factors: Tensor,
) -> Tensor:
    """Gradient `(M, D)` of the loss with respect to the reconstruction, times `gradient` `()`."""
    count = len(reconstruction)
    result = torch.empty(
        reconstruction.shape, dtype=storage_type(reconstruction), device=reconstruction.device
    )
    launch(
        cosine_backward, (triton.cdiv(count, BLOCK_ROWS),), gradient, features, reconstruction, rows, factors,
        number, result, count, **_options(reconstruction, rows),
    )  # fmt: skip
    return result.to(reconstruction.dtype)


# --- the operator

fused = torch.library.custom_op("spheremap::cosine_reconstruction", forward, mutates_args=())
_backward = torch.library.custom_op("spheremap::cosine_reconstruction_backward", backward, mutates_args=())


@fused.register_fake
def _(features: Tensor, reconstruction: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    def empty(*shape: int) -> Tensor:
        return reconstruction.new_empty(shape, dtype=torch.float32)

    return empty(), empty(), empty(reconstruction.shape[0], 2)


@_backward.register_fake
def _(gradient: Tensor, features: Tensor, reconstruction: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(reconstruction, memory_format=torch.contiguous_format)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs, *output[1:])


def _differentiate(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[None, Tensor | None, None]:
    if not ctx.needs_input_grad[1]:
        return None, None, None
    return None, _backward(gradient, *ctx.saved_tensors), None


fused.register_autograd(_differentiate, setup_context=_remember)
