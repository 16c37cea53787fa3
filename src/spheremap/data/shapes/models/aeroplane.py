"""Aeroplanes: airliner, business jet, propeller machines with low or high wing, and fighter."""

# An array plus a tuple is a sum of vectors here, not a concatenation.
# ruff: noqa: RUF005

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spheremap.data.shapes.mesh import Array, box, cylinder, ellipsoid, lathe, loft, tube, wing
from spheremap.data.shapes.models.parts import Assembly, Instance, chance, paint, pick, recolored

KEYPOINTS = (
    "nose", "cockpit_window_left", "cockpit_window_right", "fuselage_top",
    "wing_tip_left", "wing_tip_right", "wing_root_front_left", "wing_root_front_right",
    "wing_root_rear_left", "wing_root_rear_right",
    "engine_left", "engine_right",
    "fin_tip", "fin_base", "tailplane_tip_left", "tailplane_tip_right", "tail_end",
    "gear_nose", "gear_left", "gear_right",
)  # fmt: skip

HULL = ("f2f2f0", "e6ebf0", "d3d8de", "f4efe2", "b8c1c9", "e8d9b0")
ACCENT = ("c01f2e", "1c3f94", "0e7c86", "e08a12", "2f7a3d", "5b2a86", "20252c", "d24a7a")
MILITARY = ("7d868c", "5f6b4e", "8e8a74", "4f5a66")
GLASS, DARK, TYRE = paint("17222c"), paint("2a2d31"), paint("141516")


@dataclass(frozen=True)
class Plan:
    """Proportions of a type; lengths as fractions of the fuselage's, heights relative to its radius."""

    radius: float
    span: float  # half span
    sweep: float  # backward run of the wing tip's leading edge
    chord: tuple[float, float]  # root, tip
    wing_x: float  # leading edge of the root, from the middle
    wing_z: float  # height of the root, in fuselage radii
    dihedral: float
    tail_span: float
    tail_z: float  # 0 at the fuselage, 1 on top of the fin
    fin: float  # height of the fin
    power: str  # "wing", "rear", "nose", "wing-propeller" or "inside"

    @property
    def light(self) -> bool:
        """Whether it has one propeller on its nose."""
        return self.power == "nose"

    @property
    def fighter(self) -> bool:
        """Whether its engine is inside the fuselage."""
        return self.power == "inside"

    @property
    def high(self) -> bool:
        """Whether the wing lies on top of the fuselage."""
        return self.wing_z > 0.5


PLANS = {
    "airliner": Plan(0.062, 0.46, 0.24, (0.20, 0.06), 0.13, -0.55, 0.07, 0.18, 0.0, 0.17, "wing"),
    "business jet": Plan(0.066, 0.43, 0.16, (0.17, 0.06), 0.05, -0.75, 0.05, 0.17, 1.0, 0.17, "rear"),
    "low wing": Plan(0.080, 0.62, 0.03, (0.22, 0.14), 0.20, -0.70, 0.09, 0.22, 0.0, 0.18, "nose"),
    "high wing": Plan(0.085, 0.68, 0.02, (0.20, 0.16), 0.20, 0.95, 0.02, 0.22, 0.0, 0.19, "nose"),
    "turboprop": Plan(0.065, 0.56, 0.05, (0.16, 0.09), 0.13, 0.90, 0.02, 0.19, 1.0, 0.18, "wing-propeller"),
    "fighter": Plan(0.060, 0.33, 0.26, (0.40, 0.10), 0.10, 0.0, -0.01, 0.18, 0.0, 0.17, "inside"),
}


# x, centre height, half width, half height of cross-sections, in fuselage radii but for x
FIGHTER_HULL = (
    (0.50, -0.1, 0.05, 0.05), (0.44, -0.08, 0.30, 0.30), (0.35, -0.05, 0.62, 0.62), (0.22, 0.0, 0.9, 0.85),
    (0.05, 0.0, 1.25, 1.0), (-0.20, 0.0, 1.3, 1.0), (-0.38, 0.0, 1.1, 0.9), (-0.46, 0.0, 0.9, 0.8),
)  # fmt: skip
HULL_BEHIND_NOSE = (
    (0.45, -0.15, 0.72, 0.70), (0.40, -0.06, 0.92, 0.88), (0.33, 0.0, 1.0, 1.0), (0.10, 0.0, 1.0, 1.0),
    (-0.12, 0.0, 1.0, 1.0), (-0.25, 0.10, 0.86, 0.86), (-0.38, 0.30, 0.52, 0.55), (-0.47, 0.45, 0.24, 0.28),
    (-0.50, 0.50, 0.12, 0.14),
)  # fmt: skip


def make(rng: np.random.Generator) -> Instance:
    """A random aeroplane."""
    kind = list(PLANS)[int(rng.integers(len(PLANS)))]
    base = PLANS[kind]
    plan = replace(
        base,
        radius=base.radius * rng.uniform(0.88, 1.15),
        span=base.span * rng.uniform(0.88, 1.12),
        sweep=base.sweep * rng.uniform(0.75, 1.25),
        chord=(base.chord[0] * rng.uniform(0.9, 1.15), base.chord[1] * rng.uniform(0.8, 1.2)),
        wing_x=base.wing_x + rng.uniform(-0.02, 0.02),
        dihedral=base.dihedral * rng.uniform(0.6, 1.3),
        tail_span=base.tail_span * rng.uniform(0.85, 1.15),
        fin=base.fin * rng.uniform(0.85, 1.15),
    )
    hull = pick(rng, MILITARY if plan.fighter else HULL, 0.06)
    accent = pick(rng, ACCENT)
    if plan.fighter:
        accent = hull * 0.7
    elif plan.light and chance(rng, 0.4):
        hull, accent = accent, hull
    wings = hull * rng.uniform(0.78, 0.95)

    plane = Assembly()
    _add_fuselage(plane, rng, plan, hull, accent, kind)
    _add_wings(plane, rng, plan, wings, accent)
    _add_tail(plane, rng, plan, wings, accent, twin_fins=plan.fighter and chance(rng, 0.5))
    _add_engines(plane, rng, plan, hull, accent)
    if plan.light or chance(rng, 0.5):
        _add_gear(plane, plan)
    return plane.finish(KEYPOINTS)


def _add_fuselage(
    plane: Assembly, rng: np.random.Generator, plan: Plan, hull: Array, accent: Array, kind: str
) -> None:
    r = plan.radius
    blunt = 0.45 if plan.light else 0.10
    nose = ((0.50, -0.25, blunt, blunt), (0.485, -0.22, 0.30 + blunt, 0.30 + blunt))
    stations = [*FIGHTER_HULL] if plan.fighter else [*nose, *HULL_BEHIND_NOSE]
    if plan.light:
        flat = 0.85  # of the windscreen's part
        stations = [(x, z - 0.15 * (x > 0.3), w, h * (flat if x > 0.25 else 1.0)) for x, z, w, h in stations]
    points, sizes = (
        [(x, 0.0, z * r) for x, z, _, _ in stations],
        [(w * r, h * r) for _, _, w, h in stations],
    )
    body = tube(points, sizes, hull, sides=14)
    x, _, z = body.triangles().mean(axis=1).T
    painted = {0: x < -0.26, 1: z < -0.45 * r, 2: x > 0.44}[int(rng.integers(3))]  # tail, belly or nose
    plane.add(recolored(body, x > 0.44, DARK) if plan.fighter else recolored(body, painted, accent))

    if plan.fighter:
        plane.add(ellipsoid((0.24, 0.0, 0.75 * r), (0.12, 0.5 * r, 0.75 * r), GLASS, sides=10, levels=7))
        plane.mark_pair("cockpit_window", (0.25, 0.45 * r, 1.0 * r), (0.1, 1.0, 0.5), 0.05)
        plane.add(lathe([(-0.02, 0.7 * r), (0.06, 0.82 * r)], (-0.49, 0.0, 0.0), (1, 0, 0), DARK, sides=12))
        plane.add_pair(box((0.16, 0.6 * r, 1.0 * r), (0.10, 1.35 * r, -0.1 * r), hull * 0.85))
        plane.add_pair(box((0.01, 0.5 * r, 0.85 * r), (0.182, 1.35 * r, -0.1 * r), DARK))
    elif plan.light:
        bump = 0.95 if plan.high else 1.0
        plane.add(ellipsoid((0.13, 0.0, 0.55 * r), (0.17, 0.86 * r, bump * r), GLASS, sides=12, levels=8))
        plane.add(box((0.02, 1.74 * r, 1.0 * r), (0.12, 0.0, 0.75 * r), hull, taper=0.7))
        plane.mark_pair("cockpit_window", (0.22, 0.5 * r, 0.95 * r), (0.5, 1.0, 0.6), 0.06)
    else:
        for y0 in (0.22, 0.62):  # two panes each side
            pane = np.array([0.428 - 0.014 * (y0 > 0.5), y0 * r, 0.42 * r - 0.12 * r * (y0 > 0.5)])
            plane.add_pair(ellipsoid(pane, (0.022, 0.24 * r, 0.20 * r), GLASS, sides=8, levels=4))
        plane.mark_pair("cockpit_window", (0.43, 0.45 * r, 0.4 * r), (0.8, 0.5, 0.5), 0.05)
        windows = int(rng.integers(11, 18)) if kind == "airliner" else int(rng.integers(5, 9))
        for along in np.linspace(0.33, -0.22, windows):
            plane.add_pair(box((0.014, 0.1 * r, 0.26 * r), (along, 0.945 * r, 0.28 * r), GLASS))
        plane.add_pair(box((0.022, 0.1 * r, 0.75 * r), (0.365, 0.93 * r, 0.05 * r), accent))  # door
        if chance(rng, 0.6):
            plane.add_pair(box((0.56, 0.1 * r, 0.13 * r), (0.05, 0.965 * r, -0.05 * r), accent))
    plane.mark("nose", (0.50, 0.0, -0.3 * r), (1.0, 0.0, 0.0), 0.1)
    plane.mark("fuselage_top", (-0.10 if kind != "high wing" else -0.13, 0.0, r), (0.0, 0.0, 1.0), 0.1)
    plane.mark("tail_end", (-0.5, 0.0, 0.0 if plan.fighter else 0.5 * r), (-1.0, 0.0, 0.0), 0.1)


def _add_wings(plane: Assembly, rng: np.random.Generator, plan: Plan, color: Array, accent: Array) -> None:
    r, chord = plan.radius, plan.chord
    z, inner = plan.wing_z * r, 0.55 * r
    root = np.array([plan.wing_x, inner, z])
    tip = np.array([plan.wing_x - plan.sweep, plan.span, z + plan.dihedral * plan.span])
    thick = 0.03 if plan.fighter else 0.13 * chord[0]
    plane.add_pair(wing(root, tip, chord, thick, color))
    if plan.high:  # the two halves meet above the cabin
        size = (chord[0] * 0.9, 2.2 * inner, thick * 0.8)
        plane.add(box(size, (plan.wing_x - 0.5 * chord[0], 0, z), color))

    def on_wing(fraction: float, back: float) -> Array:
        edge = root + fraction * (tip - root)
        return edge - np.array([back * (chord[0] + fraction * (chord[1] - chord[0])), 0.0, 0.0])

    near = max(0.0, (1.35 * r - inner) / (plan.span - inner))
    plane.add_pair(box((chord[1] * 0.9, 0.02, thick * 0.6), on_wing(0.99, 0.5), accent))
    if plan.power in ("wing", "rear") and chance(rng, 0.7):  # winglets
        end, chords = tip + np.array([-0.05, 0.012, 0.06]), (chord[1], chord[1] * 0.5)
        plane.add_pair(wing(tip, end, chords, 0.012, accent, normal=(0, 1, 0)))
    if plan.high and plan.light:
        strut = [np.array((plan.wing_x - 0.07, 0.9 * r, -0.6 * r)), on_wing(0.5, 0.35)]
        plane.add_pair(tube(strut, 0.007, color, sides=6))
    flap = np.array([on_wing(near + 0.06, 0.80), on_wing(0.62, 0.80)]) + (0, 0, thick * 0.10)
    plane.add_pair(tube(flap, [(0.006, 0.012 + thick * 0.12)] * 2, color * 0.7, sides=4))
    plane.mark_pair("wing_tip", on_wing(1.0, 0.45), (0.0, 1.0, 0.0), 0.05)
    plane.mark_pair("wing_root_front", on_wing(near, 0.03), (1.0, 0.5, 0.5), 0.05)
    plane.mark_pair("wing_root_rear", on_wing(near, 0.97), (-1.0, 0.5, 0.5), 0.05)


def _add_tail(
    plane: Assembly, rng: np.random.Generator, plan: Plan, color: Array, accent: Array, twin_fins: bool
) -> None:
    r = plan.radius
    x, base = -0.26 if plan.fighter else -0.33, 0.55 * r
    chord = (0.17 * rng.uniform(0.9, 1.1), 0.085 * rng.uniform(0.85, 1.15))
    sweep = rng.uniform(0.10, 0.14) if plan.power in ("wing", "rear", "inside") else rng.uniform(0.05, 0.09)
    root = np.array([x, 0.0, base])
    tip = root + np.array([-sweep, 0.0, plan.fin + 0.3 * r])
    if twin_fins:
        out = np.array([0.0, 0.9 * r, 0.0])
        plane.add_pair(wing(root + out, tip + 1.8 * out, chord, 0.02, accent, normal=(0, 1, 0)))
    else:
        plane.add(wing(root, tip, chord, 0.022, accent, normal=(0, 1, 0)))
        plane.mark("fin_base", root + (0.0, 0.0, 0.35 * r), (0.6, 0.0, 1.0), 0.05)
        plane.mark("fin_tip", tip - (0.4 * chord[1], 0, 0), (0.0, 0.0, 1.0), 0.05)
    level, back = 0.35 * r, 0.0
    if plan.tail_z > 0.5:
        level, back = base + 0.92 * (plan.fin + 0.3 * r), sweep * 0.8
    start = np.array([-0.30, 0.6 * r, 0.0]) if plan.fighter else np.array([x - 0.06 - back, 0.0, level])
    end = start + np.array([-0.5 * sweep - 0.02, plan.tail_span, 0.02])
    plane.add_pair(wing(start, end, (0.11, 0.055), 0.016, color))
    plane.mark_pair("tailplane_tip", end - (0.5 * 0.055, 0, 0), (0.0, 1.0, 0.0), 0.05)


def _add_engines(plane: Assembly, rng: np.random.Generator, plan: Plan, hull: Array, accent: Array) -> None:
    r, ahead = plan.radius, (1, 0, 0)
    color = accent if chance(rng, 0.4) else hull * 0.9
    if plan.power in ("wing", "rear"):
        size = r * (rng.uniform(0.48, 0.62) if plan.power == "wing" else rng.uniform(0.40, 0.48))
        if plan.power == "wing":
            x, y = plan.wing_x - 0.33 * plan.sweep + 0.02, 0.33 * plan.span
            centre = np.array([x, y, plan.wing_z * r + y * plan.dihedral - 1.15 * size])
            plane.add_pair(box((0.10, 0.014, size), centre + (-0.05, 0.0, size), hull * 0.8))
        else:
            centre = np.array([-0.20, r + 1.05 * size, 0.45 * r])
            plane.add_pair(box((0.08, 1.2 * size, 0.014), centre - (0.0, 0.8 * size, 0.0), hull * 0.8))
        profile = [(-0.085, 0.55), (-0.04, 0.9), (0.02, 1.0), (0.05, 1.0), (0.065, 0.88)]
        plane.add_pair(lathe([(x, share * size) for x, share in profile], centre, ahead, color, sides=14))
        front, rear = centre + (0.065, 0.0, 0.0), centre - (0.085, 0, 0)
        plane.add_pair(lathe([(-0.01, 0.78 * size), (0.003, 0.78 * size)], front, ahead, DARK, sides=14))
        spinner = [(0.0, 0.3 * size), (0.014, 0.08 * size)]
        plane.add_pair(lathe(spinner, front, ahead, paint("b9bcc0"), sides=8))
        plane.add_pair(lathe([(0.0, 0.45 * size), (0.03, 0.2 * size)], rear, (-1, 0, 0), DARK, sides=10))
        plane.mark_pair("engine", front, (1.0, 0.0, 0.0), 0.05)
    elif plan.power == "wing-propeller":
        size = 0.5 * r
        centre = np.array([plan.wing_x + 0.01, 0.32 * plan.span, plan.wing_z * r - 0.1 * size])
        profile = [(-0.15, 0.3), (-0.06, 0.9), (0.03, 1.0), (0.08, 0.75)]
        plane.add_pair(lathe([(x, share * size) for x, share in profile], centre, ahead, color, sides=12))
        for part in _propeller(rng, 1.75 * r, 4, 0.35 * size, accent).parts:
            plane.add_pair(part.moved(centre + (0.08, 0.0, 0.0)))
        plane.mark_pair("engine", centre + (0.12, 0.0, 0.0), (1.0, 0.0, 0.0), 0.06)
    elif plan.light:
        hub = np.array([0.50, 0.0, -0.40 * r])
        plane.add_pair(box((0.01, 0.28 * r, 0.2 * r), (0.497, 0.32 * r, -0.45 * r), DARK))
        plane.place(_propeller(rng, 1.65 * r, int(rng.integers(2, 4)), 0.26 * r, accent), np.eye(3), hub)


def _propeller(
    rng: np.random.Generator, radius: float, blades: int, spinner: float, color: Array
) -> Assembly:
    """A propeller in the plane x = 0 with its spinner toward +x."""
    turn = rng.uniform(0, 2 * np.pi)
    propeller = Assembly()
    profile = [(-0.01, spinner), (0.02, 0.8 * spinner), (0.045, 0.2 * spinner)]
    propeller.add(lathe(profile, (0, 0, 0), (1, 0, 0), color, sides=10))
    edge = np.array([0.004, 0.0, 0.0])
    for angle in turn + np.arange(blades) * (2 * np.pi / blades):
        along = np.array([0.0, np.cos(angle), np.sin(angle)])
        across = np.array([0.25, -np.sin(angle), np.cos(angle)]) * 0.011
        rings = []
        for place, width in ((0.0, 1.0), (0.5 * radius, 1.5), (radius, 0.8)):
            middle, half = place * along, width * across
            front, back = (middle + half, middle - half), (middle - half, middle + half)
            rings.append([*(corner + edge for corner in front), *(corner - edge for corner in back)])
        propeller.add(loft(rings, DARK))
    return propeller


def _add_gear(plane: Assembly, plan: Plan) -> None:
    r = plan.radius
    drop, wheel = -r * (2.0 if plan.light else 1.95), r * (0.36 if plan.light else 0.26)
    if plan.power == "wing-propeller":
        drop = -1.9 * r
    main_x = plan.wing_x - (0.55 if plan.light else 0.62) * plan.chord[0]
    for name, x, y in (("gear", main_x, min(2.0 * r, 0.5 * plan.span)), ("gear_nose", 0.38, 0.0)):
        top = np.array((x, 0.35 * y if plan.high else y, -0.6 * r))
        hub = np.array([x, y, drop + wheel])
        leg = tube([top, hub + (0, 0, 0.2 * wheel)], 0.007, paint("a9adb2"), sides=6)
        half = 0.35 * wheel
        tyre = cylinder(hub - (0, half, 0), hub + (0, half, 0), wheel, TYRE, sides=12)
        half *= 1.15
        cap = cylinder(hub - (0, half, 0), hub + (0, half, 0), wheel * 0.4, paint("c9ccd0"), sides=8)
        if y:
            plane.add_pair(leg, tyre, cap)
            plane.mark_pair(name, hub, (0.0, 1.0, 0.0), 0.06)
        else:
            plane.add(leg, tyre, cap)
            plane.mark(name, hub, (1.0, 0.0, 0.0), 0.06)
