"""Relative viewpoint loss (Mariotti et al. 2024, Section 3.2)."""

import torch
from torch import Tensor

from spheremap.kernels.vectors import masked_mean, unit
from spheremap.model.training.distributed import gather_views
from spheremap.model.training.step import Outputs


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Over the views of all processes; where the loss `anchor` is used, pairs that it settles sit out."""
    batch = outputs.batch
    directions = mean_directions(outputs.points, batch.foreground.image, len(batch.tokens))
    columns = [directions, batch.azimuth, batch.foreground.counts > 0]
    if outputs.config.weights.get("anchor"):
        columns.append(batch.all_round)
    return relative_viewpoint(*gather_views(batch.global_batch, *columns))


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


def relative_viewpoint(
    directions: Tensor, azimuth: Tensor, valid: Tensor, anchored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The angle between two images' mean directions shall be the angle between their viewpoints.

    Mean squared error, over all ordered pairs of images including each with itself and across categories,
    between `<S_i, S_j>` and `cos(azimuth_i - azimuth_j)`.

    Args:
        directions: `(B, 3)` unit vectors, see `mean_directions`.
        azimuth: `(B,)` radians; NaN where unknown, such an image sits out.
        valid: `(B,)` bool, images that count (those with foreground).
        anchored: `(B,)` bool, images whose direction is settled otherwise: two of them make no pair.

    Returns:
        Scalar, 0 if no pair counts; and the number of pairs.
    """
    known = valid & azimuth.isfinite()
    azimuth = torch.where(known, azimuth, 0.0).to(directions.dtype)
    error = directions @ directions.T - torch.cos(azimuth.unsqueeze(1) - azimuth)
    pairs = known.unsqueeze(1) & known
    if anchored is not None:
        pairs &= ~(anchored.unsqueeze(1) & anchored)
    return masked_mean(error.square(), pairs)
