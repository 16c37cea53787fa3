"""A z-buffer rasteriser in NumPy, without a Python loop over triangles or pixels.

Every triangle is cut into its pixel rows, every row into its pixels; the nearest fragment per pixel wins. A
pixel belongs to a triangle if its centre does, by half-open rules: neighbours leave neither gap nor overlap.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spheremap.data.shapes.camera import Camera

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# triangles smaller than this (twice the area in squared pixels) cover no pixel centre reliably
_MIN_AREA = 1e-9
_NEAR = 0.05  # object radii: faces reaching closer to the camera plane are left out


@dataclass(frozen=True)
class Buffers:
    """What is seen in each pixel.

    Attributes:
        face: `(size, size)` index of the nearest face, -1 where there is none.
        depth: `(size, size)` depth along the viewing axis, infinite where there is no face.
        pixels: `(P,)` flat indices of the covered pixels, ascending.
        weights: `(P, 3)` perspective-correct barycentric coordinates of the covered pixels.
    """

    face: Ints
    depth: Floats
    pixels: Ints
    weights: Floats


def rasterise(camera: Camera, vertices: Floats, faces: NDArray[np.integer]) -> Buffers:
    """Draw a triangle mesh with back faces culled.

    Args:
        camera: its `size` is the resolution of the buffers.
        vertices: world points `(V, 3)`.
        faces: vertex indices `(F, 3)`, counter-clockwise as seen from outside.
    """
    xy, depth = camera.project(vertices)
    corners = xy[faces]  # (F, 3, 2)
    # y points down, so a counter-clockwise face has negative signed area
    front = np.flatnonzero((_doubled_area(corners) < -_MIN_AREA) & (depth[faces].min(axis=1) > _NEAR))
    corners, inverse_depth = corners[front], 1.0 / depth[faces[front]]

    triangle, row, column = _fragments(corners, camera.size)
    plane = _planes(corners, inverse_depth)
    # 1 / depth is affine in the image
    near = plane[triangle, 0] * (column + 0.5) + plane[triangle, 1] * (row + 0.5) + plane[triangle, 2]
    pixel = row * camera.size + column
    nearest = np.zeros(camera.size**2)
    np.maximum.at(nearest, pixel, near)
    wins = near == nearest[pixel]
    winner = np.full(camera.size**2, -1)
    winner[pixel[wins]] = triangle[wins]

    pixels = np.flatnonzero(winner >= 0)
    winner = winner[pixels]
    face = np.full(camera.size**2, -1)
    face[pixels] = front[winner]
    distance = np.full(camera.size**2, np.inf)
    distance[pixels] = 1.0 / nearest[pixels]
    shape = (camera.size, camera.size)
    weights = _weights(corners[winner], inverse_depth[winner], pixels, camera.size)
    return Buffers(face.reshape(shape), distance.reshape(shape), pixels, weights)


def coverage(camera: Camera, vertices: Floats, faces: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels `(size, size)` that any face covers, whichever side it shows: the silhouette."""
    xy, depth = camera.project(vertices)
    in_front = (depth > _NEAR)[faces].all(axis=1)
    _, row, column = _fragments(xy[faces[in_front]], camera.size)
    covered = np.zeros((camera.size, camera.size), dtype=bool)
    covered[row, column] = True
    return covered


def _doubled_area(corners: Floats) -> Floats:
    """Twice the signed area `(F,)` of image triangles `(F, 3, 2)`."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _fragments(corners: Floats, size: int) -> tuple[Ints, Ints, Ints]:
    """Triangle, row and column `(N,)` of every pixel centre inside every triangle `(F, 3, 2)`."""
    y = corners[:, :, 1]
    first, last = _centres(y.min(axis=1), y.max(axis=1), size)
    span_triangle, row = _ranges(first, last)
    left, right = _crossings(corners, span_triangle, row.astype(np.float64) + 0.5)
    first, last = _centres(left, right, size)
    span, column = _ranges(first, last)
    return span_triangle[span], row[span], column


def _centres(low: Floats, high: Floats, size: int) -> tuple[Ints, Ints]:
    """Half-open index range of the pixels whose centre lies in [low, high), cut to [0, size)."""
    return tuple(np.clip(np.ceil(edge - 0.5), 0, size).astype(np.int64) for edge in (low, high))  # type: ignore[return-value]


def _ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Concatenate the ranges [first, last): the owner of each entry and its value."""
    length = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(length)), length)
    start = np.cumsum(length) - length
    return owner, np.arange(len(owner)) - (start - first)[owner]


def _crossings(corners: Floats, triangle: Ints, y: Floats) -> tuple[Floats, Floats]:
    """Where horizontal lines enter and leave their triangles: left and right x `(S,)`."""
    left, right = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        # always from the upper end to the lower: two triangles that share the edge must compute the same x
        swap = corners[:, i, 1] > corners[:, j, 1]
        upper = np.where(swap[:, None], corners[:, j], corners[:, i])
        lower = np.where(swap[:, None], corners[:, i], corners[:, j])
        height = lower[:, 1] - upper[:, 1]
        slope = (lower[:, 0] - upper[:, 0]) / np.where(height > 0, height, 1.0)
        x = upper[triangle, 0] + (y - upper[triangle, 1]) * slope[triangle]
        crosses = (upper[triangle, 1] <= y) & (y < lower[triangle, 1])
        left = np.where(crosses, np.minimum(left, x), left)
        right = np.where(crosses, np.maximum(right, x), right)
    return left, right


def _planes(corners: Floats, values: Floats) -> Floats:
    """Coefficients `(F, 3)` of a·x + b·y + c through `values` `(F, 3)` at the corners `(F, 3, 2)`."""
    (x0, y0), (x1, y1), (x2, y2) = (corners[:, k].T for k in range(3))
    area = _doubled_area(corners)
    d1, d2 = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
    a = (d1 * (y2 - y0) - d2 * (y1 - y0)) / area
    b = (d2 * (x1 - x0) - d1 * (x2 - x0)) / area
    return np.stack([a, b, values[:, 0] - a * x0 - b * y0], axis=1)


def _weights(corners: Floats, inverse_depth: Floats, pixels: Ints, size: int) -> Floats:
    """Perspective-correct barycentric coordinates `(P, 3)` of pixels in their triangles `(P, 3, 2)`."""
    point = np.stack([pixels % size + 0.5, pixels // size + 0.5], axis=1)
    to = corners - point[:, None]
    cross = [to[:, i, 0] * to[:, j, 1] - to[:, i, 1] * to[:, j, 0] for i, j in ((1, 2), (2, 0), (0, 1))]
    weights = np.stack(cross, axis=1) * inverse_depth
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
