"""The sphere mapper f_S: patch tokens to points on the unit sphere (Mariotti et al. 2024, Section 3.1)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spheremap.base.errors import InputError
from spheremap.model.head.dense import linear, linear_gelu, perceptron
from spheremap.model.head.foreground import Foreground

HEAD_WIDTH = 64
MLP_RATIO = 4
_MAX_WEIGHTS = 2**24  # of the attention, kept for the gradient: 32 MB


def attention_heads(width: int) -> int:
    """Heads of 64 channels each; a width that has no whole number of them gets fewer, wider heads.

    Raises:
        InputError: if the width does not divide into them.
    """
    heads = max(1, width // HEAD_WIDTH)
    if width % heads:
        raise InputError(
            "the head cannot be built for this feature width",
            expected=f"a width that divides into {heads} attention heads, such as a multiple of {HEAD_WIDTH}",
            found=str(width),
            fix="choose another backbone",
        )
    return heads


class SphereMapper(nn.Sequential):
    """Linear, GELU, one transformer block at half the width, Linear to 3, L2 norm.

    All tokens of an image are seen, background included, as keys and values of the one attention layer. The
    points of the foreground alone can be asked for: nothing behind that attention mixes tokens, so that the
    queries, the MLP and the projection of the background need not be computed. Values are the same.

    Args:
        dim: D, width of the tokens; 2,069,763 parameters at D = 768.
    """

    def __init__(self, dim: int) -> None:
        if dim % 2:
            raise InputError("the head needs an even feature width", found=str(dim))
        width = dim // 2
        super().__init__(nn.Linear(dim, width), nn.GELU(), Block(width), nn.Linear(width, 3))

    def forward(self, tokens: Tensor, foreground: Foreground | None = None) -> Tensor:
        """Map tokens `(B, N, D)` of any float type to unit vectors.

        Returns:
            `(B, N, 3)` for all tokens, unmasked; or `(M, 3)` for those of `foreground`, packed.
        """
        embed, _, block, project = cast(tuple[nn.Linear, nn.GELU, Block, nn.Linear], tuple(self))
        if not torch.is_autocast_enabled(tokens.device.type):  # which converts by itself, in one step
            tokens = tokens.to(embed.weight.dtype)
        x = linear_gelu(tokens, embed)  # (B, N, D / 2)
        return F.normalize(full_precision(project, block(x, foreground)), dim=-1)


class Block(nn.Module):
    """Pre-norm transformer block; with `foreground`, its outputs for those tokens alone, packed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, foreground: Foreground | None = None) -> Tensor:
        attended = self.attn(self.norm1(x), foreground)
        if foreground is not None:
            x = pick(x, foreground.rows)
        x = x + attended
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head self-attention, `(B, N, W)` to the same, or to `(M, W)` for the queries in `foreground`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = attention_heads(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, foreground: Foreground | None = None) -> Tensor:
        if foreground is None:
            q, k, v = map(self._split, linear(x, self.qkv.weight).chunk(3, dim=-1))
            return self._project(_merge(attend(q, k, v)))
        batch, _, width = x.shape
        w_q, w_kv = self.qkv.weight.split([width, 2 * width])
        q, kv = linear(pick(x, foreground.rows), w_q), linear(x, w_kv)  # (M, W), (B, N, 2 W)
        k, v = map(self._split, kv.chunk(2, dim=-1))
        padded = q.new_zeros(batch * foreground.width, width).index_copy(0, foreground.slots, q)
        q = self._split(padded.view(batch, foreground.width, width))
        attended = _merge(attend(q, k, v))  # (B, width, W)
        return self._project(pick(attended, foreground.slots))

    def _project(self, x: Tensor) -> Tensor:
        return linear(x, self.proj.weight, self.proj.bias)

    def _split(self, x: Tensor) -> Tensor:
        """`(B, N, W)` to `(B, heads, N, W / heads)`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(C)) v` of queries `(B, heads, Q, C)` and keys and values `(B, heads, N, C)`.

    In bfloat16 on a CPU one product after the other takes a third to two thirds of the time of PyTorch's
    fused attention, which does without the weights `(B, heads, Q, N)`: it stays for where these are large.
    """
    fused = q.device.type != "cpu" or q.dtype != torch.bfloat16
    if fused or q.shape[:-1].numel() * k.shape[-2] > _MAX_WEIGHTS:
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return weights.softmax(dim=-1) @ v


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return perceptron(x, self.fc1, self.fc2)


def full_precision(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer in the type of its weights, even under autocast: points keep all their digits."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(cast(nn.Linear, layer).weight.dtype))


def pick(x: Tensor, rows: Tensor) -> Tensor:
    """Rows `(M,)` of `x` `(B, N, W)` flattened over its first two dimensions: `(M, W)`.

    Written as an embedding look-up, whose gradient is deterministic and parallel on every device. The row -1
    of padding gives some row.
    """
    return F.embedding(rows.clamp_min(0), x.reshape(-1, x.shape[-1]))


def _merge(x: Tensor) -> Tensor:
    """`(B, heads, N, W / heads)` to `(B, N, W)`."""
    return x.transpose(1, 2).flatten(-2)
