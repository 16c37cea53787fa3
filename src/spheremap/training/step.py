"""One evaluation of the four losses on a batch."""

import torch
from torch import Tensor

from spheremap.head import Head
from spheremap.kernels import cosine_reconstruction, sphere_geometry
from spheremap.losses import mean_directions, relative_viewpoint_loss
from spheremap.training.batches import Batch
from spheremap.training.config import LossWeights, TrainConfig

LOSSES = ("reconstruction", "distance", "orientation", "viewpoint")


def compute_losses(head: Head, batch: Batch, coordinates: Tensor, config: TrainConfig, key: Tensor) -> Tensor:
    """The four losses of a batch, `(4,)` in the order of `LOSSES`, unweighted.

    Nothing here waits for the device.

    Args:
        head: mapper and prototypes.
        batch: B views.
        coordinates: `(N, 2)` from `patch_coordinates`.
        config: backend, numbers of triplets, margin and threshold.
        key: `(3,)` int64 on the batch's device, see `spheremap.kernels.draw_key`; the triplets depend on it
            alone, on every device and with every backend.
    """
    foreground = batch.foreground
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        points = head.mapper(batch.tokens, foreground)  # (M, 3)
        reconstruction = head.prototypes(points, batch.category)  # (M, D)

    geometry = sphere_geometry(
        points,
        coordinates[foreground.patch],
        foreground.offsets,
        foreground.counts,
        key,
        per_image=config.triplets,
        margin=config.distance_margin,
        threshold=config.orientation_threshold,
        backend=config.backend,
    )
    directions = mean_directions(points, foreground.image, len(batch.tokens))
    viewpoint = relative_viewpoint_loss(directions, batch.azimuth, foreground.counts > 0)
    # the features are read where they lie
    likeness = cosine_reconstruction(
        batch.tokens.flatten(0, 1), reconstruction, foreground.rows, backend=config.backend
    )
    return torch.cat([likeness.view(1), geometry, viewpoint.view(1)])


def weight_vector(weights: LossWeights, device: torch.device | str) -> Tensor:
    """The factors of the losses, `(4,)` in the order of `LOSSES`."""
    return torch.tensor([getattr(weights, name) for name in LOSSES], device=device)
