"""Perspective camera and how it is placed around an object.

World frame: right-handed, z up; the object stands at the origin, faces +x, and its left is +y. A camera at
azimuth φ and elevation e stands at d·(cos e cos φ, cos e sin φ, sin e): φ = 0 sees the front, φ = 90° the
object's left side, so that the object faces image-left. Pixel coordinates are continuous, the image spanning
[0, size]².
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spheremap.config.data_sets import Shapes

BINS = 8
BIN_WIDTH = 360.0 / BINS  # degrees

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: its centre `(3,)` in the world.
        axes: `(3, 3)`, rows are the image-right, image-down and forward directions in the world.
        focal: focal length in pixels.
        centre: principal point `(2,)` in pixels.
        size: side of the square image in pixels.
    """

    position: Array
    axes: Array
    focal: float
    centre: Array
    size: int

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels `(N, 2)` and depths along the viewing axis `(N,)` of world points `(N, 3)`."""
        x, y, depth = np.einsum("ij,nj->in", self.axes, points - self.position)
        return np.stack([x, y], axis=1) * (self.focal / depth)[:, None] + self.centre, depth

    def unproject(self, pixels: Array, depth: Array) -> Array:
        """World points `(..., 3)` at pixels `(..., 2)` and depths `(...,)`; the inverse of `project`."""
        x, y = np.moveaxis((pixels - self.centre) / self.focal, -1, 0)
        right, down, forward = self.axes
        rays = x[..., None] * right + y[..., None] * down + forward
        return np.asarray(self.position + depth[..., None] * rays)

    def resized(self, size: int) -> "Camera":
        """The same view as an image of another size."""
        scale = size / self.size
        return Camera(self.position, self.axes, self.focal * scale, self.centre * scale, size)


def look_at_origin(
    azimuth: float, elevation: float, distance: float, roll: float = 0.0
) -> tuple[Array, Array]:
    """Position `(3,)` and axes `(3, 3)` of a camera that looks at the origin; all angles in degrees."""
    phi, e, rho = np.radians([azimuth, elevation, roll])
    outward = np.array([np.cos(e) * np.cos(phi), np.cos(e) * np.sin(phi), np.sin(e)])
    right = np.array([-np.sin(phi), np.cos(phi), 0.0])
    down = np.cross(-outward, right)
    turned = [np.cos(rho) * right + np.sin(rho) * down, np.cos(rho) * down - np.sin(rho) * right]
    return distance * outward, np.stack([*turned, -outward])


def framed(position: Array, axes: Array, points: Array, size: int, extent: float, offset: Array) -> Camera:
    """Zoom and shift so that the points fill a given part of the image.

    Args:
        position: camera centre `(3,)`.
        axes: camera axes `(3, 3)`.
        points: world points `(V, 3)` to be framed.
        size: side of the image in pixels.
        extent: longer side of the points' bounding box as a fraction of the image side.
        offset: `(2,)` shift of that box from the middle as fractions of the image side; cut short where it
            would push the points out of the image.
    """
    unit, _ = Camera(position, axes, 1.0, np.zeros(2), size).project(points)
    low, high = unit.min(axis=0), unit.max(axis=0)
    focal = extent * size / float((high - low).max())
    room = (size - focal * (high - low)) / 2
    shift = np.clip(offset * size, -room, room)
    return Camera(position, axes, focal, size / 2 + shift - focal * (low + high) / 2, size)


def draw_camera(rng: np.random.Generator, points: Array, ranges: Shapes, view_bin: int) -> Camera:
    """Draw a camera within one azimuth bin, from which `points` `(V, 3)` fill the picture as `ranges` say."""
    azimuth = view_bin * BIN_WIDTH + rng.uniform(-ranges.azimuth_jitter, ranges.azimuth_jitter)
    elevation, distance = rng.uniform(*ranges.elevation), rng.uniform(*ranges.distance)
    position, axes = look_at_origin(azimuth, elevation, distance, rng.uniform(-ranges.roll, ranges.roll))
    extent = rng.uniform(*ranges.object_size)
    offset = rng.uniform(-ranges.shift, ranges.shift, size=2)
    return framed(position, axes, points, ranges.image_size, extent, offset)
