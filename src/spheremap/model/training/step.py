"""One evaluation of the four losses on a batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from spheremap.kernels import cosine_reconstruction, sphere_geometry
from spheremap.model.head import Head
from spheremap.model.losses import anchored_viewpoint_loss, mean_directions, relative_viewpoint_loss
from spheremap.model.training.batches import Batch
from spheremap.model.training.config import LossWeights, TrainConfig
from spheremap.model.training.group import Group

Parts = Callable[[Head, Batch, Tensor, TrainConfig, Tensor], tuple[Tensor, Tensor]]

VIEWPOINT = {"relative": relative_viewpoint_loss, "anchored": anchored_viewpoint_loss}
LOSSES = ("reconstruction", "distance", "orientation", "viewpoint")


def compute_parts(
    head: Head, batch: Batch, coordinates: Tensor, config: TrainConfig, key: Tensor
) -> tuple[Tensor, Tensor]:
    """The losses that are means over single views `(3,)`, and the mean directions of all views `(B, 3)`.

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
    reduced = {"float32": False, "bfloat16": True}[config.precision]  # settled, see `settle_precision`
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=reduced):
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
    # the features are read where they lie
    likeness = cosine_reconstruction(
        batch.tokens.flatten(0, 1), reconstruction, foreground.rows, backend=config.backend
    )
    return torch.cat([likeness.view(1), geometry]), directions


def compute_losses(head: Head, batch: Batch, coordinates: Tensor, config: TrainConfig, key: Tensor) -> Tensor:
    """The four losses of a batch, `(4,)` in the order of `LOSSES`, unweighted; see `compute_parts`."""
    means, directions = compute_parts(head, batch, coordinates, config, key)
    viewpoint = VIEWPOINT[config.viewpoint](directions, batch.azimuth, batch.foreground.counts > 0)
    return torch.cat([means, viewpoint.view(1)])


def compute_share(
    parts_of: Parts,
    group: Group,
    head: Head,
    batch: Batch,
    coordinates: Tensor,
    config: TrainConfig,
    key: Tensor,
) -> Tensor:
    """What a process adds to the four losses of the whole batch, `(4,)`.

    Over all processes, losses and gradients add up to those of `compute_losses` with the whole batch. Each
    computes the viewpoint loss over all ordered pairs, but with a gradient to its own mean directions alone:
    those to the others' arise where these are made.

    Args:
        parts_of: `compute_parts`, or the same compiled.
        group: the processes.
        batch: a share.
        head, coordinates, config, key: as for `compute_parts`.
    """
    whole = batch.whole
    if whole is None:
        raise TypeError("not a share of a batch")
    means, own = parts_of(head, batch, coordinates, config, key)
    directions = own.new_zeros(len(whole.azimuth), 3)
    directions[whole.part] = own.detach()
    group.add_up(directions)  # to zeros elsewhere: exact
    directions = torch.cat([directions[: whole.part.start], own, directions[whole.part.stop :]])
    viewpoint = VIEWPOINT[config.viewpoint](directions, whole.azimuth, whole.valid)
    if not group.leads:
        viewpoint = viewpoint - viewpoint.detach()  # the same everywhere, to be counted once
    return torch.cat([means * whole.weight, viewpoint.view(1)])


def weight_vector(weights: LossWeights, device: torch.device | str) -> Tensor:
    """The factors of the losses, `(4,)` in the order of `LOSSES`."""
    return torch.tensor([getattr(weights, name) for name in LOSSES], device=device)
