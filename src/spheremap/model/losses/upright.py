"""Upright loss: what lies higher in the image lies higher on the sphere. Not in the paper."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spheremap.kernels.vectors import masked_mean
from spheremap.model.training.step import Outputs

MARGIN = 0.1  # difference of height on the sphere, whose radius is 1


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Over pairs of patches of all views, see `upright`; it needs no viewpoint."""
    pairs, valid = outputs.pairs()
    row = outputs.batch.coordinates[outputs.batch.foreground.patch][:, 0]
    return upright(outputs.points, row, pairs, valid)


def upright(points: Tensor, row: Tensor, pairs: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Of two patches, the one higher up shall have the larger z.

    People hold the camera upright and objects stand, so that up is one direction for all views. The paper's
    losses leave it open: they are as low if some views are turned by half a turn in the picture plane. With
    two opposite azimuths, as of animals seen from the side, nothing else notices that heads then lie where
    the tails of the other side lie.

    Args:
        points: `(M, 3)` unit vectors.
        row: `(M,)` image position of the same patches, rising downwards.
        pairs: `(P, 2)` int64, rows of `points`, each pair (a, b) of one image.
        valid: `(P,)` bool, pairs that may count; those in one row do not.

    Returns:
        Scalar, the mean of `max(0, MARGIN - sign * (z_a - z_b))` with the sign of b's row minus a's; and the
        number of pairs that count.
    """
    if not len(points):
        return points.sum(), valid.sum()
    height = points[:, 2:].to(torch.promote_types(points.dtype, torch.float32))
    a, b = F.embedding(pairs, height)[..., 0].unbind(-1)
    step = row[pairs[:, 1]] - row[pairs[:, 0]]
    return masked_mean(F.relu(MARGIN - step.sign() * (a - b)), valid & (step != 0))
