"""Bicycles: road, mountain, city and step-through, with mudguards, basket, rack and lamps as options."""

# An array plus a tuple is a sum of vectors here, not a concatenation.
# ruff: noqa: RUF005

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spheremap.data.shapes.mesh import (
    Array,
    Mesh,
    box,
    cylinder,
    lathe,
    loft,
    rotation_about,
    torus,
    tube,
    unit,
)  # fmt: skip
from spheremap.data.shapes.models.parts import Assembly, Instance, chance, paint, pick

KEYPOINTS = (
    "hub_front_left", "hub_front_right", "hub_rear_left", "hub_rear_right",
    "wheel_front_tip", "wheel_front_bottom", "wheel_rear_tip", "wheel_rear_bottom",
    "handlebar_left", "handlebar_right", "stem", "head_tube",
    "saddle_front", "saddle_rear_left", "saddle_rear_right", "seat_tube_top",
    "pedal_left", "pedal_right", "crank_left", "crank_right",
    "headlight", "taillight",
)  # fmt: skip

FRAME = (
    "b3202a", "1f4fa0", "1b1c1e", "e8e8e6", "2f7a4a", "e0a51c", "d9622b", "58b0b8", "6a3f8c", "c9b79a",
    "d77a9a",
)  # fmt: skip
RUBBER, STEEL, BLACK = paint("17181a"), paint("b4b8bc"), paint("1b1c1e")


@dataclass(frozen=True)
class Frame:
    """Joints of the frame `(3,)` in metres, in the plane y = 0."""

    rear: Array  # hubs of the wheels
    front: Array
    crank: Array
    seat: Array  # upper end of the seat tube
    low: Array  # ends of the head tube
    high: Array
    up: Array  # direction of the seat tube and of the steering axis
    pipe: float  # radius of the tubes


def make(rng: np.random.Generator) -> Instance:
    """A random bicycle."""
    kind = ("road", "mountain", "city", "step-through")[int(rng.integers(4))]
    town = kind in ("city", "step-through")
    color, second = pick(rng, FRAME), pick(rng, ("6b4423", "1b1c1e", "b98a55", "e4e0d6"))
    radius = rng.uniform(0.31, 0.36)
    tyre = {"road": 0.016, "mountain": 0.034}.get(kind, 0.024) * rng.uniform(0.95, 1.2)
    frame = _frame(rng, kind, radius, tyre)
    rear, seat, low = frame.rear, frame.seat, frame.low
    outer = radius + tyre

    bike = Assembly()
    _add_frame(bike, kind, frame, color)
    wheel = _wheel(rng, radius, tyre, RUBBER if not town or chance(rng, 0.7) else paint("d9cfb8"))
    bike.add(*[part.moved(rear) for part in wheel])
    _mark_wheel(bike, "rear", rear, outer, -1.0)
    _add_drive(bike, rng, frame, town)
    _add_saddle(bike, rng, frame, second, sporty=not town)
    if town or chance(rng, 0.25):
        _add_mudguard(bike, rear, outer, (0.05 * np.pi, 0.92 * np.pi), color if chance(rng, 0.5) else BLACK)
    if town and chance(rng, 0.65):
        _add_rack(bike, rear, outer, BLACK)
    if chance(rng, 0.6):
        lamp = seat + (-0.07, 0.0, 0.03)
        if town:
            lamp = np.array([rear[0] - radius * 0.95, 0.0, rear[2] + radius * 0.75])
            stay = [seat * 0.35 + rear * 0.65 + (0, 0, 0.12), lamp + (0.02, 0, 0)]
            bike.add(tube(stay, 0.008, BLACK, sides=5))
        bike.add(box((0.035, 0.075, 0.06), lamp, paint("c0141c")))
        bike.mark("taillight", lamp, (-1.0, 0.0, 0.0), 0.08)
    if kind in ("road", "mountain") and chance(rng, 0.5):  # bottle on the down tube
        along = unit(low - frame.crank)
        middle = 0.5 * frame.crank + 0.5 * low + np.array([-along[2], 0.0, along[0]]) * 0.055
        bike.add(cylinder(middle - 0.09 * along, middle + 0.08 * along, 0.034, second, sides=10))

    # The steered part, built about the head tube's lower end and then turned about the steering axis.
    steered = Assembly()
    hub, up = frame.front - low, frame.up
    steered.add(*[part.moved(hub) for part in wheel])
    _mark_wheel(steered, "front", hub, outer, 1.0)
    _add_fork(steered, hub, frame.pipe, color if chance(rng, 0.7) else STEEL * 0.8)
    top = frame.high - low + 0.03 * up
    _add_handlebar(steered, rng, kind, top, frame, second)
    if town or chance(rng, 0.25):
        _add_mudguard(steered, hub, outer, (0.12 * np.pi, 0.78 * np.pi), color if chance(rng, 0.5) else BLACK)
    lamp = top + (0.09, 0.0, -0.06)
    if town and chance(rng, 0.5):
        lamp = _add_basket(steered, rng, top, second)
    if chance(rng, 0.6):
        steered.add(lathe([(-0.05, 0.02), (0.0, 0.042), (0.012, 0.042)], lamp, (1, 0, 0), STEEL, sides=10))
        steered.add(lathe([(0.0, 0.036), (0.018, 0.03)], lamp, (1, 0, 0), paint("fbf6d8"), sides=10))
        steered.mark("headlight", lamp, (1.0, 0.0, 0.0), 0.06)
    bike.place(steered, rotation_about(up, rng.uniform(-0.25, 0.25)), low)
    return bike.finish(KEYPOINTS)


def _frame(rng: np.random.Generator, kind: str, radius: float, tyre: float) -> Frame:
    pipe = rng.uniform(0.018, 0.024) * (1.2 if kind == "mountain" else 1.0)
    base = rng.uniform(0.98, 1.10)
    rear, front = np.array([-0.44 * base, 0.0, radius]), np.array([0.56 * base, 0.0, radius])
    crank = np.array([rear[0] + 0.43, 0.0, radius - 0.05])
    rake = rng.uniform(0.28, 0.38)  # lean of seat tube and steering axis
    up = np.array([-np.sin(rake), 0.0, np.cos(rake)])
    seat = crank + rng.uniform(0.44, 0.56) * up
    low = front + (radius + tyre + 0.06) * up - np.array([0.05, 0.0, 0.0])
    return Frame(rear, front, crank, seat, low, low + rng.uniform(0.11, 0.17) * up, up, pipe)


def _wheel(rng: np.random.Generator, radius: float, tyre: float, rubber: Array) -> list[Mesh]:
    """A wheel about the y axis."""
    rim = STEEL if chance(rng, 0.6) else BLACK * 1.4
    # the wide flanges keep each end of the axle out of sight from the other side
    hub = [(-0.036, 0.03), (-0.03, 0.045), (-0.024, 0.02), (0.024, 0.02), (0.03, 0.045), (0.036, 0.03)]
    parts = [
        torus((0, 0, 0), radius, tyre, rubber, sides=28, around=6),
        torus((0, 0, 0), radius - tyre - 0.006, 0.012, rim, sides=28, around=4, width=0.014),
        lathe(hub, (0, 0, 0), (0, 1, 0), STEEL, sides=12),
        cylinder((0, -0.08, 0), (0, 0.08, 0), 0.013, BLACK, sides=6),
    ]
    spokes = int(rng.integers(10, 15))
    for number, angle in enumerate(np.arange(spokes) * (2 * np.pi / spokes)):
        start = np.array((0.0, 0.03 if number % 2 else -0.03, 0.0))
        end = (radius - tyre) * np.array([np.cos(angle), 0.0, np.sin(angle)])
        parts.append(tube([start, end], 0.0038, STEEL * 0.85, sides=3))
    return parts


def _mark_wheel(bike: Assembly, name: str, hub: Array, radius: float, sign: float) -> None:
    bike.mark_pair(f"hub_{name}", hub + (0.0, 0.08, 0.0), (0.0, 1.0, 0.0), 0.03)
    bike.mark(f"wheel_{name}_tip", hub + (sign * radius, 0.0, 0.0), (sign, 0.0, 0.0), 0.03)
    bike.mark(f"wheel_{name}_bottom", hub - (0.0, 0.0, radius), (0.0, 0.0, -1.0), 0.03)


def _add_frame(bike: Assembly, kind: str, frame: Frame, color: Array) -> None:
    rear, crank, seat, low, high, pipe = (
        frame.rear,
        frame.crank,
        frame.seat,
        frame.low,
        frame.high,
        frame.pipe,
    )
    head, post = high - low, seat - crank
    bike.add(tube([low - 0.01 * unit(head), high + 0.01 * unit(head)], pipe * 1.25, color))
    bike.add(tube([crank, seat + 0.03 * unit(post)], pipe, color))
    lower = low + 0.25 * head
    if kind == "step-through":  # both main tubes sweep down to the crank
        sag = 0.5 * (crank + lower) + (0.03, 0.0, -0.07)
        bike.add(tube([crank, sag, lower], pipe * 1.1, color))
        bike.add(tube([crank + 0.35 * post, sag + (0.02, 0, 0.10), high], pipe * 0.9, color))
    else:
        bike.add(tube([crank, lower], pipe * 1.15, color))
        drop = 0.30 if kind == "mountain" else 0.04
        bike.add(tube([seat - drop * 0.4 * post, high - 0.15 * head], pipe, color))
    out = np.array([0.0, 0.05, 0.0])
    bike.add_pair(tube([crank + 0.6 * out, rear + out], pipe * 0.62, color, sides=6))
    bike.add_pair(tube([seat - 0.06 * post + 0.3 * out, rear + out], pipe * 0.55, color, sides=6))
    bike.mark("head_tube", (low + high) / 2, (1.0, 0.0, 0.3), 0.06)
    bike.mark("seat_tube_top", seat - 0.05 * post, (-0.3, 0.0, 1.0), 0.06)


def _add_drive(bike: Assembly, rng: np.random.Generator, frame: Frame, guard: bool) -> None:
    """Cranks and pedals in opposite phase; chainring and chain on the right side."""
    rear, crank = frame.rear, frame.crank
    bike.add(cylinder(crank - (0, 0.07, 0), crank + (0, 0.07, 0), frame.pipe * 1.2, STEEL, sides=10))
    y, ring, cog = -0.062, rng.uniform(0.085, 0.10), 0.038
    bike.add(cylinder(crank + (0, y, 0), crank + (0, y + 0.012, 0), ring, STEEL * 0.7, sides=18))
    bike.add(cylinder(rear + (0, y, 0), rear + (0, y + 0.012, 0), cog, STEEL * 0.6, sides=12))
    for sign in (1.0, -1.0):
        chain = [rear + (0, y + 0.006, sign * cog), crank + (0, y + 0.006, sign * ring)]
        bike.add(tube(chain, 0.006, BLACK, sides=4))
    if guard and chance(rng, 0.6):
        middle = (rear * 0.35 + crank * 0.65) + (0.02, y + 0.004, 0.05)
        bike.add(box((0.30, 0.024, 0.075), middle + (0, 0, 0.035), BLACK, taper=0.9))
    turn, arm = rng.uniform(0, 2 * np.pi), 0.165
    for side, sign in (("left", 1.0), ("right", -1.0)):
        reach = sign * arm * np.array([np.cos(turn), 0.0, np.sin(turn)])
        start, end = crank + (0, sign * 0.085, 0), crank + reach + (0, sign * 0.095, 0)
        bike.add(tube([start, end], [0.017, 0.013], STEEL * 0.85, sides=6))
        bike.add(cylinder(crank + (0, sign * 0.05, 0), crank + (0, sign * 0.098, 0), 0.022, STEEL, sides=8))
        pedal = end + (0, sign * 0.06, 0)
        bike.add(box((0.095, 0.10, 0.028), pedal, BLACK))
        bike.mark(f"pedal_{side}", pedal, (0.0, sign, 0.0), 0.08)
        bike.mark(f"crank_{side}", crank + (0.0, sign * 0.095, 0.0), (0.0, sign, 0.0), 0.03)


def _add_saddle(bike: Assembly, rng: np.random.Generator, frame: Frame, color: Array, sporty: bool) -> None:
    top = frame.seat + rng.uniform(0.10, 0.20) * frame.up
    bike.add(tube([frame.seat, top], 0.014, STEEL, sides=8))
    wide, thick = (0.075, 0.024) if sporty else (rng.uniform(0.09, 0.115), 0.036)
    stations = [  # x, width, thickness
        (-0.15, 0.85, 0.7), (-0.11, 1.0, 1.0), (-0.03, 0.72, 0.95),
        (0.05, 0.34, 0.8), (0.13, 0.26, 0.7), (0.155, 0.16, 0.4),
    ]  # fmt: skip
    points = [(top[0] + x, 0.0, top[2] + 0.02 + 0.06 * abs(x)) for x, _, _ in stations]
    bike.add(tube(points, [(w * wide, t * thick) for _, w, t in stations], color, sides=10))
    bike.mark("saddle_front", (top[0] + 0.15, 0.0, top[2] + 0.03), (1.0, 0.0, 0.4), 0.05)
    bike.mark_pair("saddle_rear", (top[0] - 0.12, wide * 0.9, top[2] + 0.03), (-0.5, 1.0, 0.5), 0.06)


def _add_fork(bike: Assembly, hub: Array, pipe: float, color: Array) -> None:
    out = np.array([0.0, 0.05, 0.0])
    bike.add(cylinder(-out, out, pipe * 1.05, color, sides=8))
    bend = 0.72 * (hub - 0.05 * np.array([1.0, 0.0, 0.0]))
    bike.add_pair(tube([out, bend + out, hub + out], [pipe * 0.9, pipe * 0.7, pipe * 0.5], color, sides=7))


def _add_handlebar(
    bike: Assembly, rng: np.random.Generator, kind: str, top: Array, frame: Frame, grip: Array
) -> None:
    up, pipe = frame.up, frame.pipe
    rise = rng.uniform(0.03, 0.10) if kind != "road" else rng.uniform(0.0, 0.03)
    clamp = top + rise * up + (0.06 if kind in ("road", "mountain") else 0.02, 0.0, 0.0)
    bike.add(tube([top - 0.04 * up, top + rise * up], pipe * 0.9, STEEL, sides=8))
    bike.add(tube([top + rise * up - (0.015, 0, 0), clamp + (0.012, 0, 0)], pipe, STEEL * 0.8, sides=8))
    half = rng.uniform(0.20, 0.24) if kind == "road" else rng.uniform(0.26, 0.33)
    if kind == "road":  # drops
        bends = [
            (0, 0, 0), (0, half, 0), (0.08, half + 0.005, -0.01), (0.11, half + 0.01, -0.07),
            (0.06, half + 0.015, -0.125), (-0.04, half + 0.02, -0.13),
        ]  # fmt: skip
        path = clamp + np.array(bends)
        for piece, color in ((path[:2], STEEL), (path[1:], grip)):
            bike.add_pair(tube(piece, 0.015, color, sides=6))
        bike.add_pair(box((0.05, 0.022, 0.05), clamp + (0.10, half + 0.005, 0.015), BLACK))
        end, outward = path[-1], (-1.0, 0.4, 0.0)
    else:
        back = 0.02 if kind == "mountain" else rng.uniform(0.08, 0.16)
        lift = 0.03 if kind == "mountain" else rng.uniform(0.04, 0.09)
        bends = [
            (0, 0, 0),
            (0.0, 0.3 * half, lift * 0.6),
            (-0.3 * back, 0.7 * half, lift),
            (-back, half, lift),
        ]
        path = clamp + np.array(bends)
        bike.add_pair(tube(path, 0.013, STEEL, sides=6))
        end = path[-1] + np.array((-0.09, 0.05, 0.0) if back > 0.05 else (-0.015, 0.09, 0.0))
        bike.add_pair(tube([path[-1], end], 0.02, grip, sides=8))
        if chance(rng, 0.5):  # brake levers
            lever = [path[-1] + (0.03, -0.02, -0.01), end + (0.05, -0.02, -0.03)]
            bike.add_pair(tube(lever, 0.007, BLACK, sides=4))
        outward = (-0.5, 1.0, 0.0)
    bike.mark_pair("handlebar", end, outward, 0.05)
    bike.mark("stem", clamp, (0.2, 0.0, 1.0), 0.06)


def _add_mudguard(bike: Assembly, hub: Array, radius: float, arc: tuple[float, float], color: Array) -> None:
    reach = radius + 0.016
    section = [(reach, -0.034), (reach + 0.012, -0.016), (reach + 0.012, 0.016), (reach, 0.034)]
    rays = [np.array([np.cos(angle), 0.0, np.sin(angle)]) for angle in np.linspace(*arc, 11)]
    bike.add(loft([[hub + a * ray + np.array([0.0, y, 0.0]) for a, y in section] for ray in rays], color))


def _add_rack(bike: Assembly, rear: Array, radius: float, color: Array) -> None:
    level = rear[2] + radius + 0.055
    front, back = rear[0] + 0.16, rear[0] - 0.24
    bike.add(box((front - back, 0.12, 0.014), ((front + back) / 2, 0.0, level), color))
    bike.add_pair(tube([(rear[0] - 0.08, 0.055, level), (rear[0], 0.055, rear[2])], 0.007, color, sides=4))


def _add_basket(bike: Assembly, rng: np.random.Generator, top: Array, color: Array) -> Array:
    """An open basket before the handlebar, with darker bands; returns where a lamp goes on its front."""
    size = np.array([rng.uniform(*limits) for limits in ((0.18, 0.24), (0.26, 0.34), (0.16, 0.21))])
    long, wide, deep = size
    centre = top + (0.10 + long / 2, 0.0, -0.05)
    x, y, z = size / 2
    wall, band = 0.012, 0.014
    bike.add(box((long * 0.9, wide * 0.9, wall), centre - (0, 0, z), color))
    bike.add_pair(box((long, wall, deep), centre + (0, y, 0), color))
    bike.add(*[box((wall, wide, deep), centre + (side, 0, 0), color) for side in (x, -x)])
    for level in (-0.5, 0.0, 0.5):
        for sign in (1.0, -1.0):
            height = level * z * 1.6
            bike.add(box((wall, wide + 0.02, band), centre + (sign * (x + 0.004), 0, height), color * 0.5))
            bike.add(box((long + 0.02, wall, band), centre + (0, sign * (y + 0.004), height), color * 0.5))
    return centre + (x + 0.05, 0.0, -0.3 * z)
