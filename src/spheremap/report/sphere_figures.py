"""Keypoints on the sphere as SVG text: two discs, the sphere from the front and from behind."""

import numpy as np
from numpy.typing import NDArray

from spheremap.report.keypoint_spheres import LEFT, MIDDLE, RIGHT, KeypointSphere

_RADIUS, _ROOM, _GAP = 100.0, 4.0, 12.0  # of a disc, around it, and between the two, in units of the drawing
# shapes differ as well as colours; drawn in this order, so that the sides lie on top
_MARKS = {MIDDLE: "M{x:.1f} {y:.1f}m-1.3-1.3h2.6v2.6h-2.6z", RIGHT: "M{x:.1f} {y:.1f}m0-2.6l2.4 4.3h-4.8z",
          LEFT: "M{x:.1f} {y:.1f}m-2.1 0a2.1 2.1 0 1 0 4.2 0a2.1 2.1 0 1 0-4.2 0"}  # fmt: skip


def draw_sphere(sphere: KeypointSphere) -> str:
    """All keypoints on the two halves of the sphere, seen along `sphere.view()`.

    The projection is orthographic. The half behind is seen from behind, so that left and right change places.
    The style sheet colours the classes `left`, `right` and `neither`.
    """
    places = sphere.points @ sphere.view().T  # right, up, towards the viewer
    width, height = 4 * _RADIUS + _GAP + 2 * _ROOM, 2 * (_RADIUS + _ROOM)
    parts = [f'<svg viewBox="0 0 {width:g} {height:g}">']
    for half, (front, title) in enumerate(((True, "front"), (False, "back"))):
        centre = np.array([_ROOM + _RADIUS + half * (2 * _RADIUS + _GAP), _ROOM + _RADIUS])
        parts.append(f'<g class="half"><title>{title}</title>{_graticule(centre)}')
        seen = places[:, 2] >= 0 if front else places[:, 2] < 0
        flat = places[:, :2] * ((1, -1) if front else (-1, -1)) * _RADIUS + centre
        for side, mark in _MARKS.items():
            chosen = flat[seen & (sphere.sides == side)]
            if len(chosen):
                marks = "".join(mark.format(x=x, y=y) for x, y in chosen)
                parts.append(f'<path class="{side}" d="{marks}"/>')
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def _graticule(centre: NDArray[np.float64]) -> str:
    """Outline, equator and meridians, every 30 degrees."""
    x, y = centre
    angles = np.radians([30, 60])
    lines = [f"M{x - _RADIUS:g} {y:g}h{2 * _RADIUS:g}", f"M{x:g} {y - _RADIUS:g}v{2 * _RADIUS:g}"]
    for angle in angles:
        half = _RADIUS * np.cos(angle)
        for sign in (-1, 1):
            lines.append(f"M{x - half:.1f} {y + sign * _RADIUS * np.sin(angle):.1f}h{2 * half:.1f}")
    meridians = "".join(
        f'<ellipse cx="{x:g}" cy="{y:g}" rx="{_RADIUS * np.sin(angle):.1f}" ry="{_RADIUS:g}"/>'
        for angle in angles
    )
    outline = f'<circle class="outline" cx="{x:g}" cy="{y:g}" r="{_RADIUS:g}"/>'
    return f'{outline}<g class="graticule"><path d="{"".join(lines)}"/>{meridians}</g>'
