"""The four losses: pure functions of tensors, with explicit triplets (Mariotti et al. 2024, Section 3)."""

from spheremap.losses.distance import relative_distance_loss
from spheremap.losses.orientation import orientation_loss
from spheremap.losses.reconstruction import reconstruction_loss
from spheremap.losses.triplets import draw_triplets, patch_coordinates, step_generator
from spheremap.losses.viewpoint import mean_directions, relative_viewpoint_loss

__all__ = [
    "draw_triplets",
    "mean_directions",
    "orientation_loss",
    "patch_coordinates",
    "reconstruction_loss",
    "relative_distance_loss",
    "relative_viewpoint_loss",
    "step_generator",
]
