"""Anchor loss: an image's mean direction is the point of the equator at its azimuth. Not in the paper."""

import torch
from torch import Tensor

from spheremap.kernels.vectors import masked_mean
from spheremap.model.losses.viewpoint import mean_directions
from spheremap.model.training.step import Outputs


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Over the views of categories that are seen from all round, see `anchored`."""
    batch = outputs.batch
    directions = mean_directions(outputs.points, batch.foreground.image, len(batch.tokens))
    return anchored(directions, batch.azimuth, batch.all_round & (batch.foreground.counts > 0))


def anchored(directions: Tensor, azimuth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """An image's mean direction shall be the point of the equator at its azimuth: (cos, sin, 0).

    Where it is 0, so is the relative viewpoint loss, whose minimum leaves a rotation open; this one settles
    it, and with it the axis that `order` turns about. It spares a plateau: as long as directions say nothing
    about viewpoint, the gradients of the relative loss cancel over the pairs, and it stays near 5/6, as for
    unrelated directions, until chance breaks the symmetry.

    Args:
        directions: `(B, 3)` unit vectors, see `viewpoint.mean_directions`.
        azimuth: `(B,)` radians; NaN where unknown, such an image sits out.
        valid: `(B,)` bool, images that count.

    Returns:
        Scalar, the mean of 1 - cos, 0 if no image counts; and the number of images.
    """
    known = valid & azimuth.isfinite()
    azimuth = torch.where(known, azimuth, 0.0).to(directions.dtype)
    along = directions[:, 0] * torch.cos(azimuth) + directions[:, 1] * torch.sin(azimuth)
    return masked_mean(1 - along, known)
