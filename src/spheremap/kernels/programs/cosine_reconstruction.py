"""Triton programs of the reconstruction loss: bound by memory, one pass over both matrices each way."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from spheremap.kernels.programs.launch import launch, storage_type
from spheremap.kernels.programs.reduction import reduce_partials

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
    """Sum of 1 - cos over a block of rows, and the factors of its gradient: d cos / dr = x f - y r."""
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
    inverse_count: tl.tensor,
    result: tl.tensor,
    count: tl.tensor,
    D: tl.constexpr,
    PICKED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
) -> None:
    """Gradient of a block of rows; zero where they do not count."""
    row, source, counts = locate(rows, count, PICKED, BLOCK_ROWS)
    scale = -tl.load(gradient).to(tl.float32) * tl.load(inverse_count)
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


def forward(features: Tensor, reconstruction: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Loss `()`, factors `(M, 2)` and 1 / count `(1,)`."""
    count, dim = reconstruction.shape
    device = reconstruction.device
    programs = triton.cdiv(count, BLOCK_ROWS)
    loss = torch.empty((), dtype=torch.float32, device=device)
    factors = torch.empty(count, 2, dtype=torch.float32, device=device)
    partials = torch.empty(programs, 1, 2, dtype=torch.float32, device=device)
    launch(
        cosine_forward,
        (programs,),
        features.contiguous(),
        reconstruction.contiguous(),
        rows if rows is None else rows.contiguous(),
        factors,
        partials,
        count,
        D=dim,
        PICKED=rows is not None,
        BLOCK_ROWS=BLOCK_ROWS,
        BLOCK_COLUMNS=BLOCK_COLUMNS,
        num_warps=WARPS,
        enable_fp_fusion=True,
    )
    return loss, factors, reduce_partials(partials, loss)


def backward(
    gradient: Tensor,
    features: Tensor,
    reconstruction: Tensor,
    rows: Tensor | None,
    factors: Tensor,
    inverse_count: Tensor,
) -> Tensor:
    """Gradient `(M, D)` in the type of the reconstruction."""
    count, dim = reconstruction.shape
    result = torch.empty(count, dim, dtype=storage_type(reconstruction), device=reconstruction.device)
    launch(
        cosine_backward,
        (triton.cdiv(count, BLOCK_ROWS),),
        gradient,
        features.contiguous(),
        reconstruction.contiguous(),
        rows if rows is None else rows.contiguous(),
        factors,
        inverse_count,
        result,
        count,
        D=dim,
        PICKED=rows is not None,
        BLOCK_ROWS=BLOCK_ROWS,
        BLOCK_COLUMNS=BLOCK_COLUMNS,
        num_warps=WARPS,
        enable_fp_fusion=True,
    )
    return result.to(reconstruction.dtype)
