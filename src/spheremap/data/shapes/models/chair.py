"""Chairs: wooden, metal and upholstered, on four legs or a pedestal, with and without arms."""

# An array plus a tuple is a sum of vectors here, not a concatenation.
# ruff: noqa: RUF005

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spheremap.data.shapes.mesh import Array, Mesh, box, cone, cylinder, loft, tube
from spheremap.data.shapes.models.parts import Assembly, Instance, chance, paint, pick

KEYPOINTS = (
    "leg_front_left", "leg_front_right", "leg_rear_left", "leg_rear_right",
    "seat_front_left", "seat_front_right", "seat_rear_left", "seat_rear_right",
    "seat_front_middle", "seat_middle",
    "back_top_left", "back_top_right", "back_top_middle", "back_bottom_left", "back_bottom_right",
    "arm_front_left", "arm_front_right", "arm_rear_left", "arm_rear_right",
)  # fmt: skip

WOOD = ("8a5a33", "b98a55", "5b3820", "d6b483", "4a372d", "efe9df", "33312f", "7c8f6f", "a33a2a")
FABRIC = ("8c2f39", "2f4f7f", "3f6b4f", "c9a24a", "5e5e66", "d9d3c7", "262a33", "b5673f", "6f4a75", "3f8f8f")
METAL = ("b9bcc0", "6c7075", "2a2c2f", "d8d8d6")


@dataclass(frozen=True)
class Plan:
    """Colours of the parts and proportions, lengths in metres."""

    frame: Array
    pad: Array
    panel: Array  # what fills the back
    width: float
    depth: float
    seat: float  # height of its upper side
    thickness: float  # of the seat
    back: float  # height above the seat
    lean: float  # backward run of the back per unit of height
    bar: float  # radius of legs and posts

    @property
    def under(self) -> float:
        """Height of the seat's lower side."""
        return self.seat - self.thickness


# of width, depth, seat, thickness, back, lean and bar, in this order
RANGES = ((0.40, 0.56), (0.40, 0.52), (0.40, 0.50), (0.03, 0.09), (0.36, 0.62), (0.06, 0.22), (0.016, 0.027))


def make(rng: np.random.Generator) -> Instance:
    """A random chair."""
    frame = pick(rng, METAL if chance(rng, 0.3) else WOOD)
    pad = pick(rng, FABRIC) if chance(rng, 0.55) else frame * rng.uniform(0.75, 1.1)
    plan = Plan(frame, pad, pad if chance(rng, 0.6) else frame, *(rng.uniform(*limits) for limits in RANGES))
    chair = Assembly()
    _add_seat(chair, rng, plan)
    legs = int(rng.choice(3, p=[0.45, 0.35, 0.20]))
    if legs == 2:
        _add_pedestal(chair, rng, plan)
    else:
        _add_legs(chair, rng, plan, splay=0.0 if legs == 0 else rng.uniform(0.04, 0.09))
    _add_back(chair, rng, plan)
    if chance(rng, 0.5):
        _add_arms(chair, rng, plan)
    return chair.finish(KEYPOINTS)


def _add_seat(chair: Assembly, rng: np.random.Generator, plan: Plan) -> None:
    """The seat, a little wider in front than behind, with a rounded front edge."""
    width, depth, thickness, top, bottom = plan.width, plan.depth, plan.thickness, plan.seat, plan.under
    narrow = rng.uniform(0.84, 0.98)
    outline = _rounded(depth, width, width * narrow, rng.uniform(0.02, 0.16))
    levels = ((0.95, 0.0), (1.0, 0.2), (1.0, 0.65), (0.975, 0.88), (0.92, 1.0))
    rings = [[(x * s, y * s, bottom + t * thickness) for x, y in outline] for s, t in levels]
    chair.add(loft(rings, plan.pad))
    if thickness > 0.06:  # a cushion seam
        seam = [[(x * 1.01, y * 1.01, z) for x, y in outline] for z in (bottom, bottom + 0.012)]
        chair.add(loft(seam, plan.pad * 0.4))
    chair.mark_pair("seat_front", (depth * 0.43, width * 0.43, top - 0.1 * thickness), (0.7, 0.7, 0.6))
    chair.mark_pair("seat_rear", (-depth * 0.34, width / 2 * narrow, top - 0.3 * thickness), (0.0, 1.0, 0.5))
    chair.mark("seat_front_middle", (depth * 0.49, 0.0, top - thickness * 0.4), (1.0, 0.0, 0.3))
    chair.mark("seat_middle", (0.0, 0.0, top), (0.0, 0.0, 1.0))


def _rounded(depth: float, front: float, rear: float, radius: float) -> list[tuple[float, float]]:
    """Outline (x, y) of a seat: a trapezium of the given widths with rounded corners."""
    left = []
    ends = (
        (1.0, front / 2, radius, np.linspace(0.0, 0.5, 6)),
        (-1.0, rear / 2, 0.4 * radius, np.linspace(0.5, 1.0, 4)),
    )
    for sign, y, r, turns in ends:
        centre = (sign * (depth / 2 - r), y - r)
        left += [(centre[0] + r * np.cos(np.pi * t), centre[1] + r * np.sin(np.pi * t)) for t in turns]
    return left + [(x, -y) for x, y in reversed(left)]


def _add_legs(chair: Assembly, rng: np.random.Generator, plan: Plan, splay: float) -> None:
    width, depth, under, bar, color = plan.width, plan.depth, plan.under, plan.bar, plan.frame
    square = splay == 0.0 and chance(rng, 0.6)
    low, sides = (bar * 1.0, 4) if square else (bar * 0.8, 12)
    for name, x in (("front", depth * 0.42), ("rear", -depth * 0.42)):
        y = width * 0.40
        top, foot = np.array([x, y, under + 0.01]), np.array([x + np.sign(x) * splay, y + splay, 0.0])
        tip = foot + 0.04 * (top - foot)
        glide = cylinder(foot - (0.0, 0.0, 0.008), tip, bar * 1.2, color * 0.35, sides=14)
        chair.add_pair(tube([foot, top], [low, bar * 1.15], color, sides=sides), glide)
        chair.mark_pair(f"leg_{name}", foot + (0.0, 0.0, 0.03), (np.sign(x), 1.0, 0.0), 0.05)
    if chance(rng, 0.55):  # stretchers
        level = under * rng.uniform(0.25, 0.5)
        out = splay * (1 - level / under)
        x, y, thin = depth * 0.42 + out, width * 0.40 + out, bar * 0.6
        chair.add_pair(cylinder((x, y, level), (-x, y, level), thin, color, sides=10))
        for across in (0,) if chance(rng, 0.5) else (x, -x):
            chair.add(cylinder((across, y, level), (across, -y, level), thin, color, sides=10))
    chair.add(box((depth * 0.84, width * 0.80, 0.035), (0, 0, under - 0.01), color * 0.85))


def _add_pedestal(chair: Assembly, rng: np.random.Generator, plan: Plan) -> None:
    """A column on a cross of four feet, on castors or glides."""
    width, depth, under, color = plan.width, plan.depth, plan.under, plan.frame
    reach = rng.uniform(0.44, 0.52)
    chair.add(cylinder((0, 0, 0.07), (0, 0, under), 0.028, color, sides=10))
    chair.add(cylinder((0, 0, 0.07), (0, 0, under * 0.5), 0.042, color * 0.6, sides=10))
    chair.add(box((depth * 0.6, width * 0.6, 0.03), (0, 0, under - 0.01), paint("26282b")))
    castors = chance(rng, 0.6)
    for name, sign in (("front", 1.0), ("rear", -1.0)):
        foot = np.array([sign * depth * reach, width * reach, 0.055])
        chair.add_pair(cone((0, 0, 0.10), foot, 0.034, 0.022, color, sides=6))
        if castors:
            centre, half = foot - (0, 0, 0.025), np.array([0, 0.025, 0])
            chair.add_pair(cylinder(centre - half, centre + half, 0.032, paint("17181a"), sides=10))
        else:
            chair.add_pair(cylinder(foot - (0, 0, 0.05), foot, 0.02, color * 0.5, sides=8))
        chair.mark_pair(f"leg_{name}", foot - (0, 0, 0.02), (sign, 1.0, 0.2), 0.08)


def _add_back(chair: Assembly, rng: np.random.Generator, plan: Plan) -> None:
    height, bar, frame, color = plan.back, plan.bar, plan.frame, plan.panel
    x, y = -plan.depth * 0.46, plan.width * 0.42

    def at(level: float, side: float) -> Array:
        """Point of the back's middle plane: level 0 (seat) to 1 (top), side -1 (right) to 1 (left)."""
        run, rise = plan.lean * level * height, level * (height + 0.02)
        return np.array([x - run, side * y, plan.seat - 0.02 + rise])

    style = int(rng.integers(5))
    posts = style != 4
    if posts:
        chair.add_pair(tube([at(-0.05, 1), at(0.5, 1), at(1.0, 1)], bar, frame, sides=12))
    if style == 0:  # upright slats between two rails
        for side in np.linspace(-0.8, 0.8, int(rng.integers(4, 8))):
            chair.add(tube([at(0.15, side), at(0.95, side)], bar * 0.55, color, sides=10))
        chair.add(_rail(at, 0.14, 0.22, 0.018, color), _rail(at, 0.86, 1.03, 0.022, frame))
    elif style == 1:  # ladder back
        for level in np.linspace(0.3, 0.94, int(rng.integers(2, 5))):
            chair.add(_rail(at, level - 0.07, level + 0.07, 0.016, color))
    elif style == 2:  # upholstered panel between posts
        chair.add(_rail(at, rng.uniform(0.12, 0.3), 0.97, rng.uniform(0.03, 0.06), color))
    elif style == 3:  # a central splat
        chair.add(_rail(at, 0.86, 1.04, 0.024, frame), _rail(at, 0.12, 0.18, 0.018, frame))
        chair.add(_rail(at, 0.1, 0.95, 0.014, color, span=rng.uniform(0.28, 0.5)))
    else:  # one moulded shell, curved across and rounded at the top
        thick, arch, hollow = rng.uniform(0.025, 0.07), rng.uniform(0.04, 0.22), rng.uniform(0.0, 0.07)
        slices = []
        for across in np.linspace(-1.12, 1.12, 13):
            share = (across / 1.12) ** 2
            forward = np.array([thick * (0.5 if share < 1 else 0.3), 0.0, 0.0])
            bend = np.array([hollow * share, 0.0, 0.0])
            low, high = at(-0.04, across) + bend, at(1.02 - arch * share**2, across * 0.97) + bend
            slices.append([low - forward, low + forward, high + 0.7 * forward, high - 0.7 * forward])
        chair.add(loft(slices, color))
    chair.mark_pair("back_top", at(0.97, 1.0) if posts else at(0.82, 1.08), (0.0, 1.0, 0.25), 0.1)
    chair.mark("back_top_middle", at(1.0, 0.0), (0.0, 0.0, 1.0), 0.15)
    chair.mark_pair("back_bottom", at(0.12, 1.0), (0.0, 1.0, 0.0), 0.1)


def _rail(
    at: Callable[[float, float], Array],
    low: float,
    high: float,
    thick: float,
    color: Array,
    span: float = 1.0,
) -> Mesh:
    """A board in the plane of the back, between two levels, across the fraction `span` of its width."""
    forward = np.array([thick / 2, 0.0, 0.0])
    corners = [at(low, -span), at(low, span), at(high, span), at(high, -span)]
    return loft([[corner - forward for corner in corners], [corner + forward for corner in corners]], color)


def _add_arms(chair: Assembly, rng: np.random.Generator, plan: Plan) -> None:
    depth, seat, bar = plan.depth, plan.seat, plan.bar
    rise, y = rng.uniform(0.18, 0.25), plan.width * 0.47
    rear = np.array([-depth * 0.46 - plan.lean * rise, plan.width * 0.43, seat + rise])
    front = np.array([depth * rng.uniform(0.26, 0.40), y + 0.02, seat + rise + 0.01])
    end, thickness = front + (0.035, 0, -0.012), rng.uniform(0.016, 0.03)
    chair.add_pair(tube([rear, front, end], [(bar * 1.4, thickness)] * 3, plan.pad, sides=12))
    if chance(rng, 0.7):
        post = [np.array((front[0] - 0.02, y - 0.02, seat - 0.05)), front - (0.02, 0, 0)]
        chair.add_pair(tube(post, bar * 0.75, plan.frame, sides=12))
    else:
        post = [np.array((0.0, y - 0.02, seat - 0.04)), (front + rear) / 2]
        chair.add_pair(tube(post, bar * 0.8, plan.frame, sides=12))
    chair.mark_pair("arm_front", end, (1.0, 0.3, 0.6), 0.08)
    chair.mark_pair("arm_rear", rear * 0.85 + front * 0.15, (0.0, 0.6, 1.0), 0.08)
