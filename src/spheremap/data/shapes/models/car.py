"""Cars: saloon, hatchback, estate, van, pick-up, off-roader and coupé."""

# An array plus a tuple is a sum of vectors here, not a concatenation.
# ruff: noqa: RUF005

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from spheremap.data.shapes.mesh import (
    Array,
    Mesh,
    box,
    cylinder,
    ellipsoid,
    lathe,
    loft,
    panel,
    prism,
    quad_point,
)
from spheremap.data.shapes.models.parts import Assembly, Instance, chance, paint, pick

KEYPOINTS = (
    "wheel_front_left", "wheel_front_right", "wheel_rear_left", "wheel_rear_right",
    "headlight_left", "headlight_right", "taillight_left", "taillight_right",
    "mirror_left", "mirror_right", "door_handle_left", "door_handle_right",
    "windscreen_base_left", "windscreen_base_right",
    "roof_front_left", "roof_front_right", "roof_rear_left", "roof_rear_right",
    "grille", "number_plate_front", "number_plate_rear",
)  # fmt: skip

BODY_COLORS = (
    "b3202a", "1f3f8c", "e8e8e6", "9aa0a6", "2b2d31", "2f6b3c", "e0a51c", "d9622b", "6f8fae", "7b4a2d",
    "5aa6b8", "c9b79a", "6a1f38",
)  # fmt: skip
GLASS, RUBBER, TRIM = paint("1c2730"), paint("17181a"), paint("26282b")
LAMP, TAIL_LAMP, PLATE = paint("f7f3dc"), paint("c0141c"), paint("f2f2ee")


@dataclass(frozen=True)
class Body:
    """Proportions of a body type: lengths in metres; bonnet, boot and rakes as fractions of the length."""

    length: float
    width: float
    height: float
    bonnet: float
    boot: float
    front_rake: float
    rear_rake: float
    belt: float  # height of the windows' lower edge
    nose: float  # height of the bonnet's front edge
    clearance: float
    wheel: float  # radius
    side_windows: int

    @property
    def front(self) -> float:
        """x of the front end; the rear end lies at its negative."""
        return self.length / 2

    @property
    def half(self) -> float:
        """Half the width."""
        return self.width / 2

    @property
    def cowl(self) -> float:
        """x of the windscreen's lower edge."""
        return self.front - self.bonnet * self.length

    @property
    def deck(self) -> float:
        """x of the rear window's lower edge, or of the front of a load bed."""
        return -self.front + self.boot * self.length


BODIES = {
    "saloon": Body(4.6, 1.78, 1.43, 0.25, 0.17, 0.13, 0.11, 0.93, 0.74, 0.20, 0.32, 2),
    "hatchback": Body(3.9, 1.72, 1.48, 0.23, 0.00, 0.14, 0.08, 0.95, 0.77, 0.20, 0.31, 2),
    "estate": Body(4.7, 1.78, 1.47, 0.25, 0.00, 0.12, 0.05, 0.94, 0.75, 0.20, 0.32, 3),
    "van": Body(4.8, 1.90, 2.05, 0.12, 0.00, 0.10, 0.01, 1.20, 0.98, 0.24, 0.33, 2),
    "pickup": Body(5.1, 1.86, 1.76, 0.26, 0.36, 0.09, 0.02, 1.10, 0.95, 0.34, 0.38, 2),
    "offroader": Body(4.4, 1.86, 1.80, 0.25, 0.00, 0.08, 0.03, 1.12, 0.96, 0.34, 0.39, 3),
    "coupe": Body(4.3, 1.82, 1.26, 0.33, 0.10, 0.15, 0.20, 0.84, 0.62, 0.15, 0.33, 1),
}


def make(rng: np.random.Generator) -> Instance:
    """A random car."""
    kind = list(BODIES)[int(rng.integers(len(BODIES)))]
    base = BODIES[kind]
    vary = rng.uniform(0.94, 1.06, 6)
    body = replace(
        base,
        length=base.length * vary[0],
        width=base.width * vary[1],
        height=base.height * vary[2],
        bonnet=base.bonnet * vary[3],
        boot=base.boot * vary[4],
        front_rake=base.front_rake * rng.uniform(0.8, 1.2),
        rear_rake=base.rear_rake * rng.uniform(0.7, 1.3),
        belt=base.belt * vary[2],
        nose=base.nose * vary[2] * rng.uniform(0.96, 1.04),
        wheel=base.wheel * vary[5],
    )
    color = pick(rng, BODY_COLORS)
    roof = pick(rng, ("17181a", "f0f0ee")) if chance(rng, 0.25) else color
    bumper = TRIM if chance(rng, 0.5) else color * 0.8

    car = Assembly()
    _add_hull(car, body, color, open_bed=kind == "pickup")
    _add_cabin(car, rng, body, color, roof, closed_rear=kind == "van" and chance(rng, 0.5))
    _add_wheels(car, rng, body, short_tail=kind == "pickup")
    _add_front(car, rng, body, bumper)
    _add_rear(car, rng, body, bumper, tall=kind in ("van", "estate", "offroader"))
    return car.finish(KEYPOINTS)


def _section(x: float, half: float, low: float, high: float) -> list[tuple[float, float, float]]:
    """Cross-section of the hull at x: an octagon, widest at mid-height, with bevelled shoulders and sills."""
    rise = high - low
    outline = ((0.92, low), (1.0, low + 0.25 * rise), (0.99, low + 0.72 * rise), (0.90, high))
    left = [(half * share, z) for share, z in outline]
    return [(x, y, z) for y, z in left] + [(x, -y, z) for y, z in reversed(left)]


def _add_hull(car: Assembly, body: Body, color: Array, open_bed: bool) -> None:
    front, rear, half, cowl = body.front, -body.front, body.half, body.cowl
    low, belt, nose = body.clearance, body.belt, body.nose
    tail = belt * (0.97 if body.boot else 1.0)
    stations = [
        (rear, half * 0.88, low + 0.14, tail - 0.10),
        (rear + 0.10, half * 0.96, low + 0.04, tail - 0.01),
        (rear + 0.40, half, low, tail),
        (cowl - 0.2, half, low, belt),
        (cowl, half, low, belt),
        (front - 0.45, half * 0.98, low, 0.6 * nose + 0.4 * belt),
        (front - 0.12, half * 0.92, low + 0.02, nose),
        (front, half * 0.80, low + 0.10, nose - 0.14),
    ]
    car.add(loft([_section(*station) for station in stations], color))
    if open_bed:  # a dark load bed between low walls
        back, end = rear + 0.10, body.deck - 0.06
        middle, span = (back + end) / 2, end - back
        car.add(box((span, half * 1.70, 0.02), (middle, 0.0, tail + 0.005), TRIM))
        car.add_pair(box((span + 0.1, 0.09, 0.16), (middle, half * 0.88, tail + 0.07), color))
        car.add(box((0.07, half * 1.84, 0.16), (back, 0.0, tail + 0.07), color))
    gap = (0.022, 0.02, 0.62 * (belt - low))  # of the doors
    for x in (cowl - 0.05, cowl - 0.05 - 0.5 * (cowl - body.deck if open_bed else cowl - rear) * 0.62):
        car.add_pair(box(gap, (x, half * 0.998, low + 0.50 * (belt - low)), color * 0.25))
    handle = np.array([cowl - 0.05 - 0.42 * (cowl - rear) * 0.62, half * 0.99, low + 0.78 * (belt - low)])
    car.add_pair(box((0.17, 0.06, 0.045), handle, TRIM))
    car.mark_pair("door_handle", handle, (0.0, 1.0, 0.0))
    car.add_pair(box((0.60 * body.length, 0.05, 0.07), (0.0, half * 0.955, low + 0.02), TRIM))


def _add_cabin(
    car: Assembly, rng: np.random.Generator, body: Body, color: Array, roof: Array, closed_rear: bool
) -> None:
    low, top, cowl = body.belt - 0.03, body.height, body.cowl
    wide, narrow = body.half * 0.90, body.half * (0.74 if top < 1.6 else 0.80)
    back = body.deck + 0.03
    start, end = cowl - body.front_rake * body.length, back + body.rear_rake * body.length  # of the roof
    shoulder = top - 0.05

    def ring(x0: float, x1: float, y: float, z: float) -> list[tuple[float, float, float]]:
        return [(x0, -y, z), (x1, -y, z), (x1, y, z), (x0, y, z)]

    base, edge = ring(back, cowl, wide, low), ring(end, start, narrow, shoulder)
    car.add(loft([base, edge], color))
    eaves = ring(end - 0.02, start + 0.02, narrow + 0.01, shoulder - 0.01)
    car.add(loft([eaves, ring(end + 0.12, start - 0.14, narrow * 0.86, top)], roof))
    # each counter-clockwise seen from outside, from the corner of the base that u = v = 0 stands for
    edges = ((2, 3), (1, 2), (3, 0))
    side, windscreen, rear_window = (np.array([base[i], base[j], edge[j], edge[i]]) for i, j in edges)
    car.add(panel(windscreen, GLASS, 0.012, u=(0.06, 0.94), v=(0.10, 0.94)))
    sill = 0.42 if low > 1.0 or not body.boot else 0.22
    car.add(panel(rear_window, GLASS, 0.012, u=(0.10, 0.90), v=(sill, 0.90)))
    for left, right in pairwise(np.linspace(0.05, 0.42 if closed_rear else 0.95, body.side_windows + 1)):
        car.add_pair(panel(side, GLASS, 0.012, u=(left + 0.012, right - 0.012), v=(0.14, 0.88)))

    mirror = quad_point(side, 0.06, 0.12) + (0.02, 0.12, 0.05)
    shell = color if chance(rng, 0.5) else TRIM
    car.add_pair(ellipsoid(mirror, (0.07, 0.12, 0.085), shell, sides=8, levels=4))
    car.mark_pair("mirror", mirror, (0.0, 1.0, 0.0), 0.2)
    car.mark_pair("windscreen_base", quad_point(windscreen, 0.93, 0.12), (1.0, 0.0, 1.0))
    car.mark_pair("roof_front", (start - 0.02, narrow * 0.98, shoulder), (0.3, 0.6, 1.0))
    car.mark_pair("roof_rear", (end + 0.02, narrow * 0.98, shoulder), (-0.3, 0.6, 1.0))
    if chance(rng, 0.35) and body.side_windows > 1:  # roof rails
        middle, span = (start + end) / 2, (start - end) * 0.8
        car.add_pair(box((span, 0.05, 0.05), (middle, narrow * 0.84, top + 0.02), TRIM))
    elif chance(rng, 0.3):  # a spoiler
        car.add(box((0.22, narrow * 1.7, 0.04), (end - 0.04, 0.0, top - 0.01), color * 0.7))


def _add_wheels(car: Assembly, rng: np.random.Generator, body: Body, short_tail: bool) -> None:
    front = body.front - body.length * rng.uniform(0.17, 0.19)
    rear = -body.front + body.length * (rng.uniform(0.20, 0.22) if short_tail else rng.uniform(0.18, 0.21))
    rim_color = pick(rng, ("c9ccd0", "8d9196", "5c6065", "e4e4e2"))
    holes, turn = int(rng.integers(5, 8)), rng.uniform(0, 2 * np.pi)
    arch, reach = np.linspace(-0.25, np.pi + 0.25, 11), body.wheel * 1.17
    height = np.maximum(body.wheel + reach * np.sin(arch), body.clearance)
    for name, x in (("front", front), ("rear", rear)):
        outline = np.stack([x + reach * np.cos(arch), np.full(11, body.half * 0.7), height], axis=-1)
        car.add_pair(prism(outline, (0.0, body.half * 0.3 + 0.012, 0.0), RUBBER * 0.6))
        hub = np.array([x, body.half + 0.025, body.wheel])
        for part in _wheel(body.wheel, rim_color, holes, turn):
            car.add_pair(part.moved(hub))
        car.mark_pair(f"wheel_{name}", hub, (0.0, 1.0, 0.0), 0.1)


def _wheel(radius: float, rim_color: Array, holes: int, turn: float) -> list[Mesh]:
    """A wheel whose outer face lies in the plane y = 0, looking along +y."""
    axis = (0.0, 1.0, 0.0)
    tyre = ((-0.21, 0.92), (-0.18, 1.0), (-0.03, 1.0), (0.0, 0.92), (0.002, 0.7))
    rim = [(-0.02, radius * 0.68), (0.010, radius * 0.66)]
    parts = [
        lathe([(y, radius * share) for y, share in tyre], (0, 0, 0), axis, RUBBER, sides=18),
        lathe(rim, (0, 0, 0), axis, rim_color, sides=18),
        cylinder((0, 0, 0), (0, 0.024, 0), radius * 0.14, rim_color * 0.7, sides=8),
    ]
    for angle in turn + np.arange(holes) * (2 * np.pi / holes):
        spot = np.array([np.cos(angle), 0.0, np.sin(angle)]) * radius * 0.42
        parts.append(cylinder(spot, spot + (0, 0.016, 0), radius * 0.115, RUBBER, sides=6))
    return parts


def _add_front(car: Assembly, rng: np.random.Generator, body: Body, bumper: Array) -> None:
    front, half, low = body.front, body.half, body.clearance
    rise = body.nose - low
    lamp = np.array([front, half * 0.68, low + 0.70 * rise])
    round_lamps = chance(rng, 0.35)
    size = rng.uniform(0.85, 1.15)
    if round_lamps:
        for reach, radius, shade in ((0.03, 0.115, TRIM), (0.045, 0.09, LAMP)):
            car.add_pair(cylinder(lamp - (0.2, 0, 0), lamp + (reach, 0, 0), radius * size, shade, sides=12))
    else:
        outline = [
            (front + 0.01, half * 0.50, lamp[2] - 0.05),
            (front - 0.10, half * 0.93, lamp[2] - 0.02),
            (front - 0.12, half * 0.93, lamp[2] + 0.09 * size),
            (front + 0.01, half * 0.52, lamp[2] + 0.05),
        ]
        car.add_pair(prism(np.array(outline) - (0.12, 0, 0), (0.15, 0.0, 0.0), LAMP))
    car.mark_pair("headlight", lamp, (1.0, 0.0, 0.0), 0.2)
    height = rng.uniform(0.16, 0.30) * rise  # of the grille
    centre = np.array([front + 0.012, 0.0, low + 0.66 * rise])
    car.add(box((0.06, half * 0.84, height), centre, TRIM))
    for level in (-0.25, 0.25):
        car.add(box((0.07, half * 0.84, 0.018), centre + (0.0, 0.0, level * height), paint("a9adb2")))
    car.mark("grille", centre, (1.0, 0.0, 0.0), 0.2)
    edges = ((half * 0.985, low + 0.02), (half * 0.99, low + 0.36 * rise))
    car.add(_bumper(edges, front - 0.25, front + 0.06, 0.86, bumper))
    plate = (front + 0.065, 0.0, low + 0.22 * rise)
    car.add(box((0.03, 0.46, 0.11), plate, PLATE))
    car.mark("number_plate_front", plate, (1.0, 0.0, 0.0), 0.2)


def _bumper(
    edges: Sequence[tuple[float, float]], inner: float, outer: float, narrow: float, color: Array
) -> Mesh:
    """A bumper from x = `inner` to the narrower `outer` end; `edges` are y and z below and above."""
    rings = [
        [(inner, y, z), (outer, y * narrow, z), (outer, -y * narrow, z), (inner, -y, z)] for y, z in edges
    ]
    return loft(rings, color)


def _add_rear(car: Assembly, rng: np.random.Generator, body: Body, bumper: Array, tall: bool) -> None:
    rear, half, low = -body.front, body.half, body.clearance
    rise = body.belt - low
    height = 0.34 if tall else rng.uniform(0.13, 0.18)
    lamp = np.array([rear + 0.03, half * 0.76, low + (0.72 if tall else 0.75) * rise])
    car.add_pair(box((0.12, half * (0.20 if tall else 0.32), height), lamp, TAIL_LAMP))
    car.mark_pair("taillight", lamp, (-1.0, 0.0, 0.0), 0.2)
    edges = ((half * 0.97, low + 0.04), (half * 0.985, low + 0.34 * rise))
    car.add(_bumper(edges, rear + 0.25, rear - 0.06, 0.9, bumper))
    plate = (rear - 0.005, 0.0, low + 0.55 * rise)
    car.add(box((0.03, 0.46, 0.12), plate, paint("f0c82a") if chance(rng, 0.4) else PLATE))
    car.mark("number_plate_rear", plate, (-1.0, 0.0, 0.0), 0.2)
    pipe = np.array([rear, half * 0.5, low + 0.02])
    car.add_pair(cylinder(pipe + (0.2, 0, 0), pipe - (0.08, 0, 0), 0.04, TRIM, sides=8))
