"""Relative distance loss (Mariotti et al. 2024, Section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.model.losses.vectors import masked_mean


def relative_distance_loss(
    points: Tensor, coordinates: Tensor, triplets: Tensor, valid: Tensor, margin: float = 0.5
) -> Tensor:
    """What is nearer in the image shall be nearer on the sphere.

    For a triplet (a, b, c) the positive is whichever of b and c is nearer to a in the image, c if they are
    equally near; the loss is `max(0, d(a, positive) - d(a, negative) + margin)` with `d = 1 - cos`.

    Args:
        points: `(P, 3)` unit vectors.
        coordinates: `(P, 2)` image positions of the same patches (row, column), see `patch_coordinates`.
        triplets: `(K, 3)` int64, rows of `points`; each triplet within one image.
        valid: `(K,)` bool, triplets that count.
        margin: in units of d.

    Returns:
        Scalar mean over the valid triplets; 0 without any.
    """
    if not len(points):
        return points.sum()
    a, b, c = F.embedding(triplets, points).unbind(-2)  # each (K, 3)
    at_a, at_b, at_c = coordinates[triplets].unbind(-2)  # each (K, 2)
    b_is_nearer = (at_b - at_a).square().sum(-1) < (at_c - at_a).square().sum(-1)
    excess = torch.linalg.vecdot(a, c) - torch.linalg.vecdot(a, b)  # d(a, b) - d(a, c)
    excess = torch.where(b_is_nearer, excess, -excess)
    return masked_mean(F.relu(excess + margin), valid)
