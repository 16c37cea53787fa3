"""The prototypes S_Z: points on a category's sphere back to features (Mariotti et al. 2024, Section 3.1)."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from spheremap.model.head.mapper import Mlp, attention_heads, full_precision


class Prototypes(nn.Module):
    """Linear from 3, then one cross-attention block, applied twice, that attends to the category.

    The category's one-hot vector e_c is the only key and value of the attention, and the softmax over a
    single element is 1. Whatever the query, the attention therefore adds `W_o W_v e_c + b_o`, one vector per
    category, which is looked up in a table. The query and key weights and the first norm cannot influence
    anything; they are kept, without gradient, because checkpoints hold them.

    Args:
        dim: D, width of the features; 5,936,640 parameters at D = 768 and 18 categories.
        categories: C, number of categories.
    """

    def __init__(self, dim: int, categories: int) -> None:
        super().__init__()
        self.proj = nn.Linear(3, dim)
        block = CrossBlock(dim, categories)
        self.blocks = nn.ModuleList([block, block])  # the same parameters twice

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """Reconstruct features `(M, D)` at unit vectors `(M, 3)` of the categories `(M,)` int64 in [0, C)."""
        block = cast(CrossBlock, self.blocks[0])
        shift = F.embedding(category, block.attn.table())  # (M, D), the same in both rounds
        x = full_precision(self.proj, points)
        for _ in self.blocks:
            x = x + shift
            x = x + block.mlp(block.norm2(x))
        return x


class CrossBlock(nn.Module):
    """Parameters of the pre-norm cross-attention block."""

    def __init__(self, dim: int, categories: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim).requires_grad_(False)
        self.attn = CategoryAttention(dim, categories)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)


class CategoryAttention(nn.Module):
    """Cross-attention to a single one-hot token, reduced to what it is: a table."""

    def __init__(self, dim: int, categories: int) -> None:
        super().__init__()
        self.heads = attention_heads(dim)  # without influence, as are q and k
        self.q = nn.Linear(dim, dim, bias=False).requires_grad_(False)
        self.k = nn.Linear(categories, dim, bias=False).requires_grad_(False)
        self.v = nn.Linear(categories, dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def table(self) -> Tensor:
        """What the attention adds for each category: `(C, D)`."""
        return self.proj(self.v.weight.T)
