"""The paper's training step as its text reads, to measure against: Mariotti et al. 2024, Section 3.

All tokens of an image go through mapper and prototypes, the prototypes attend to the category token by token,
background is masked afterwards, and triplets are drawn image by image. Parameter names are those of
`spheremap.model.head.Head`.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from spheremap.model.head import Head
from spheremap.model.training import TrainConfig

# image, foreground patches, which loss -> (T, 3) numbers below the count
Draw = Callable[[int, int, int], Tensor]


class CrossAttention(nn.Module):
    """Multi-head attention of tokens `(B, N, D)` to one category token `(B, 1, C)`."""

    def __init__(self, dim: int, categories: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(categories, dim, bias=False)
        self.v = nn.Linear(categories, dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, category: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.q(x)), split(self.k(category)), split(self.v(category))
        weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)  # (B, heads, N, 1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class CrossBlock(nn.Module):
    def __init__(self, dim: int, categories: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = CrossAttention(dim, categories, heads)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor, category: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), category)
        return x + self.mlp(self.norm2(x))


class PlainPrototypes(nn.Module):
    def __init__(self, dim: int, categories: int, heads: int) -> None:
        super().__init__()
        self.proj = nn.Linear(3, dim)
        block = CrossBlock(dim, categories, heads)
        self.blocks = nn.ModuleList([block, block])

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        x = self.proj(points)
        for block in self.blocks:
            x = block(x, category)
        return x


class PlainHead(nn.Module):
    """Mapper and prototypes with the weights of a head."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        width, count = head.dim // 2, len(head.categories)
        heads = head.mapper[2].attn.heads
        block = Block(width, num_heads=heads, mlp_ratio=4, qkv_bias=False, norm_layer=nn.LayerNorm)
        self.sphere_mapper = nn.Sequential(nn.Linear(head.dim, width), nn.GELU(), block, nn.Linear(width, 3))
        self.prototypes = PlainPrototypes(head.dim, count, head.prototypes.blocks[0].attn.heads)
        state = {name: tensor for name, tensor in head.state_dict().items() if name != "sphere.weight"}
        self.load_state_dict(state)
        self.to(head.device)


def plain_losses(
    model: PlainHead,
    tokens: Tensor,  # (B, N, D) float32
    masks: Tensor,  # (B, N) bool
    category: Tensor,  # (B,)
    azimuth: Tensor,  # (B,) radians
    coordinates: Tensor,  # (N, 2)
    config: TrainConfig,
    draw: Draw,
) -> Tensor:
    """The four losses of a batch, unweighted: reconstruction, distance, orientation, viewpoint."""
    points = F.normalize(model.sphere_mapper(tokens).float(), dim=-1) * masks.unsqueeze(-1)  # (B, N, 3)
    one_hot = F.one_hot(category, model.prototypes.blocks[0].attn.v.in_features).float()
    reconstruction = model.prototypes(points, one_hot.unsqueeze(1))  # (B, N, D)
    unlikeness = 1 - F.cosine_similarity(tokens, reconstruction.float(), dim=-1)
    likeness_loss = (unlikeness * masks).sum() / masks.sum()

    excesses, disagreements = [], []
    for i in range(len(tokens)):
        patches = masks[i].nonzero().squeeze(1)
        if not len(patches):
            continue
        a, b, c = patches[draw(i, len(patches), 0)].unbind(1)
        s, at = points[i], coordinates
        b_is_nearer = (at[a] - at[b]).square().sum(1) < (at[a] - at[c]).square().sum(1)
        positive, negative = torch.where(b_is_nearer, b, c), torch.where(b_is_nearer, c, b)
        distance_to = (1 - (s[a] * s[positive]).sum(1), 1 - (s[a] * s[negative]).sum(1))
        excesses.append(F.relu(distance_to[0] - distance_to[1] + config.distance_margin))

        a, b, c = patches[draw(i, len(patches), 1)].unbind(1)
        u, w = F.normalize(at[b] - at[a], dim=1), F.normalize(at[c] - at[a], dim=1)
        det = u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]
        kept = det.abs() > config.orientation_threshold
        a, b, c, det = a[kept], b[kept], c[kept], det[kept]
        p, q = torch.where(det > 0, b, c), torch.where(det > 0, c, b)
        tangent = [
            F.normalize(d - s[a] * (s[a] * d).sum(1, keepdim=True), dim=1) for d in (s[p] - s[a], s[q] - s[a])
        ]
        agreement = (torch.linalg.cross(*tangent) * s[a]).sum(1)
        disagreements.append(F.relu(1 - agreement).square())
    distance_loss = torch.cat(excesses).mean()
    together = torch.cat(disagreements)
    orientation_loss = together.mean() if len(together) else together.sum()

    mean = F.normalize(points.mean(dim=1), dim=-1)  # (B, 3)
    wanted = torch.cos(azimuth.unsqueeze(1) - azimuth)
    viewpoint_loss = (mean @ mean.T - wanted).square().mean()
    return torch.stack([likeness_loss, distance_loss, orientation_loss, viewpoint_loss])
