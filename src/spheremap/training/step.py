"""One evaluation of the four losses on a batch."""

import torch
from torch import Tensor

from spheremap.head import Head
from spheremap.head.mapper import pick
from spheremap.losses import (
    draw_triplets,
    mean_directions,
    orientation_loss,
    reconstruction_loss,
    relative_distance_loss,
    relative_viewpoint_loss,
)
from spheremap.training.batches import Batch
from spheremap.training.config import LossWeights, TrainConfig

LOSSES = ("reconstruction", "distance", "orientation", "viewpoint")


def compute_losses(
    head: Head, batch: Batch, coordinates: Tensor, config: TrainConfig, generator: torch.Generator
) -> Tensor:
    """The four losses of a batch, `(4,)` in the order of `LOSSES`, unweighted.

    Args:
        head: mapper and prototypes.
        batch: B views.
        coordinates: `(N, 2)` from `patch_coordinates`.
        config: numbers of triplets, margin and threshold.
        generator: source of the triplets, on the batch's device.
    """
    foreground = batch.foreground
    features = pick(batch.tokens, foreground.rows)  # (M, D)
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        points = head.mapper(batch.tokens, foreground)  # (M, 3)
        reconstruction = head.prototypes(points, batch.category)  # (M, D)

    places = coordinates[foreground.patch]  # (M, 2)
    draw = (foreground.offsets, foreground.counts, config.triplets, generator)
    near_far, near_far_valid = draw_triplets(*draw)
    turning, turning_valid = draw_triplets(*draw)
    directions = mean_directions(points, foreground.image, len(batch.tokens))
    return torch.stack(
        [
            reconstruction_loss(features, reconstruction),
            relative_distance_loss(points, places, near_far, near_far_valid, config.distance_margin),
            orientation_loss(points, places, turning, turning_valid, config.orientation_threshold),
            relative_viewpoint_loss(directions, batch.azimuth, foreground.counts > 0),
        ]
    )


def weight_vector(weights: LossWeights, device: torch.device | str) -> Tensor:
    """The factors of the losses, `(4,)` in the order of `LOSSES`."""
    return torch.tensor([getattr(weights, name) for name in LOSSES], device=device)
