"""Pseudo-labels: matches between views that several witnesses confirm, without any keypoint.

After Dünkel et al. 2025 ("Do It Yourself: Learning Semantic Correspondence from Pseudo-Labels"): a match of
neighbouring views is kept if the way back ends near where it began (relaxed cyclic consistency) and if its
two ends lie close together on the sphere; matches of distant views are chains of such matches.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from spheremap.methods.engine.descriptors import weighted_sum
from spheremap.model.head import Foreground


@dataclass(frozen=True)
class Rules:
    """What a match has to fulfil, see `Adapted`; `columns` patches make a row of the grid."""

    sphere_weight: float
    cycle_radius: float
    angle: float
    columns: int


@dataclass(frozen=True)
class Matches:
    """K pseudo-labels in a batch of views.

    Attributes:
        source: `(K,)` row of the source patch in the batch flattened to `(B * N, D)`.
        view: `(K,)` target view in the batch.
        patch: `(K,)` target patch in that view.
        asked: foreground patches that looked for a match in another view of their chain.
        found: of these, the number that have one.
    """

    source: Tensor
    view: Tensor
    patch: Tensor
    asked: int
    found: int


def pseudo_labels(
    features: Tensor,
    points: Tensor,
    foreground: Foreground,
    chains: Sequence[range],
    rules: Rules,
    *,
    limit: int,
    generator: np.random.Generator,
) -> Matches:
    """Match the foreground of the views of every chain; each match is used in both directions.

    Args:
        features: `(M, D)` unit vectors of the batch's foreground tokens, packed as in `foreground`.
        points: `(M, 3)` their sphere points.
        foreground: index of these tokens, on the same device.
        chains: views of each chain, in order.
        rules: what a match has to fulfil.
        limit: matches kept per pair of views; more are thinned out at random.
        generator: of that draw.
    """
    counts, offsets = foreground.counts.tolist(), foreground.offsets.tolist()
    own = [slice(start, start + count) for start, count in zip(offsets, counts, strict=True)]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    asked = found = 0
    for chain in chains:
        hops = [
            match_pair(
                features[own[a]], features[own[b]], points[own[a]], points[own[b]],
                foreground.patch[own[a]], rules,
            )
            for a, b in pairwise(chain)
        ]  # fmt: skip
        for first, a in enumerate(chain):
            match = torch.arange(counts[a], device=features.device)
            kept = torch.ones_like(match, dtype=torch.bool)
            for b, (hop, confirmed) in zip(chain[first + 1 :], hops[first:], strict=True):
                kept = kept & confirmed[match]
                match = hop[match]
                ends = kept & close(points[own[a]], points[own[b]][match], rules.angle)
                p = ends.nonzero().squeeze(1)
                asked, found = asked + len(match), found + len(p)
                if len(p) > limit:
                    some = np.sort(generator.choice(len(p), limit, replace=False))
                    p = p[torch.from_numpy(some).to(p.device)]
                i, j = offsets[a] + p, offsets[b] + match[p]  # among the M
                for start, end, there in ((i, j, b), (j, i, a)):
                    parts.append((foreground.rows[start], torch.full_like(end, there), foreground.patch[end]))
    source, view, patch = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Matches(source, view, patch, asked, found)


def match_pair(
    source: Tensor,
    target: Tensor,
    source_points: Tensor,
    target_points: Tensor,
    source_patch: Tensor,
    rules: Rules,
) -> tuple[Tensor, Tensor]:
    """Best match `(n,)` of each source token among the target's, and whether both witnesses confirm it.

    Args:
        source, target: `(n, D)` and `(m, D)` unit vectors.
        source_points, target_points: `(n, 3)` and `(m, 3)` on the sphere.
        source_patch: `(n,)` row-major patch of each source token.
        rules: what confirms a match.
    """
    terms = (
        (1 - rules.sphere_weight, source @ target.T),
        (rules.sphere_weight, source_points @ target_points.T),
    )
    similarity = weighted_sum(terms)  # (n, m)
    match, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
    place = torch.stack([source_patch // rules.columns, source_patch % rules.columns], dim=1)
    away = (place[back[match]] - place).square().sum(dim=1)  # whole numbers: exact
    returned = away <= rules.cycle_radius**2
    return match, returned & close(source_points, target_points[match], rules.angle)


def close(a: Tensor, b: Tensor, angle: float) -> Tensor:
    """Whether unit vectors `(n, 3)` are at most `angle` degrees apart, `(n,)`."""
    return (a * b).sum(dim=1) >= math.cos(math.radians(angle))
