"""Relative distance loss (Mariotti et al. 2024, Section 3.2)."""

from torch import Tensor

from spheremap.model.training.step import Outputs


def loss(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """What is nearer in the image shall be nearer on the sphere; see `kernels.sphere_geometry.distance_loss`.

    One operator evaluates it together with the orientation loss.
    """
    return outputs.over_triplets("distance")
