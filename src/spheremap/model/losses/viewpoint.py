"""Viewpoint loss: relative (Mariotti et al. 2024, Section 3.2) or anchored."""

import torch
from torch import Tensor

from spheremap.kernels.vectors import masked_mean, unit
from spheremap.model.training.distributed import gather_views
from spheremap.model.training.step import Outputs


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Over the views of all processes, by `train.viewpoint`: `relative_viewpoint` or `anchored_viewpoint`."""
    batch = outputs.batch
    directions = mean_directions(outputs.points, batch.foreground.image, len(batch.tokens))
    valid = batch.foreground.counts > 0
    views = gather_views(batch.whole, directions, batch.azimuth, valid)
    kinds = {"relative": relative_viewpoint, "anchored": anchored_viewpoint}
    return kinds[outputs.config.viewpoint](*views)


def mean_directions(points: Tensor, image: Tensor, images: int) -> Tensor:
    """Normalised mean `(B, 3)` of each image's points; zero for an image without any.

    The mean runs over all patches of the image with the background at zero, so that it has the direction of
    the sum over the foreground.

    Args:
        points: `(M, 3)` sphere points of the foreground.
        image: `(M,)` int64 image of each point.
        images: B.
    """
    # a product with the membership matrix is deterministic on every device, unlike a scatter
    membership = image == torch.arange(images, device=image.device).unsqueeze(-1)  # (B, M)
    return unit(membership.to(points.dtype) @ points)


def relative_viewpoint(directions: Tensor, azimuth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The angle between two images' mean directions shall be the angle between their viewpoints.

    Mean squared error, over all ordered pairs of images including each with itself and across categories,
    between `<S_i, S_j>` and `cos(azimuth_i - azimuth_j)`.

    Args:
        directions: `(B, 3)` unit vectors, see `mean_directions`.
        azimuth: `(B,)` radians; NaN where unknown, such an image sits out.
        valid: `(B,)` bool, images that count (those with foreground).

    Returns:
        Scalar, 0 if no image counts; and the number of pairs.
    """
    known = valid & azimuth.isfinite()
    azimuth = torch.where(known, azimuth, 0.0).to(directions.dtype)
    error = directions @ directions.T - torch.cos(azimuth.unsqueeze(1) - azimuth)
    return masked_mean(error.square(), known.unsqueeze(1) & known)


def anchored_viewpoint(directions: Tensor, azimuth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """An image's mean direction shall be the point of the equator at its azimuth: (cos, sin, 0).

    Not in the paper. Where it is 0, so is the relative loss, whose minimum leaves a rotation open; this one
    settles it, and with that which way a sphere is turned. It spares a plateau: as long as directions say
    nothing about viewpoint, the gradients of the relative loss cancel over the pairs, and it stays near 5/6,
    the value of unrelated directions, until chance breaks the symmetry.

    Args:
        directions, azimuth, valid: as for `relative_viewpoint`.

    Returns:
        Scalar, the mean of 1 - cos, 0 if no image counts; and the number of images.
    """
    known = valid & azimuth.isfinite()
    azimuth = torch.where(known, azimuth, 0.0).to(directions.dtype)
    along = directions[:, 0] * torch.cos(azimuth) + directions[:, 1] * torch.sin(azimuth)
    return masked_mean(1 - along, known)
