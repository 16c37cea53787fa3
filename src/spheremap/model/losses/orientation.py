"""Orientation loss (Mariotti et al. 2024, Section 3.2)."""

from torch import Tensor

from spheremap.model.training.step import Outputs


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """What turns one way in the image shall turn the same way on the sphere.

    See `kernels.sphere_geometry.orientation_loss`. One operator evaluates it together with the distance loss.
    """
    return outputs.over_triplets("orientation")
