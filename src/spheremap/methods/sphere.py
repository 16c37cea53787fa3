"""Patches compared by their learned position on the object."""

from dataclasses import dataclass

from torch import Tensor

from spheremap.methods.engine.comparison import Images
from spheremap.methods.engine.descriptors import unit
from spheremap.methods.engine.method import Method
from spheremap.model.head import sphere_points


@dataclass(frozen=True)
class Sphere(Method):
    """Cosine of the angle between points of the sphere (Mariotti et al. 2024).

    The mapper takes the cache's own tokens of all patches; no mask is used.
    """

    def describe(self, images: Images) -> Tensor:
        """Sphere points `(B, N, 3)`."""
        return unit(sphere_points(images.head, images.tokens)).cpu()
