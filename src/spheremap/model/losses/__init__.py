"""The four losses: pure functions of tensors, with explicit triplets (Mariotti et al. 2024, Section 3)."""

from spheremap.model.losses.coordinates import patch_coordinates
from spheremap.model.losses.distance import relative_distance_loss
from spheremap.model.losses.orientation import orientation_loss
from spheremap.model.losses.reconstruction import reconstruction_loss
from spheremap.model.losses.viewpoint import anchored_viewpoint_loss, mean_directions, relative_viewpoint_loss

__all__ = [
    "anchored_viewpoint_loss",
    "mean_directions",
    "orientation_loss",
    "patch_coordinates",
    "reconstruction_loss",
    "relative_distance_loss",
    "relative_viewpoint_loss",
]
