"""Quadrupeds: horse, dog, cat, giraffe, cow, sheep, pig and elephant, standing or walking."""

# An array plus a tuple is a sum of vectors here, not a concatenation.
# ruff: noqa: RUF005

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spheremap.data.shapes.mesh import Array, Mesh, box, cone, cylinder, ellipsoid, rotation_about, tube
from spheremap.data.shapes.models.parts import Assembly, Instance, chance, paint, pick, recolored

KEYPOINTS = (
    "nose", "eye_left", "eye_right", "ear_left", "ear_right", "forehead",
    "withers", "rump", "tail_base", "tail_tip", "flank_left", "flank_right",
    "shoulder_left", "shoulder_right", "hip_left", "hip_right",
    "knee_front_left", "knee_front_right", "knee_rear_left", "knee_rear_right",
    "paw_front_left", "paw_front_right", "paw_rear_left", "paw_rear_right",
)  # fmt: skip


@dataclass(frozen=True)
class Build:
    """Proportions of an animal, in units of roughly a metre for a horse; angles in radians."""

    trunk: float  # length of the body
    depth: float  # height of the body
    width: float
    leg: float  # length below the body
    leg_radius: float
    neck: float
    neck_angle: float  # above the horizontal
    neck_radius: float
    head: float  # length
    head_radius: float
    muzzle: float  # radius of the muzzle relative to the head's
    head_pitch: float  # downward
    ear: tuple[float, float]  # length, half width
    ear_style: str  # "pointed", "floppy", "round" or "fan"
    tail: float
    tail_style: str  # "hair", "up", "tuft", "curl" or "stub"
    hoof: bool
    colors: tuple[str, ...]


BUILDS = {
    "horse": Build(
        1.50, 0.68, 0.50, 0.92, 0.085, 0.72, 0.95, 0.17, 0.62, 0.145, 0.62, 0.75,
        (0.15, 0.05), "pointed", 0.75, "hair", True,
        ("7a4526", "4a2a1a", "b98350", "2a2422", "d9d2c6", "8d8a87")),
    "dog": Build(
        0.95, 0.40, 0.32, 0.50, 0.055, 0.26, 0.80, 0.12, 0.42, 0.135, 0.52, 0.25,
        (0.16, 0.06), "pointed", 0.42, "up", False,
        ("8f5f35", "d6ab6c", "2b2624", "e6dfd2", "6e6a68", "a8783f")),
    "cat": Build(
        0.85, 0.30, 0.25, 0.36, 0.042, 0.16, 0.70, 0.10, 0.26, 0.125, 0.62, 0.15,
        (0.11, 0.05), "pointed", 0.60, "up", False,
        ("c07a35", "3a3836", "8c8782", "e8e2d8", "54463a")),
    "giraffe": Build(
        1.35, 0.66, 0.46, 1.45, 0.085, 1.55, 1.12, 0.16, 0.50, 0.125, 0.60, 0.45,
        (0.17, 0.06), "pointed", 0.70, "tuft", True,
        ("d9ac62", "e3bf82", "c8954a")),
    "cow": Build(
        1.65, 0.80, 0.64, 0.74, 0.095, 0.44, 0.55, 0.22, 0.54, 0.185, 0.74, 0.70,
        (0.20, 0.07), "floppy", 0.80, "tuft", True,
        ("6b3a22", "efeae2", "2a2624", "b9763f", "d8c3a0")),
    "sheep": Build(
        1.10, 0.66, 0.60, 0.42, 0.055, 0.24, 0.60, 0.17, 0.36, 0.120, 0.60, 0.50,
        (0.14, 0.05), "floppy", 0.16, "stub", True,
        ("e9e4d6", "d6cdb8", "3a3532", "f2efe8")),
    "pig": Build(
        1.25, 0.62, 0.56, 0.34, 0.075, 0.14, 0.20, 0.25, 0.38, 0.210, 0.52, 0.30,
        (0.17, 0.08), "floppy", 0.26, "curl", True,
        ("e5a79c", "d98f86", "4a3b39", "edc4b8")),
    "elephant": Build(
        1.80, 1.15, 0.98, 0.95, 0.180, 0.22, 0.35, 0.34, 0.62, 0.340, 0.62, 0.55,
        (0.50, 0.36), "fan", 0.75, "tuft", False,
        ("85837f", "6f6e6c", "9a948c")),
}  # fmt: skip
EYE, HOOF, SKIN = paint("0c0b0b"), paint("231f1d"), paint("1f1a18")


def make(rng: np.random.Generator) -> Instance:
    """A random four-legged animal."""
    kind = list(BUILDS)[int(rng.integers(len(BUILDS)))]
    base = BUILDS[kind]
    vary = rng.uniform(0.88, 1.13, 8)
    build = replace(
        base,
        trunk=base.trunk * vary[0],
        depth=base.depth * vary[1],
        width=base.width * vary[1] * rng.uniform(0.92, 1.08),
        leg=base.leg * vary[2],
        leg_radius=base.leg_radius * vary[3],
        neck=base.neck * vary[4],
        neck_angle=base.neck_angle + rng.uniform(-0.25, 0.2),
        head=base.head * vary[5],
        muzzle=base.muzzle * vary[6],
        head_pitch=base.head_pitch + rng.uniform(-0.2, 0.25),
        ear=(base.ear[0] * vary[7], base.ear[1] * rng.uniform(0.9, 1.15)),
        ear_style="floppy" if kind == "dog" and chance(rng, 0.5) else base.ear_style,
        tail=base.tail * rng.uniform(0.8, 1.2),
    )
    coat = pick(rng, build.colors)
    dark, light = coat * 0.45, np.clip(coat * 1.5 + 0.06, 0.0, 1.0)
    animal = Assembly()
    height = build.leg + 0.42 * build.depth  # of the body's axis
    _add_trunk(animal, rng, build, kind, coat, light, height)
    socks = light if chance(rng, 0.4) else (dark if chance(rng, 0.5) else coat)
    _add_legs(animal, rng, build, coat, socks, height)
    poll = _add_neck(animal, rng, build, kind, coat, dark, height)
    head = _head(rng, build, kind, coat, dark, light)
    turn = rotation_about((0, 0, 1), rng.uniform(-0.3, 0.3)) @ rotation_about((0, 1, 0), build.head_pitch)
    animal.place(head, turn, poll)
    _add_tail(animal, rng, build, coat, dark, height)
    return animal.finish(KEYPOINTS)


def _patched(mesh: Mesh, rng: np.random.Generator, kind: str, other: Array, scale: float) -> Mesh:
    """Blotches, the same on both flanks: a sum of random waves over (x, |y|, z), thresholded."""
    centres = mesh.triangles().mean(axis=1)
    centres[:, 1] = np.abs(centres[:, 1])
    waves = rng.normal(size=(4, 3)) * scale
    pattern = np.sin(centres @ waves.T + rng.uniform(0, 6.28, 4)).sum(axis=1)
    return recolored(mesh, pattern > (0.2 if kind == "giraffe" else 0.6), other)


def _add_trunk(
    animal: Assembly,
    rng: np.random.Generator,
    build: Build,
    kind: str,
    coat: Array,
    light: Array,
    height: float,
) -> None:
    long, deep, wide = build.trunk / 2, build.depth / 2, build.width / 2
    slope = 0.16 * build.depth if kind == "giraffe" else rng.uniform(-0.03, 0.05) * build.depth
    tuck = rng.uniform(0.82, 0.98) if kind in ("dog", "horse", "cat") else 1.04
    profile = np.array([  # along, height, width, depth
        (-1.0, 0.22, 0.40, 0.42), (-0.90, 0.12, 0.72, 0.74), (-0.68, 0.05, 0.96, 0.96),
        (-0.40, 0.0, 0.98, 0.97 * tuck), (0.0, -0.02, 1.0, tuck), (0.38, 0.0, 0.98, 1.0),
        (0.68, 0.04, 0.90, 1.0), (0.90, 0.08, 0.64, 0.78), (1.0, 0.10, 0.36, 0.45),
    ])  # fmt: skip
    # finer, so that coat patterns have faces to paint
    along = np.union1d(profile[:, 0], np.linspace(-0.84, 0.84, 12).round(2))
    rise, broad, tall = (np.interp(along, profile[:, 0], profile[:, column]) for column in (1, 2, 3))
    points = np.stack([along * long, 0.0 * along, height + rise * deep + slope * along], axis=-1)
    body = tube(points, np.stack([broad * wide, tall * deep], axis=-1), coat, sides=16)
    if kind == "giraffe":
        body = _patched(body, rng, kind, paint("7a4a20"), 9.0)
    elif kind in ("cow", "dog", "cat", "horse", "pig") and chance(rng, 0.45):
        other = light if coat.mean() < 0.35 else coat * 0.18
        body = _patched(body, rng, kind, other, 3.5 / build.trunk * 1.5)
    elif chance(rng, 0.5):
        body = recolored(body, body.triangles().mean(axis=1)[:, 2] < height - 0.55 * deep, light)
    animal.add(body)
    if kind == "sheep":  # woolly lumps
        for _ in range(14):
            x, turn = rng.uniform(-0.8, 0.8), rng.uniform(0.1, np.pi - 0.6)
            spot = (x * long, 0.86 * wide * np.sin(turn), height + 0.86 * deep * np.cos(turn))
            shade = coat * rng.uniform(0.9, 1.05)
            animal.add_pair(ellipsoid(spot, (0.14, 0.12, 0.12), shade, sides=7, levels=4))
    if kind == "cow":
        udder = (-0.45 * long, 0.0, height - 1.0 * deep)
        animal.add(ellipsoid(udder, (0.17, 0.15, 0.13), paint("d9a093"), sides=8, levels=5))
    animal.mark("withers", (0.72 * long, 0.0, height + 1.05 * deep), (0.0, 0.0, 1.0), 0.4)
    animal.mark("rump", (-0.68 * long, 0.0, height + deep), (0.0, 0.0, 1.0), 0.3)
    animal.mark_pair("flank", (0.0, wide, height - 0.1 * deep), (0.0, 1.0, 0.0), 0.2)
    animal.mark_pair("shoulder", (0.66 * long, 0.9 * wide, height + 0.05 * deep), (0.0, 1.0, 0.0), 0.2)
    animal.mark_pair("hip", (-0.70 * long, 0.9 * wide, height + 0.10 * deep), (0.0, 1.0, 0.0), 0.2)


def _add_legs(
    animal: Assembly, rng: np.random.Generator, build: Build, coat: Array, socks: Array, height: float
) -> None:
    """Four legs, each with its own swing; hind legs bend forward at the stifle and backward at the hock."""
    stride = rng.uniform(0.05, 0.38)
    phase = rng.uniform(0, 2 * np.pi)
    r = build.leg_radius
    upper, lower = 0.55 * build.leg + (height - build.leg), 0.45 * build.leg

    def swung(angle: float) -> Array:
        return np.array([np.sin(angle), 0.0, -np.cos(angle)])

    for end, sign in (("front", 1.0), ("rear", -1.0)):
        front = sign > 0
        for side, y_sign in (("left", 1.0), ("right", -1.0)):
            beat = phase + (0.0 if sign * y_sign > 0 else np.pi) + rng.uniform(-0.4, 0.4)
            swing, lift = stride * np.sin(beat), stride * max(0.0, np.cos(beat))
            x = sign * build.trunk / 2 * (0.66 if front else 0.70)
            top = np.array([x, y_sign * (build.width / 2 - 0.95 * r) * 0.86, height])
            knee = top + upper * swung(swing if front else swing - 0.16)
            bend = swing - 0.9 * lift if front else swing + 0.08 - 0.9 * lift
            ankle = knee + (lower - 0.09 * build.leg) * swung(bend)
            thigh = top + 0.55 * (knee - top) + (0.0 if front else 0.45 * r) * np.array([1.0, 0.0, 0.0])
            broad = 1.9 if front else 2.3
            crest = top + (0.0, 0.0, min(1.6 * r, 0.35 * build.depth))
            limb = [(0.5 * r, 0.8 * r), (1.2 * r, broad * r), (1.15 * r, 1.45 * r), (0.85 * r, 0.95 * r)]
            animal.add(tube([crest, top, thigh, knee + (0, 0, 0.25 * r)], limb, coat, sides=10))
            shin = [knee + (0, 0, 0.5 * r), knee - (0, 0, 0.3 * r), ankle]
            animal.add(tube(shin, [0.85 * r, 0.85 * r, 0.62 * r], socks, sides=10))
            foot = ankle + np.array([0.35 * r, 0.0, -0.09 * build.leg])
            if build.hoof:
                animal.add(cone(foot, ankle + (0, 0, 0.1 * r), 1.0 * r, 0.72 * r, HOOF, sides=8))
                toe = foot + (0.7 * r, 0.0, 0.3 * r)
            elif r > 0.12:
                animal.add(cone(foot - (0.2 * r, 0, 0), ankle, 1.02 * r, 0.8 * r, socks * 0.9, sides=10))
                animal.add(box((0.3 * r, 1.2 * r, 0.4 * r), foot + (0.72 * r, 0.0, 0.2 * r), paint("d8cfc0")))
                toe = foot + (0.8 * r, 0.0, 0.3 * r)
            else:
                paw, size = foot + (0.5 * r, 0.0, 0.45 * r), (1.35 * r, 1.0 * r, 0.75 * r)
                animal.add(ellipsoid(paw, size, socks, sides=8, levels=5))
                toe = foot + (1.5 * r, 0.0, 0.5 * r)
            animal.mark(f"paw_{end}_{side}", toe, (1.0, 0.3 * y_sign, 0.3), 1.2 * r)
            animal.mark(f"knee_{end}_{side}", knee, (0.4 * sign, y_sign, 0.0), 1.3 * r)


def _add_neck(
    animal: Assembly,
    rng: np.random.Generator,
    build: Build,
    kind: str,
    coat: Array,
    dark: Array,
    height: float,
) -> Array:
    """The neck; returns the poll, where the head sits."""
    long, deep = build.trunk / 2, build.depth / 2
    toward = np.array([np.cos(build.neck_angle), 0.0, np.sin(build.neck_angle)])
    n = build.neck_radius
    # in-plane radius where the neck leaves the body, whose back it must not overtop
    thick = min(1.35 * n, 0.9 * deep)
    withers = 0.14 * build.depth if kind == "giraffe" else 0.0
    base = np.array([0.74 * long, 0.0, height + withers + min(0.35 * deep, deep - thick * toward[0])])
    poll = base + (0.08 * long + build.neck) * toward
    if kind == "giraffe":
        spine = np.linspace(0, 1, 13)[:, None]
        sizes = n * (np.array([1.0, 1.5]) + spine * np.array([-0.34, -0.7]))
        neck = tube(base + spine * (poll - base), sizes, coat, sides=12)
        neck = _patched(neck, rng, kind, paint("7a4a20"), 9.0)
    else:
        joints = [base - 0.7 * n * toward, base, (base + poll) / 2 + (0, 0, -0.02), poll]
        middle = (0.85 * n, (thick + 0.85 * n) / 2)
        sizes = [(0.7 * n, 0.55 * thick), (1.05 * n, thick), middle, (0.72 * n, 0.85 * n)]
        neck = tube(joints, sizes, coat, sides=12)
    animal.add(neck)
    if kind in ("horse", "giraffe"):  # mane
        away = np.array([-np.sin(build.neck_angle), 0.0, np.cos(build.neck_angle)])
        shares = (0.0, 0.35, 0.7, 1.0)
        crest = [base + (0.1 + 0.9 * t) * (poll - base) + away * n * (1.32 - 0.42 * t) for t in shares]
        animal.add(tube(crest, [(0.028, 0.075), (0.028, 0.085), (0.028, 0.08), (0.026, 0.06)], dark, sides=6))
    return poll


def _head(
    rng: np.random.Generator, build: Build, kind: str, coat: Array, dark: Array, light: Array
) -> Assembly:
    """The head in its own frame: origin at the poll, muzzle toward +x."""
    head = Assembly()
    long, r = build.head, build.head_radius
    m = r * build.muzzle
    points = [
        (-0.14, 0.0),
        (0.0, 0.0),
        (0.22, 0.0),
        (0.45, -0.10),
        (0.62, -0.25),
        (0.90, -0.30),
        (1.0, -0.32),
    ]
    skull_sizes = [(w * r * 0.92, h * r) for w, h in ((0.55, 0.55), (0.92, 0.92), (1.0, 1.0), (0.80, 0.84))]
    sizes = [*skull_sizes, (1.05 * m, 1.1 * m), (m, m), (0.72 * m, 0.7 * m)]
    skull = tube([(x * long, 0.0, z * r) for x, z in points], sizes, coat, sides=12)
    x, y, z = skull.triangles().mean(axis=1).T
    style = int(rng.integers(3))
    if kind == "cow":
        skull = recolored(skull, x > 0.70 * long, paint("d9a89a"))
    elif style == 0 and kind != "elephant":
        skull = recolored(skull, x > 0.66 * long, light if coat.mean() < 0.3 else dark)
    elif style == 1 and kind != "elephant":  # a blaze down the face
        skull = recolored(skull, (np.abs(y) < 0.30 * r) & (z > 0), light)
    head.add(skull)

    eye = np.array([0.30 * long, 0.80 * r, 0.42 * r])
    size = max(0.12 * r, 0.018) * (1.15 if kind in ("cat", "dog") else 1.0)
    if kind == "elephant":
        size = 0.09 * r
    else:
        white = (1.5 * size, size, 1.3 * size)
        head.add_pair(ellipsoid(eye + (0, -0.01, 0), white, paint("efe9da"), sides=8, levels=5))
    pupil = (1.05 * size, size, 1.05 * size)
    head.add_pair(ellipsoid(eye + (0.01, 0.35 * size, 0), pupil, EYE, sides=8, levels=5))
    head.mark_pair("eye", eye, (0.2, 1.0, 0.2), 2.0 * size + 0.02)
    head.mark("forehead", (0.25 * long, 0.0, r), (0.0, 0.0, 1.0), 0.5 * r)
    _add_ears(head, build, kind, coat, dark)
    _add_nose(head, rng, build, kind, coat)
    if kind == "cow" and chance(rng, 0.7):
        rise = rng.uniform(0.12, 0.28)
        horn = [(0.02 * long, 0.5 * r, 0.75 * r), (0.0, 1.3 * r, 0.9 * r), (0.06, 1.65 * r, 0.9 * r + rise)]
        head.add_pair(tube(horn, [0.045, 0.038, 0.012], paint("ddd2b8"), sides=7))
    if kind == "giraffe":
        tip = (-0.02 * long, 0.45 * r, 1.9 * r)
        head.add_pair(tube([(0.05 * long, 0.35 * r, 0.7 * r), tip], 0.024, coat, sides=7))
        head.add_pair(ellipsoid(tip, (0.035, 0.035, 0.045), dark, sides=7, levels=4))
    return head


def _add_nose(head: Assembly, rng: np.random.Generator, build: Build, kind: str, coat: Array) -> None:
    long, r = build.head, build.head_radius
    m = r * build.muzzle
    if kind == "elephant":
        _add_trunk_and_tusks(head, rng, coat, long, r, m)
    elif kind == "pig":
        end = (1.08 * long, 0.0, -0.3 * r)
        head.add(cylinder((0.95 * long, 0.0, -0.3 * r), end, 0.85 * m, paint("d98880"), sides=12))
        nostril = (1.07 * long, 0.3 * m, -0.3 * r)
        head.add_pair(cylinder(nostril, (1.09 * long, 0.3 * m, -0.3 * r), 0.16 * m, SKIN, sides=6))
        head.mark("nose", end, (1.0, 0.0, 0.0), 0.1)
    elif build.hoof:
        nostril, size = (0.97 * long, 0.55 * m, -0.15 * r), (0.3 * m, 0.22 * m, 0.24 * m)
        head.add_pair(ellipsoid(nostril, size, SKIN, sides=6, levels=4))
        head.add(box((0.16 * long, 1.5 * m, 0.012), (0.90 * long, 0, -0.3 * r - 0.55 * m), SKIN))
        head.mark("nose", (1.0 * long, 0.0, -0.2 * r), (1.0, 0.0, 0.3), 0.1)
    else:
        size = (0.30 * m, 0.42 * m, 0.32 * m)
        head.add(ellipsoid((0.99 * long, 0.0, -0.10 * r), size, SKIN, sides=8, levels=5))
        head.add(box((0.2 * long, 1.5 * m, 0.012), (0.88 * long, 0, -0.3 * r - 0.5 * m), SKIN))
        head.mark("nose", (1.02 * long, 0.0, -0.10 * r), (1.0, 0.0, 0.2), 0.08)


def _add_ears(head: Assembly, build: Build, kind: str, coat: Array, dark: Array) -> None:
    long, r = build.head, build.head_radius
    length, half = build.ear
    root = np.array([-0.02 * long, 0.55 * r, 0.75 * r])
    if build.ear_style == "fan":  # elephant: a big flap beside the head
        root = np.array([0.0, 0.75 * r, 0.1 * r])
        out = np.array([-0.62, 0.70, -0.05])
        steps = [(0.0, 0.45, 0.05), (0.35, 0.95, 0.0), (0.75, 0.90, -0.18), (1.0, 0.55, -0.3)]
        points = [root + t * length * out + np.array([0, 0, z * length]) for t, _, z in steps]
        head.add_pair(tube(points, [(0.03, w * half * 1.15) for _, w, _ in steps], coat * 0.88, sides=8))
        edge = root + 0.85 * length * out + np.array([0, 0, -0.22 * length])
        head.mark_pair("ear", edge, (0.7, 0.7, 0.0), 0.25)
        return
    direction = np.array([-0.15, 0.30, 1.0] if build.ear_style == "pointed" else [-0.1, 0.9, -0.15])
    if kind == "dog" and build.ear_style == "floppy":
        root, direction = np.array([0.05 * long, 0.80 * r, 0.60 * r]), np.array([0.05, 0.45, -0.75])
    if kind == "giraffe":
        direction = np.array([-0.2, 1.0, 0.35])
    tip = root + length * direction / np.sqrt(direction @ direction)
    middle = 0.5 * (root + tip)
    sizes = [(0.9 * half, 0.45 * half), (half, 0.4 * half), (0.3 * half, 0.2 * half)]
    head.add_pair(tube([root, middle, tip], sizes, coat * 0.8, sides=7))
    if build.ear_style == "pointed":
        ahead = np.array([0.32 * half, 0.0, 0.0])
        inner = [root + 0.15 * (tip - root) + ahead, middle + ahead, root + 0.85 * (tip - root) + ahead * 0.6]
        sizes = [(0.5 * half, 0.2 * half), (0.6 * half, 0.2 * half), (0.2 * half, 0.12 * half)]
        head.add_pair(tube(inner, sizes, dark, sides=6))
    head.mark_pair("ear", tip - 0.1 * (tip - root), (0.2, 1.0, 0.4), 1.2 * half)


def _add_trunk_and_tusks(
    head: Assembly, rng: np.random.Generator, coat: Array, long: float, r: float, m: float
) -> None:
    curl = rng.uniform(-0.1, 0.5)
    points = np.array([
        (0.85 * long, 0.0, -0.25 * r), (1.12 * long, 0.0, -0.65 * r), (1.08 * long, 0.0, -1.35 * r),
        (0.86 * long, 0.0, -2.1 * r), (0.72 * long + 0.4 * curl, 0.0, -2.75 * r),
        (0.76 * long + curl, 0.0, -3.05 * r + 0.3 * curl),
    ])  # fmt: skip
    head.add(tube(points, np.array([0.95, 0.85, 0.66, 0.5, 0.4, 0.32]) * m, coat, sides=10))
    head.mark("nose", (points[1] + points[2]) / 2 + (0.6 * m, 0, 0), (1.0, 0.0, 0.3), 0.3)
    if chance(rng, 0.75):
        places = ((0.80, 0.62, -0.62), (1.05, 0.95, -1.25), (1.45, 0.95, -1.35))
        tusk = [(x * long, y * m, z * r) for x, y, z in places]
        head.add_pair(tube(tusk, [0.05, 0.042, 0.015], paint("efe6cf"), sides=7))


def _add_tail(
    animal: Assembly, rng: np.random.Generator, build: Build, coat: Array, dark: Array, height: float
) -> None:
    root = np.array([-0.97 * build.trunk / 2, 0.0, height + 0.22 * build.depth])
    length, r = build.tail, build.leg_radius
    outward = (-1.0, 0.0, 0.0)
    if build.tail_style == "hair":
        path = [root, root + (-0.14, 0, 0.02), root + (-0.20, 0, -0.4 * length), root + (-0.16, 0, -length)]
        animal.add(tube(path, [0.05, 0.065, 0.085, 0.03], dark, sides=7))
    elif build.tail_style == "up":
        rise = rng.uniform(-0.5, 1.0)
        end = root + (-0.75 * length, 0, 0.9 * rise * length)
        path = [root, root + (-0.45 * length, 0, 0.35 * rise * length), end]
        animal.add(tube(path, [0.75 * r, 0.6 * r, 0.3 * r], coat, sides=8))
        outward = (-1.0, 0.0, 0.2)
    elif build.tail_style == "tuft":
        path = [root, root + (-0.10, 0, -0.1 * length), root + (-0.12, 0, -0.8 * length)]
        animal.add(tube(path, [0.035, 0.026, 0.02], coat, sides=6))
        animal.add(ellipsoid(path[-1], (0.05, 0.045, 0.11), dark, sides=7, levels=5))
        path.append(path[-1] + (-0.02, 0, -0.08))
        outward = (-1.0, 0.0, -0.3)
    elif build.tail_style == "curl":
        turn = np.linspace(0, 1.5 * np.pi, 7)
        back, aside = -0.02 - 0.10 * np.sin(turn) - 0.02 * turn, 0.05 * (1 - np.cos(turn))
        path = list(root + np.stack([back, aside, 0.05 * np.sin(turn / 2)], -1))
        animal.add(tube(path, 0.02, coat * 0.9, sides=6))
        outward = (-1.0, 0.0, 0.5)
    else:
        path = [root + (0.05, 0, 0), root + (-0.08, 0, -0.03), root + (-0.10, 0, -length)]
        animal.add(tube(path, [0.06, 0.075, 0.04], coat * 0.95, sides=7))
    animal.mark("tail_base", root, (-0.4, 0.0, 1.0), 0.3)
    animal.mark("tail_tip", path[-1], outward, 0.12)
