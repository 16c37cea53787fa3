"""Means from the partial sums of many programs, added in a fixed order: the same bits in every run."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from spheremap.kernels.programs.launch import launch


@triton.jit(do_not_specialize=["programs"])
def mean_of_partials(
    partials: tl.tensor,
    means: tl.tensor,
    inverse_counts: tl.tensor,
    programs: tl.tensor,
    MEANS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per mean; `partials` `(programs, MEANS, 2)` holds sums and counts."""
    which = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, programs, BLOCK):
        program = start + tl.arange(0, BLOCK)
        at = partials + (program * MEANS + which) * 2
        total += tl.load(at, mask=program < programs, other=0.0)
        count += tl.load(at + 1, mask=program < programs, other=0.0)
    inverse = 1.0 / tl.maximum(tl.sum(count), 1.0)
    tl.store(means + which, tl.sum(total) * inverse)
    tl.store(inverse_counts + which, inverse)


def reduce_partials(partials: Tensor, means: Tensor) -> Tensor:
    """Fill `means` (C values) from partials `(P, C, 2)`; returns `1 / max(counts, 1)` `(C,)`. All float32."""
    programs, count, _ = partials.shape
    inverse_counts = torch.empty(count, dtype=torch.float32, device=partials.device)
    launch(
        mean_of_partials,
        (count,),
        partials,
        means,
        inverse_counts,
        programs,
        MEANS=count,
        BLOCK=1024,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return inverse_counts
