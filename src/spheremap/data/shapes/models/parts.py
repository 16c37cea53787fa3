"""What the object models share: the assembly of parts and keypoint marks, and colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from spheremap.data.shapes.mesh import Array, Mesh, closest_point, first_hit, merge, unit


@dataclass(frozen=True)
class Instance:
    """One object: mesh and keypoints in the object frame (x forward, y to its left, z up).

    The bounding box is centred at the origin and the farthest vertex is at distance 1. `keypoints` maps each
    name of the category, in a fixed order, to a point (3,) on the outer surface, or to NaNs where this
    instance lacks the part.
    """

    mesh: Mesh
    keypoints: dict[str, Array]


@dataclass(frozen=True)
class Mark:
    """A keypoint to be: on the surface first met from `point + reach * outward` toward `point`."""

    point: Array
    outward: Array
    reach: float


@dataclass
class Assembly:
    """Parts and keypoint marks collected in one frame, in any unit of length."""

    parts: list[Mesh] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)

    def add(self, *meshes: Mesh) -> None:
        """Add parts."""
        self.parts.extend(meshes)

    def add_pair(self, *meshes: Mesh) -> None:
        """Add parts of the left side together with their mirror images on the right."""
        for mesh in meshes:
            self.parts += [mesh, mesh.mirrored()]

    def mark(self, name: str, point: ArrayLike, outward: ArrayLike, reach: float = 0.1) -> None:
        """Mark a keypoint near `point` (3,), to be put on the surface seen from the direction `outward`."""
        self.marks[name] = Mark(np.asarray(point, dtype=np.float64), unit(outward), reach)

    def mark_pair(self, stem: str, point: ArrayLike, outward: ArrayLike, reach: float = 0.1) -> None:
        """Mark `<stem>_left` at a point of the left side (y > 0) and `<stem>_right` at its mirror image."""
        flip = np.array([1.0, -1.0, 1.0])
        self.mark(f"{stem}_left", point, outward, reach)
        self.mark(f"{stem}_right", np.asarray(point) * flip, np.asarray(outward) * flip, reach)

    def place(self, other: Assembly, rotation: Array, offset: ArrayLike) -> None:
        """Take over the parts and marks of `other`, turned by a (3, 3) matrix, then shifted."""
        shift = np.asarray(offset, dtype=np.float64)
        self.parts += [mesh.rotated(rotation).moved(shift) for mesh in other.parts]
        for name, mark in other.marks.items():
            self.marks[name] = Mark(rotation @ mark.point + shift, rotation @ mark.outward, mark.reach)

    def finish(self, names: Sequence[str]) -> Instance:
        """Centre and scale the assembly and put every marked keypoint onto its surface."""
        mesh = merge(self.parts)
        centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2.0
        scale = 1.0 / float(np.sqrt(((mesh.vertices - centre) ** 2).sum(axis=1).max()))
        mesh = mesh.moved(-centre).scaled(scale)
        triangles = mesh.triangles()
        keypoints = {name: np.full(3, np.nan) for name in names}
        for name, mark in self.marks.items():
            point, reach = (mark.point - centre) * scale, mark.reach * scale
            start = point + reach * mark.outward
            distance = first_hit(triangles, start, -mark.outward)
            on_ray = distance <= 2.0 * reach
            keypoints[name] = start - distance * mark.outward if on_ray else closest_point(triangles, point)
        assert len(keypoints) == len(names), f"marked but not listed: {sorted(set(self.marks) - set(names))}"
        return Instance(mesh, keypoints)


def paint(code: str) -> Array:
    """Linear RGB (3,) of an sRGB colour written as six hexadecimal digits (IEC 61966-2-1)."""
    srgb = np.array([int(code[start : start + 2], 16) for start in (0, 2, 4)]) / 255.0
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def pick(rng: np.random.Generator, codes: Sequence[str], jitter: float = 0.12) -> Array:
    """A random colour of a palette, with brightness and hue a little varied; linear RGB (3,) in [0, 1]."""
    color = paint(codes[int(rng.integers(len(codes)))])
    brightness, hue = 1.0 + jitter * rng.uniform(-1, 1), 1.0 + 0.4 * jitter * rng.uniform(-1, 1, 3)
    return np.clip(color * brightness * hue, 0.0, 1.0)


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def recolored(mesh: Mesh, inside: Iterable[bool], color: ArrayLike) -> Mesh:
    """The mesh with the faces selected by a boolean mask (F,) painted over."""
    mask = np.asarray(inside, dtype=bool)[:, None]
    return Mesh(mesh.vertices, mesh.faces, np.where(mask, np.asarray(color), mesh.colors).astype(np.float32))
