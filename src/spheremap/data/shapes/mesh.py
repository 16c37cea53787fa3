"""Triangle meshes and the primitives from which the embedded objects are put together.

Every primitive is a closed surface whose faces run counter-clockwise seen from outside. Nearly all of them
are lofts: a stack of convex rings joined by quadrilaterals and closed by two caps. Lengths are in whatever
unit the caller uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Span = tuple[float, float]


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh with one colour per face.

    vertices: (V, 3) float64; faces: (F, 3) int32, counter-clockwise seen from outside; colors: (F, 3) float32
    linear RGB in [0, 1].
    """

    vertices: Array
    faces: NDArray[np.int32]
    colors: NDArray[np.float32]

    def triangles(self) -> Array:
        """Corner coordinates of every face, (F, 3, 3)."""
        return self.vertices[self.faces]

    def volume(self) -> float:
        """Signed volume; positive when the faces are counter-clockwise seen from outside."""
        a, b, c = (self.vertices[self.faces[:, corner]] - self.vertices[0] for corner in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)

    def moved(self, offset: ArrayLike) -> Mesh:
        """The mesh shifted by `offset` (3,)."""
        return Mesh(self.vertices + np.asarray(offset, dtype=np.float64), self.faces, self.colors)

    def scaled(self, factor: float) -> Mesh:
        """The mesh scaled about the origin by a positive factor."""
        return Mesh(self.vertices * factor, self.faces, self.colors)

    def rotated(self, rotation: Array) -> Mesh:
        """The mesh turned by a (3, 3) rotation matrix about the origin."""
        return Mesh(self.vertices @ rotation.T, self.faces, self.colors)

    def mirrored(self) -> Mesh:
        """The mirror image in the plane y = 0, wound so that the faces still look outward."""
        return Mesh(self.vertices * (1.0, -1.0, 1.0), self.faces[:, ::-1], self.colors)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh holding all faces of `meshes`, in their order."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)])
    vertices, colors = (np.concatenate([getattr(m, name) for m in meshes]) for name in ("vertices", "colors"))
    return Mesh(vertices, faces.astype(np.int32), colors)


def rotation_about(axis: ArrayLike, angle: float) -> Array:
    """(3, 3) matrix of the right-handed rotation by `angle` radians about `axis` (Rodrigues' formula)."""
    x, y, z = unit(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


def unit(vector: ArrayLike) -> Array:
    """`vector` (..., 3) divided by its length along the last axis."""
    array = np.asarray(vector, dtype=np.float64)
    return array / np.sqrt((array * array).sum(axis=-1, keepdims=True))


# ------------------------------------------------------------------------------------------------ lofts


def loft(rings: ArrayLike, color: ArrayLike, *, ring_closed: bool = False) -> Mesh:
    """Join a stack of convex rings (S, K, 3) into a closed surface.

    Neighbouring rings are joined point by point; the first and the last are capped, unless `ring_closed`
    joins the last back to the first (a torus). The winding follows from the signed volume, so rings may run
    either way round. `color` (3,) is cut to [0, 1].
    """
    rings = np.asarray(rings, dtype=np.float64)
    stack, around = rings.shape[:2]
    index = np.arange(stack * around, dtype=np.int32).reshape(stack, around)
    lower = index if ring_closed else index[:-1]
    upper = np.roll(index, -1, axis=0) if ring_closed else index[1:]
    lower_next, upper_next = np.roll(lower, -1, axis=1), np.roll(upper, -1, axis=1)
    faces = [
        np.stack([lower, lower_next, upper_next], axis=-1).reshape(-1, 3),
        np.stack([lower, upper_next, upper], axis=-1).reshape(-1, 3),
    ]
    if not ring_closed:
        first, last = index[0], index[-1]
        faces.append(np.stack([np.full(around - 2, first[0]), first[2:], first[1:-1]], axis=-1))
        faces.append(np.stack([np.full(around - 2, last[0]), last[1:-1], last[2:]], axis=-1))
    vertices, joined = rings.reshape(-1, 3), np.concatenate(faces)
    tint = np.clip(np.asarray(color, dtype=np.float32), 0.0, 1.0)
    mesh = Mesh(vertices, joined, np.tile(tint, (len(joined), 1)))
    return mesh if mesh.volume() >= 0 else Mesh(vertices, joined[:, ::-1], mesh.colors)


def prism(polygon: ArrayLike, extent: ArrayLike, color: ArrayLike) -> Mesh:
    """A convex polygon (K, 3) swept along the vector `extent` (3,)."""
    base = np.asarray(polygon, dtype=np.float64)
    return loft(np.stack([base, base + np.asarray(extent, dtype=np.float64)]), color)


def box(size: ArrayLike, centre: ArrayLike, color: ArrayLike, *, taper: float = 1.0) -> Mesh:
    """An axis-aligned box of edge lengths `size`; its top face is scaled by `taper` (1 = a plain box)."""
    half = np.asarray(size, dtype=np.float64) / 2.0
    ring = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [1.0, -1.0, 0.0]]) * half
    rise = np.array([0.0, 0.0, half[2]])
    return loft(np.stack([ring - rise, ring * taper + rise]) + np.asarray(centre, dtype=np.float64), color)


def lathe(
    profile: ArrayLike, centre: ArrayLike, axis: ArrayLike, color: ArrayLike, *, sides: int = 12
) -> Mesh:
    """A surface of revolution: `profile` (S, 2) lists (offset along `axis`, radius > 0)."""
    direction = unit(axis)
    side, other = _frame(direction)
    turn = np.arange(sides) * (2.0 * np.pi / sides) + np.pi / sides
    circle = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * other
    offsets, radii = np.asarray(profile, dtype=np.float64).T
    rings = offsets[:, None, None] * direction + radii[:, None, None] * circle
    return loft(rings + np.asarray(centre, dtype=np.float64), color)


def cylinder(start: ArrayLike, end: ArrayLike, radius: float, color: ArrayLike, *, sides: int = 12) -> Mesh:
    """A round bar from `start` to `end`."""
    return cone(start, end, radius, radius, color, sides=sides)


def cone(
    start: ArrayLike, end: ArrayLike, radius: float, end_radius: float, color: ArrayLike, *, sides: int = 12
) -> Mesh:
    """A truncated cone from `start`, where it has `radius`, to `end` (both radii > 0)."""
    begin = np.asarray(start, dtype=np.float64)
    axis = np.asarray(end, dtype=np.float64) - begin
    length = float(np.sqrt(axis @ axis))
    return lathe([(0.0, radius), (length, end_radius)], begin, axis, color, sides=sides)


def ellipsoid(
    centre: ArrayLike, radii: ArrayLike, color: ArrayLike, *, sides: int = 10, levels: int = 6
) -> Mesh:
    """An axis-aligned ellipsoid: `levels` rings of `sides` points along x, with flat caps for poles."""
    latitude = np.linspace(-1.25, 1.25, levels)
    profile = np.stack([np.sin(latitude) / np.sin(1.25), np.cos(latitude)], axis=-1)
    ball = lathe(profile, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), color, sides=sides)
    stretched = ball.vertices * np.asarray(radii, dtype=np.float64) + np.asarray(centre, dtype=np.float64)
    return Mesh(stretched, ball.faces, ball.colors)


def tube(points: ArrayLike, radii: ArrayLike, color: ArrayLike, *, sides: int = 8) -> Mesh:
    """A round or elliptic tube along a polyline (P, 3).

    `radii` is one radius, one per point (P,), or two per point (P, 2): across (along y for a path in a plane
    y = const) and in the plane of the path.
    """
    path = np.asarray(points, dtype=np.float64)
    size = np.asarray(radii, dtype=np.float64)
    size = np.broadcast_to(size[:, None] if size.ndim == 1 else size, (len(path), 2))
    steps = unit(np.diff(path, axis=0))
    tangents = unit(np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]]))
    side, other = _frame(tangents, along=path[-1] - path[0])
    turn = (np.arange(sides) * (2.0 * np.pi / sides) + np.pi / sides)[None, :, None]
    across, inplane = (size[:, None, axis, None] for axis in (0, 1))
    rings = path[:, None] + across * np.cos(turn) * side[:, None] + inplane * np.sin(turn) * other[:, None]
    return loft(rings, color)


def torus(
    centre: ArrayLike,
    radius: float,
    thickness: float,
    color: ArrayLike,
    *,
    sides: int = 24,
    around: int = 6,
    width: float | None = None,
) -> Mesh:
    """A ring in the plane y = const: `radius` to mid-tube, tube radius `thickness` (`width` along y)."""
    turn = np.arange(sides) * (2.0 * np.pi / sides)
    section = np.arange(around) * (2.0 * np.pi / around) + np.pi / around
    reach = radius + thickness * np.cos(section)[None, :]
    sideways = np.broadcast_to((width or thickness) * np.sin(section)[None, :], (sides, around))
    rings = np.stack([reach * np.cos(turn)[:, None], sideways, reach * np.sin(turn)[:, None]], axis=-1)
    return loft(rings + np.asarray(centre, dtype=np.float64), color, ring_closed=True)


def wing(
    root: ArrayLike,
    tip: ArrayLike,
    chords: tuple[float, float],
    thickness: float,
    color: ArrayLike,
    *,
    normal: ArrayLike = (0.0, 0.0, 1.0),
) -> Mesh:
    """A swept wing, fin or blade: leading edge from `root` to `tip`, chords toward -x.

    The section is lens-shaped along `normal`. `thickness` is the greatest at the root; it shrinks with the
    chord.
    """
    along = np.array([0.0, 0.12, 0.45, 1.0, 0.45, 0.12])
    across = np.array([0.0, 0.35, 0.5, 0.0, -0.5, -0.35])
    upward = unit(normal)
    sections = [
        np.asarray(edge, dtype=np.float64)
        - along[:, None] * chord * np.array([1.0, 0.0, 0.0])
        + across[:, None] * thickness * (chord / chords[0]) * upward
        for edge, chord in zip((root, tip), chords, strict=True)
    ]
    return loft(np.stack(sections), color)


def panel(
    quad: ArrayLike, color: ArrayLike, thickness: float, *, u: Span = (0.0, 1.0), v: Span = (0.0, 1.0)
) -> Mesh:
    """A plate laid on the part u, v (fractions) of a quadrilateral (4, 3), standing off by `thickness`.

    Corners run counter-clockwise seen from the side the plate stands on: u goes from corner 0 to 1, v from
    corner 0 to 3.
    """
    corners = np.asarray(quad, dtype=np.float64)
    outward = unit(np.cross(corners[2] - corners[0], corners[3] - corners[1]))
    ends = ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1]))
    return prism(np.stack([quad_point(corners, a, b) for a, b in ends]), thickness * outward, color)


def quad_point(quad: ArrayLike, u: float, v: float) -> Array:
    """Bilinear point of a quadrilateral (4, 3) at the fractions u (corner 0 to 1) and v (corner 0 to 3)."""
    a, b, c, d = np.asarray(quad, dtype=np.float64)
    return (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * d + u * c)


def _frame(tangents: Array, along: Array | None = None) -> tuple[Array, Array]:
    """Unit vectors across `tangents` (..., 3); the first as near to y as can be (to x, for paths along y)."""
    lead = unit(tangents if along is None else along)
    reference = np.array([1.0, 0.0, 0.0]) if abs(lead[..., 1]) > 0.8 else np.array([0.0, 1.0, 0.0])
    side = unit(reference - (tangents @ reference)[..., None] * tangents)
    return side, np.cross(side, tangents)


# ---------------------------------------------------------------------------------------------- queries


def first_hit(triangles: Array, origin: Array, direction: Array) -> float:
    """Distance along a ray to the first triangle (F, 3, 3) it meets, from either side; inf if none.

    `direction` (3,) is a unit vector. Intersection after Möller and Trumbore, "Fast, minimum storage
    ray-triangle intersection", 1997.
    """
    corner = triangles[:, 0]
    edge1, edge2 = triangles[:, 1] - corner, triangles[:, 2] - corner
    across = np.cross(direction, edge2)
    determinant = np.einsum("ij,ij->i", edge1, across)
    usable = np.abs(determinant) > 1e-14
    inverse = 1.0 / np.where(usable, determinant, 1.0)
    offset = origin - corner
    u = np.einsum("ij,ij->i", offset, across) * inverse
    other = np.cross(offset, edge1)
    v = (other @ direction) * inverse
    distance = np.einsum("ij,ij->i", edge2, other) * inverse
    hit = usable & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1.0 + 1e-9) & (distance > 1e-12)
    return float(distance[hit].min()) if hit.any() else float("inf")


def closest_point(triangles: Array, point: Array) -> Array:
    """The point of the triangles (F, 3, 3) nearest to `point` (3,)."""
    corner = triangles[:, 0]
    edge1, edge2 = triangles[:, 1] - corner, triangles[:, 2] - corner
    normal = np.cross(edge1, edge2)
    area = np.einsum("ij,ij->i", normal, normal)
    offset = point - corner
    area = np.where(area > 0, area, 1.0)
    u = np.einsum("ij,ij->i", np.cross(offset, edge2), normal) / area
    v = np.einsum("ij,ij->i", np.cross(edge1, offset), normal) / area
    inside = (u >= 0) & (v >= 0) & (u + v <= 1)
    candidates = [(corner + u[:, None] * edge1 + v[:, None] * edge2)[inside]]
    for start in range(3):
        begin, edge = triangles[:, start], triangles[:, (start + 1) % 3] - triangles[:, start]
        length = np.maximum(np.einsum("ij,ij->i", edge, edge), 1e-300)
        fraction = np.clip(np.einsum("ij,ij->i", point - begin, edge) / length, 0.0, 1.0)
        candidates.append(begin + fraction[:, None] * edge)
    nearest = np.concatenate(candidates)
    return np.asarray(nearest[np.argmin(((nearest - point) ** 2).sum(axis=1))])
