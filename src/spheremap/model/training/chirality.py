"""Chirality: on which of two spheres, half a turn apart, parts have found their places.

The paper's losses know the viewpoint by the cosine of azimuth differences alone, and the orientation of
triplets is blind to a half turn in the picture plane. So they are as low on a sphere on which everything is
turned by half a turn about the mean direction of its picture. There, parts do not stay in place when the
camera moves on, but slide over the sphere, and matching gains nothing.

Where only two opposite azimuths are known, both spheres match equally well, and nobody can tell them apart.
But there is a third one, on which the pictures of one of the two azimuths are turned and those of the other
are not: heads lie where the tails of the others do. It is told by what is above: one direction for all.
"""

import torch
from torch import Tensor

from spheremap.kernels.vectors import unit

ROUNDING = 1e-6  # longitudes that differ by less are the same


def rising_axis(directions: Tensor, azimuth: Tensor) -> Tensor:
    """Unit vector `(3,)` about which mean directions turn as azimuth rises; zero if they do not.

    It is along `Σ_ij sin(a_j - a_i) m_i × m_j`, which is twice `(Σ cos(a_i) m_i) × (Σ sin(a_j) m_j)`.

    Args:
        directions: `(B, 3)` mean directions m of pictures of one category.
        azimuth: `(B,)` radians, a, all known.
    """
    return unit(torch.linalg.cross(torch.cos(azimuth) @ directions, torch.sin(azimuth) @ directions))


def image_chirality(points: Tensor, column: Tensor, axis: Tensor) -> Tensor:
    """Pearson correlation, over the points of one picture, of longitude on the sphere and column.

    The longitude of a point s is `n · (m × s)`, with the axis n and the picture's mean direction m. Azimuth
    rises as in SPair-71k (90° faces the image's left): 1 is a sphere on which parts stay in place, -1 the one
    that is turned.

    Args:
        points: `(P, 3)` unit vectors.
        column: `(P,)` columns of their patches, rising to the right.
        axis: `(3,)`, see `rising_axis`.

    Returns:
        Scalar; NaN where longitude or column does not vary.
    """
    longitude = points @ torch.linalg.cross(axis, unit(points.mean(0)))
    (x, y) = (values - values.mean() for values in (longitude, column))
    x = torch.where(x.abs().max() > ROUNDING, x, 0.0)
    return (x @ y) / (x.norm() * y.norm())


def upward(points: Tensor, row: Tensor) -> Tensor:
    """Unit vector `(3,)`: where on the sphere those points of one picture lie that are higher up in it.

    Args:
        points: `(P, 3)` unit vectors.
        row: `(P,)` rows of their patches, rising downwards.

    Returns:
        The direction of the covariance of points and height; zero where either does not vary.
    """
    return unit((row.mean() - row) @ points)
