"""Order loss: what lies further right in the image lies further along on the sphere. Not in the paper."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.kernels.vectors import masked_mean
from spheremap.model.training.step import Outputs

MARGIN = 0.1  # sine of the longitude between the two, times their distance from the axis


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Over pairs of patches of the views of categories that are seen from all round, see `ordered`.

    The axis is the one that `anchor` settles: without it the loss asks for a sphere that nothing else asks
    for.
    """
    batch, foreground = outputs.batch, outputs.batch.foreground
    pairs, valid = outputs.pairs()
    column = batch.coordinates[foreground.patch][:, 1]
    all_round = batch.all_round.repeat_interleave(outputs.config.triplets).repeat(3)
    return ordered(outputs.points, column, pairs, valid & all_round)


def ordered(points: Tensor, column: Tensor, pairs: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Of two patches, the one further right shall lie further along rising azimuth, about the axis z.

    Azimuth rises as in SPair-71k (90° is an object that faces the image's left): when it does, parts that
    stay in place on the sphere move to the image's left. Spheres on which everything is turned by half a turn
    about the mean direction satisfy the paper's losses as well, but not this one.

    Args:
        points: `(M, 3)` unit vectors.
        column: `(M,)` image position of the same patches, rising to the right.
        pairs: `(P, 2)` int64, rows of `points`, each pair (a, b) of one image.
        valid: `(P,)` bool, pairs that may count; those in one column do not.

    Returns:
        Scalar, the mean of `max(0, MARGIN - sign * z·(s_a × s_b))` with the sign of b's column minus a's;
        and the number of pairs that count.
    """
    if not len(points):
        return points.sum(), valid.sum()
    a, b = F.embedding(pairs, points.to(torch.promote_types(points.dtype, torch.float32))).unbind(-2)
    step = column[pairs[:, 1]] - column[pairs[:, 0]]
    along = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return masked_mean(F.relu(MARGIN - step.sign() * along), valid & (step != 0))
