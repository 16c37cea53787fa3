"""Primitives and object models of the embedded data set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spheremap.data.shapes.mesh import (
    Mesh,
    box,
    closest_point,
    cone,
    cylinder,
    ellipsoid,
    first_hit,
    lathe,
    loft,
    merge,
    panel,
    rotation_about,
    torus,
    tube,
    wing,
)  # fmt: skip
from spheremap.data.shapes.models import CATEGORIES, Instance, keypoint_names, make_instance
from spheremap.data.shapes.models.parts import Assembly, paint

GREY = (0.5, 0.5, 0.5)
SEEDS = range(8)


def instances(category: str) -> list[Instance]:
    return [make_instance(category, np.random.default_rng(seed)) for seed in SEEDS]


def edges_cancel(mesh: Mesh) -> bool:
    """A closed, consistently wound surface uses every edge once in each direction."""
    faces = mesh.faces
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward = {tuple(edge) for edge in directed.tolist()}
    return len(forward) == len(directed) and all((b, a) in forward for a, b in forward)


# ------------------------------------------------------------------------------------------ primitives


@pytest.mark.parametrize(
    ("mesh", "volume"),
    [
        (box((2, 3, 4), (1, -1, 5), GREY), 24.0),
        (box((2, 2, 3), (0, 0, 0), GREY, taper=0.5), 3 * (4 + 1 + 2) / 3),  # frustum: h/3 (A + B + √(AB))
        # an inscribed regular n-gon has the area n/2 · sin(2π/n) · r²
        (cylinder((0, 0, 0), (0, 0, 2), 3.0, GREY, sides=6), 2 * 9 * 3 * np.sin(np.pi / 3)),
        (cone((1, 2, 3), (1, 4, 3), 2.0, 1.0, GREY, sides=4), 2 * 2 * (4 + 1 + 2) / 3),
        (tube([(0, 0, 0), (5, 0, 0)], 1.0, GREY, sides=4), 10.0),
        (panel([(0, 0, 0), (4, 0, 0), (4, 2, 0), (0, 2, 0)], GREY, 0.5, u=(0.25, 0.75), v=(0, 0.5)), 1.0),
    ],
    ids=["box", "tapered box", "cylinder", "cone", "tube", "panel"],
)
def test_volumes_of_primitives(mesh: Mesh, volume: float) -> None:
    assert mesh.volume() == pytest.approx(volume)
    assert edges_cancel(mesh)


def test_round_primitives_approach_their_solids() -> None:
    ball = ellipsoid((1, 2, 3), (1, 2, 3), GREY, sides=60, levels=60)
    # the poles are cut off at a latitude of 1.25 rad and the rest stretched to the full length
    assert ball.volume() == pytest.approx(4 / 3 * np.pi * 6, rel=0.06)
    np.testing.assert_allclose(ball.vertices.min(axis=0)[0], 0.0, atol=1e-12)
    ring = torus((0, 0, 0), 2.0, 0.3, GREY, sides=90, around=40)
    assert ring.volume() == pytest.approx(2 * np.pi**2 * 2.0 * 0.3**2, rel=0.01)
    assert edges_cancel(ring)


@settings(max_examples=40, deadline=None)
@given(
    path=st.lists(st.floats(-0.4, 0.4), min_size=3, max_size=6),
    radius=st.floats(0.05, 0.3),
    angle=st.floats(-3, 3),
    swap=st.booleans(),
)
def test_orientation_survives_every_operation(
    path: list[float], radius: float, angle: float, swap: bool
) -> None:
    points = [(float(x), 0.0, z) for x, z in enumerate(path)]
    bent = tube(points[::-1] if swap else points, radius, GREY, sides=7)
    turned = bent.rotated(rotation_about((1, 2, 3), angle))
    turned = turned.mirrored().moved((1, 1, 1)).scaled(0.5)
    assert bent.volume() > 0
    assert turned.volume() == pytest.approx(bent.volume() / 8)
    assert edges_cancel(turned)


def test_merge_keeps_every_part() -> None:
    parts = [
        box((1, 1, 1), (0, 0, 0), (1, 0, 0)),
        wing((0, 1, 0), (-1, 3, 0), (1.0, 0.5), 0.1, (0, 1, 0)),
        lathe([(0, 1), (1, 2)], (5, 0, 0), (0, 0, 1), (0, 0, 1)),
    ]
    whole = merge(parts)
    assert whole.volume() == pytest.approx(sum(part.volume() for part in parts))
    assert len(whole.faces) == sum(len(part.faces) for part in parts)
    np.testing.assert_array_equal(whole.triangles()[: len(parts[0].faces)], parts[0].triangles())
    np.testing.assert_array_equal(whole.colors[-1], [0, 0, 1])


def test_rotation_about_an_axis() -> None:
    np.testing.assert_allclose(rotation_about((0, 0, 1), np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(rotation_about((0, 2, 0), np.pi / 2) @ [1, 0, 0], [0, 0, -1], atol=1e-15)


def test_ray_and_closest_point_on_a_cube() -> None:
    cube = box((2, 2, 2), (0, 0, 0), GREY).triangles()
    rays = (
        ((5, 0.3, 0.2), (-1, 0, 0), 4.0),
        ((0.1, 0.3, 0.2), (0, 0, 1), 0.8),
        ((5, 3, 0), (-1, 0, 0), np.inf),
    )
    for start, direction, distance in rays:
        assert first_hit(cube, np.array(start), np.array(direction, float)) == pytest.approx(distance)
    for point in ([3.0, 0.4, -0.2], [3.0, 4.0, -0.2], [-3.0, 4.0, 7.0]):
        np.testing.assert_allclose(closest_point(cube, np.array(point)), np.clip(point, -1, 1))


def test_a_mark_goes_to_the_outer_surface() -> None:
    assembly = Assembly()
    assembly.add(box((2, 2, 2), (5, 5, 5), GREY))
    assembly.mark("top", (5.2, 5.0, 5.9), (0, 0, 1), 0.5)
    assembly.mark("edge", (9.0, 5.0, 5.0), (0, 0, 1), 0.5)  # its ray misses: the nearest point of the surface
    made = assembly.finish(("edge", "absent", "top"))
    scale = 1 / np.sqrt(3)
    assert list(made.keypoints) == ["edge", "absent", "top"]
    np.testing.assert_allclose(made.keypoints["top"], np.array([0.2, 0.0, 1.0]) * scale)
    np.testing.assert_allclose(made.keypoints["edge"], np.array([1.0, 0.0, 0.0]) * scale, atol=1e-12)
    assert np.isnan(made.keypoints["absent"]).all()
    with pytest.raises(AssertionError, match=r"not listed.*edge"):
        assembly.finish(("top",))


def test_paint_decodes_srgb() -> None:
    np.testing.assert_allclose(paint("ff8000"), [1.0, 0.21586, 0.0], atol=1e-5)


def test_loft_does_not_depend_on_the_sense_of_its_rings() -> None:
    rings = np.array([[(0, 0, z), (1, 0, z), (1, 1, z), (0, 1, z)] for z in (0, 2)])
    for turned in (rings, rings[:, ::-1], rings[::-1]):
        assert loft(turned, GREY).volume() == pytest.approx(2.0)


# ---------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("category", CATEGORIES)
def test_instances_are_normalised_and_well_formed(category: str) -> None:
    names = keypoint_names(category)
    assert 12 <= len(names) == len(set(names)) <= 24
    for made in instances(category):
        mesh = made.mesh
        assert tuple(made.keypoints) == names
        assert (mesh.vertices.dtype, mesh.faces.dtype, mesh.colors.dtype) == ("f8", "i4", "f4")
        assert len(mesh.colors) == len(mesh.faces)
        assert 500 <= len(mesh.faces) <= 4000
        assert np.isfinite(mesh.vertices).all()
        assert 0 <= mesh.colors.min() <= mesh.colors.max() <= 1
        np.testing.assert_allclose(mesh.vertices.min(axis=0), -mesh.vertices.max(axis=0), atol=1e-12)
        assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1.0)


@pytest.mark.parametrize("category", CATEGORIES)
def test_faces_look_outward(category: str) -> None:
    """The first face that a ray from outside meets must be seen from its front."""
    rng = np.random.default_rng(0)
    for made in instances(category)[:2]:
        triangles = made.mesh.triangles()
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        for _ in range(80):
            target = triangles[rng.integers(len(triangles))].mean(axis=0)
            start = rng.normal(size=3)
            start *= 3.0 / np.linalg.norm(start)
            toward = (target - start) / np.linalg.norm(target - start)
            hit = start + first_hit(triangles, start, toward) * toward
            offset = np.einsum("ij,ij->i", normals, hit - triangles[:, 0]) / np.linalg.norm(normals, axis=1)
            nearby = np.flatnonzero(np.abs(offset) < 1e-9)
            on_it = (np.linalg.norm(closest_point(triangles[[face]], hit) - hit) < 1e-9 for face in nearby)
            assert any(on and normals[face] @ toward < 0 for face, on in zip(nearby, on_it, strict=True))


@pytest.mark.parametrize("category", CATEGORIES)
def test_keypoints_lie_on_the_surface_and_can_be_seen(category: str) -> None:
    views = [
        np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        for a in np.radians(np.arange(0, 360, 22.5))
        for e in np.radians([0, 20, 40])
    ]
    for made in instances(category)[:4]:
        triangles = made.mesh.triangles()
        for name, point in made.keypoints.items():
            if np.isnan(point).any():
                continue
            assert _distance(triangles, point) < 0.01, name
            # seen from somewhere around: nothing stands before the point by more than a small tolerance
            assert any(first_hit(triangles, point + 4 * v, -v) > 4 - 0.03 for v in views), name


def _distance(triangles: np.ndarray, point: np.ndarray) -> float:
    """Distance to the surface by brute force: a grid over each triangle near by, twice refined."""
    steps = np.linspace(-1, 1, 41)
    du, dv = (grid.reshape(-1) for grid in np.meshgrid(steps, steps))
    low, high = triangles.min(axis=1) - 0.02, triangles.max(axis=1) + 0.02
    nearest = np.inf
    for corner, other, third in triangles[((point >= low) & (point <= high)).all(axis=1)]:
        centre, reach = np.array([0.0, 0.0]), 1.0
        for _ in range(3):
            u, v = centre[0] + reach * du, centre[1] + reach * dv
            inside = (u >= 0) & (v >= 0) & (u + v <= 1)
            u, v = u[inside], v[inside]
            spot = corner + u[:, None] * (other - corner) + v[:, None] * (third - corner)
            away = np.linalg.norm(spot - point, axis=1)
            best = int(np.argmin(away))
            centre, reach, nearest = np.array([u[best], v[best]]), reach / 15, min(nearest, float(away[best]))
        if nearest < 0.002:
            break
    return nearest


@pytest.mark.parametrize("category", CATEGORIES)
def test_left_keypoints_are_on_the_left(category: str) -> None:
    for made in instances(category):
        for left, right in sides(made):
            # head and handlebar may be turned to one side, so there left is only relative to right
            assert np.isnan(left).any() == np.isnan(right).any()
            assert np.isnan(left).any() or left[1] > right[1]


def sides(made: Instance) -> list[tuple[np.ndarray, np.ndarray]]:
    """The keypoints that there are on the left, each with the one on the right."""
    points = made.keypoints
    return [(p, points[f"{n[:-5]}_right"]) for n, p in points.items() if n.endswith("_left")]


@pytest.mark.parametrize(
    ("category", "front", "rear"),
    [
        ("car", "number_plate_front", "number_plate_rear"),
        ("chair", "seat_front_middle", "back_top_middle"),
        ("aeroplane", "nose", "tail_end"),
        ("quadruped", "nose", "tail_base"),
        ("bicycle", "wheel_front_tip", "wheel_rear_tip"),
    ],
)
def test_objects_face_forward(category: str, front: str, rear: str) -> None:
    for made in instances(category):
        assert made.keypoints[front][0] > 0 > made.keypoints[rear][0]


@pytest.mark.parametrize("category", ["car", "chair"])
def test_rigid_symmetric_objects_are_their_own_mirror_image(category: str) -> None:
    for made in instances(category):
        for left, right in sides(made):
            # a crooked quadrilateral may be cut along the other diagonal on the other side
            np.testing.assert_allclose(right, left * (1, -1, 1), atol=2e-3)
        seen = {tuple(vertex) for vertex in np.round(made.mesh.vertices, 6) + 0.0}
        mirrored = {tuple(vertex) for vertex in np.round(made.mesh.vertices * (1, -1, 1), 6) + 0.0}
        assert len(seen ^ mirrored) <= 0.02 * len(seen)  # rounding of borderline digits


@pytest.mark.parametrize("category", CATEGORIES)
def test_same_generator_same_instance_and_other_seed_other_instance(category: str) -> None:
    first, again, other = (make_instance(category, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.mesh.vertices, again.mesh.vertices)
    np.testing.assert_array_equal(first.mesh.colors, again.mesh.colors)
    np.testing.assert_array_equal(list(first.keypoints.values()), list(again.keypoints.values()))
    assert not np.array_equal(first.mesh.vertices, other.mesh.vertices)
