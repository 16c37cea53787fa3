"""Orientation loss (Mariotti et al. 2024, Section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.model.losses.vectors import masked_mean, unit


def orientation_loss(
    points: Tensor, coordinates: Tensor, triplets: Tensor, valid: Tensor, threshold: float = 0.7
) -> Tensor:
    """What turns one way in the image shall turn the same way on the sphere.

    For a triplet (a, b, c), det is that of the unit vectors from a to b and from a to c in the image; those
    with `|det| > threshold` count. In the tangent plane of s_a, with (p, q) = (b, c) if det > 0 and (c, b)
    otherwise, the loss is `max(0, 1 - <t_p × t_q, s_a>)²`.

    Args:
        points: `(P, 3)` unit vectors.
        coordinates: `(P, 2)` image positions of the same patches (row, column), see `patch_coordinates`.
        triplets: `(K, 3)` int64, rows of `points`; each triplet within one image.
        valid: `(K,)` bool, triplets that may count.
        threshold: in [0, 1).

    Returns:
        Scalar mean over the triplets that count; 0 without any.
    """
    if not len(points):
        return points.sum()
    turn = image_turn(coordinates, triplets)
    # exchanging p and q only changes the sign of their cross product
    agreement = sphere_turn(points, triplets) * turn.sign()
    return masked_mean(F.relu(1 - agreement).square(), valid & (turn.abs() > threshold))


def image_turn(coordinates: Tensor, triplets: Tensor) -> Tensor:
    """`(K,)` determinant of the unit vectors (row, column) from a to b and from a to c; 0 if one is zero."""
    at_a, at_b, at_c = coordinates[triplets].unbind(-2)
    u, w = unit(at_b - at_a), unit(at_c - at_a)
    return u[..., 0] * w[..., 1] - u[..., 1] * w[..., 0]


def sphere_turn(points: Tensor, triplets: Tensor) -> Tensor:
    """`(K,)` sine of the angle from s_b to s_c as seen from outside above s_a; 0 where it is undefined."""
    a, b, c = F.embedding(triplets, points).unbind(-2)
    t_b, t_c = (unit(x - a - a * torch.linalg.vecdot(a, x - a).unsqueeze(-1)) for x in (b, c))
    return (torch.linalg.cross(t_b, t_c) * a).sum(-1)
