"""Camera, rasteriser and scene, against hand-worked geometry and a brute-force ray caster."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spheremap.data.shapes.camera import BINS, Camera, draw_camera, framed, look_at_origin
from spheremap.data.shapes.mesh import Mesh
from spheremap.data.shapes.models import CATEGORIES, keypoint_names, make_instance
from spheremap.data.shapes.raster import coverage, rasterise
from spheremap.data.shapes.scene import KEYPOINT_TOLERANCE, Picture, render, solid, visible_points

Array = NDArray[np.float64]

# outward normals of a cube's faces: front, rear, left, right, top, bottom of the object frame
NORMALS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64)


def cube(half: float = 0.5) -> Mesh:
    """A cube about the origin; faces 2k and 2k + 1 belong to the k-th normal."""
    vertices, faces = [], []
    for normal in NORMALS:
        across = np.roll(normal, 1)
        up = np.cross(normal, across)
        corners = [normal + s * across + t * up for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        first = len(vertices)
        vertices += corners
        faces += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
    colors = np.full((12, 3), 0.5, dtype=np.float32)
    return Mesh(half * np.array(vertices), np.array(faces, dtype=np.int32), colors)


def view(azimuth: float, elevation: float = 0.0, *, distance: float = 4.0, size: int = 64) -> Camera:
    position, axes = look_at_origin(azimuth, elevation, distance)
    return Camera(position, axes, focal=1.5 * size, centre=np.full(2, size / 2), size=size)


def full_view(mesh: Mesh, azimuth: float, elevation: float, distance: float) -> Camera:
    """A view of 160 x 160 pixels that an object all but fills."""
    return framed(*look_at_origin(azimuth, elevation, distance), mesh.vertices, 160, 0.9, np.zeros(2))


def picture_of(mesh: Mesh, camera: Camera, seed: int = 0) -> Picture:
    return render(solid(mesh), camera, np.random.default_rng(seed))


# ----------------------------------------------------------------------------------------------------- camera


@pytest.mark.parametrize(
    ("azimuth", "point", "side"),
    [
        (0, (0, 1, 0), "right"),  # seen from the front, the object's left is on the right
        (90, (1, 0, 0), "left"),  # seen from its left, the object faces image-left
        (180, (0, 1, 0), "left"),
        (270, (1, 0, 0), "right"),
    ],
)
def test_azimuth_convention(azimuth: float, point: tuple[float, ...], side: str) -> None:
    xy, depth = view(azimuth).project(np.array([point, (0, 0, 1)], dtype=np.float64))
    assert (xy[0, 0] > 32) == (side == "right")
    assert depth[0] == pytest.approx(4.0)
    assert xy[0, 1] == pytest.approx(32)
    assert xy[1, 1] < 32  # up is up


def test_camera_position_follows_azimuth_and_elevation() -> None:
    position, axes = look_at_origin(30, 40, 2.0, roll=10)
    e, phi = np.radians([40, 30])
    want = [2 * np.cos(e) * np.cos(phi), 2 * np.cos(e) * np.sin(phi), 2 * np.sin(e)]
    np.testing.assert_allclose(position, want)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)  # right, down, forward is right-handed
    np.testing.assert_allclose(axes[2], -position / 2, atol=1e-12)
    _, upright = look_at_origin(30, 40, 2.0)
    assert np.degrees(np.arccos(axes[0] @ upright[0])) == pytest.approx(10)  # roll turns the picture alone


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_unproject_inverts_project_at_any_resolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    camera = view(rng.uniform(0, 360), rng.uniform(-60, 60)).resized(int(rng.integers(16, 512)))
    points = rng.uniform(-1, 1, size=(5, 3))
    np.testing.assert_allclose(camera.unproject(*camera.project(points)), points, atol=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_framed_object_fills_its_share_and_stays_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(20, 3))
    points /= np.abs(points).max() * 2
    extent = rng.uniform(0.3, 1.0)
    position, axes = look_at_origin(
        rng.uniform(0, 360), rng.uniform(0, 80), rng.uniform(2, 9), rng.uniform(-9, 9)
    )
    camera = framed(position, axes, points, 100, extent, rng.uniform(-0.5, 0.5, size=2))
    xy, _ = camera.project(points)
    assert np.ptp(xy, axis=0).max() == pytest.approx(100 * extent)
    assert xy.min() >= -1e-9
    assert xy.max() <= 100 + 1e-9


def test_drawn_cameras_keep_to_their_bin() -> None:
    rng = np.random.default_rng(0)
    ranges: Any = SimpleNamespace(azimuth_jitter=22.5, elevation=(5, 35), distance=(3, 6), roll=5)
    ranges.image_size, ranges.object_size, ranges.shift = 64, (0.5, 0.9), 0.1
    azimuths = []
    for k in range(400):
        camera = draw_camera(rng, cube().vertices, ranges, k % BINS)
        x, y, z = camera.position
        azimuth = np.degrees(np.arctan2(y, x))
        offset = (azimuth - 45 * (k % BINS) + 180) % 360 - 180
        assert abs(offset) <= 22.5
        distance = np.linalg.norm(camera.position)
        assert 3 <= distance <= 6
        assert 5 <= np.degrees(np.arcsin(z / distance)) <= 35
        azimuths.append(azimuth % 360)
    counts, _ = np.histogram(azimuths, bins=16, range=(0, 360))
    assert counts.min() > 10  # 25 expected: the whole circle is covered


# ------------------------------------------------------------------------------------------------- rasteriser


def cast_rays(camera: Camera, mesh: Mesh) -> tuple[NDArray[np.int64], Array]:
    """Nearest front face and its depth per pixel, by intersecting each pixel's ray with each triangle."""
    face, depth = np.full((camera.size,) * 2, -1), np.full((camera.size,) * 2, np.inf)
    for row in range(camera.size):
        for column in range(camera.size):
            pixel = np.array([[column + 0.5, row + 0.5]])
            ray = camera.unproject(pixel, np.ones(1))[0] - camera.position  # depth grows by 1 per unit
            for k, triangle in enumerate(mesh.vertices[mesh.faces]):
                a, b, c = triangle
                normal = np.cross(b - a, c - a)
                if normal @ ray >= 0:
                    continue
                t = normal @ (a - camera.position) / (normal @ ray)
                hit = camera.position + t * ray
                inside = all(np.cross(q - p, hit - p) @ normal >= 0 for p, q in ((a, b), (b, c), (c, a)))
                if inside and t < depth[row, column]:
                    face[row, column], depth[row, column] = k, t
    return face, depth


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rasteriser_agrees_with_ray_casting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    triangles = rng.uniform(-0.9, 0.9, size=(14, 3, 3))
    faces = np.arange(42, dtype=np.int32).reshape(-1, 3)
    mesh = Mesh(triangles.reshape(-1, 3), faces, np.zeros((14, 3), np.float32))
    camera = view(rng.uniform(0, 360), rng.uniform(0, 60), distance=2.5, size=20)
    face, depth = cast_rays(camera, mesh)
    buffers = rasterise(camera, mesh.vertices, mesh.faces)
    assert (face >= 0).sum() > 50
    np.testing.assert_array_equal(buffers.face, face)
    np.testing.assert_allclose(buffers.depth, depth)


def test_weights_give_back_the_surface_point() -> None:
    mesh, camera = cube(), view(35, 25)
    buffers = rasterise(camera, mesh.vertices, mesh.faces)
    face = buffers.face.reshape(-1)[buffers.pixels]
    by_weights = np.einsum("pc,pcd->pd", buffers.weights, mesh.vertices[mesh.faces[face]])
    centres = np.stack([buffers.pixels % 64, buffers.pixels // 64], axis=1) + 0.5
    by_depth = camera.unproject(centres, buffers.depth.reshape(-1)[buffers.pixels])
    np.testing.assert_allclose(by_weights, by_depth, atol=1e-9)
    np.testing.assert_allclose(np.abs(by_weights).max(axis=1), 0.5, atol=1e-9)  # on the cube


def test_only_faces_towards_the_camera_are_drawn() -> None:
    mesh = cube()
    seen = rasterise(view(45, 30), mesh.vertices, mesh.faces).face
    assert set(np.unique(seen[seen >= 0]) // 2) == {0, 2, 4}  # front, left, top
    inside_out = rasterise(view(45, 30), mesh.vertices, mesh.faces[:, ::-1]).face
    assert set(np.unique(inside_out[inside_out >= 0]) // 2) == {1, 3, 5}


def test_face_of_known_size_covers_known_pixels() -> None:
    # the front face lies at depth 3.5; its side of 1 spans 1.5 · 64 / 3.5 = 27.4 pixels about the middle
    depth = rasterise(view(0), cube().vertices, cube().faces).depth
    inside = np.isfinite(depth)
    assert np.flatnonzero(inside.any(axis=0)).tolist() == list(range(18, 46))
    np.testing.assert_allclose(depth[inside], 3.5)
    assert inside.sum() == 28 * 28


def test_neighbouring_triangles_leave_neither_gap_nor_overlap() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        angles = (np.arange(9) + rng.uniform(-0.4, 0.4, size=9)) * 2 * np.pi / 9  # a fan around the middle
        rim = np.stack([np.zeros(9), np.cos(angles), np.sin(angles)], axis=1)
        vertices = np.concatenate([np.zeros((1, 3)), rim])
        faces = np.array([[0, k, k % 9 + 1] for k in range(1, 10)], dtype=np.int32)
        each = sum(coverage(view(0, size=48), vertices, faces[k : k + 1]).astype(int) for k in range(9))
        assert each.max() == 1
        hull = coverage(view(0, size=48), vertices, faces)
        # a convex outline has no hole in any row
        for row in hull:
            covered = np.flatnonzero(row)
            assert len(covered) == 0 or len(covered) == np.ptp(covered) + 1


def test_what_is_behind_the_camera_or_outside_the_picture_is_left_out() -> None:
    for offset in ([20.0, 0, 0], [0, 50.0, 0]):
        vertices = cube().vertices + np.array(offset)
        assert (rasterise(view(0), vertices, cube().faces).face == -1).all()
        assert not coverage(view(0), vertices, cube().faces).any()


# ------------------------------------------------------------------------------------------------------ scene


def test_sharp_edges_stay_sharp_and_round_ones_are_smoothed() -> None:
    flat = np.repeat(NORMALS, 2, axis=0)[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(solid(cube()).normals, flat, atol=1e-6)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = np.concatenate([np.insert(ring, 2, -1, axis=1), np.insert(ring, 2, 1, axis=1)])
    k, n = np.arange(24), (np.arange(24) + 1) % 24
    faces = np.concatenate([np.stack([k, n, n + 24], 1), np.stack([k, n + 24, k + 24], 1)]).astype(np.int32)
    normals = solid(Mesh(vertices, faces, np.zeros((48, 3), np.float32))).normals
    radial = vertices[faces] * [1, 1, 0]
    assert (normals * radial).sum(axis=2).min() > 0.995  # flat normals would miss by 7.5°: 0.991


def test_mask_is_the_silhouette_and_pictures_repeat() -> None:
    camera = view(30, 20)
    one, two = (picture_of(cube(), camera) for _ in range(2))
    np.testing.assert_array_equal(one.rgb, two.rgb)
    assert one.rgb.shape == (64, 64, 3)
    assert one.rgb.dtype == np.uint8
    exact = coverage(camera, cube().vertices, cube().faces)
    assert (one.mask != exact).sum() <= 0.03 * exact.sum()  # two ways to treat half-covered pixels
    assert not np.array_equal(one.rgb, picture_of(cube(), camera, 1).rgb)


def test_light_comes_from_above() -> None:
    top, side = [], []
    for seed in range(8):
        picture = picture_of(cube(), view(0, 45), seed)
        face = picture.buffers.face[1::2, 1::2] // 2
        for k, values in ((4, top), (0, side)):
            values.append(picture.rgb[(face == k) & picture.mask].mean())
    assert np.mean(top) > np.mean(side) + 10


@pytest.mark.parametrize("azimuth", [0, 20, 45, 70, 90, 135, 160, 180, 225, 270, 315, 340])
def test_a_keypoint_is_visible_when_its_face_is(azimuth: float) -> None:
    camera = view(azimuth, 25)
    centres = 0.5 * NORMALS
    xy, seen = visible_points(centres, camera, picture_of(cube(), camera))
    facing = np.einsum("kd,kd->k", NORMALS, camera.position - centres)
    clear = np.abs(facing) > 0.2  # faces seen almost edge-on are a matter of taste
    np.testing.assert_array_equal(seen[clear], facing[clear] > 0)
    np.testing.assert_array_equal(np.isnan(xy[:, 0]), ~seen)
    np.testing.assert_allclose(xy[seen], camera.project(centres[seen])[0])


def test_absent_hidden_and_cut_off_keypoints_are_not_visible() -> None:
    points = [
        [np.nan] * 3,
        [0.5 - 3 * KEYPOINT_TOLERANCE, 0, 0],  # behind the surface
        [0.5 + 3 * KEYPOINT_TOLERANCE, 0, 0],  # floating before it
        [0.5, 5.0, 0],  # outside the picture
        [0.5, 1.0, 0],  # before the background
        [0.5, 0.5, 0.5],  # a corner of the face seen
    ]
    _, seen = visible_points(np.array(points), view(0), picture_of(cube(), view(0)))
    assert seen.tolist() == [False, False, False, False, False, True]


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_every_category_can_be_drawn_with_keypoints_on_it(category: str) -> None:
    instance = make_instance(category, np.random.default_rng(5))
    points = np.array([instance.keypoints[name] for name in keypoint_names(category)])
    ever = np.zeros(len(points), dtype=bool)
    for azimuth in range(0, 360, 45):
        camera = full_view(instance.mesh, azimuth + 10, 20, 4)
        picture = picture_of(instance.mesh, camera, azimuth)
        xy, seen = visible_points(points, camera, picture)
        assert 3 <= seen.sum() < len(points)
        ever |= seen
        for x, y in np.floor(xy[seen]).astype(int):
            assert picture.mask[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].any()
    present = np.isfinite(points).all(axis=1)
    assert ever[present].mean() > 0.9
    assert not ever[~present].any()


def test_wheels_are_seen_from_their_own_side_only() -> None:
    names = keypoint_names("car")
    for seed in range(4):
        instance = make_instance("car", np.random.default_rng(seed))
        points = np.array([instance.keypoints[name] for name in names])
        for azimuth, near, far in ((90, "left", "right"), (270, "right", "left")):
            camera = full_view(instance.mesh, azimuth, 15, 5)
            _, seen = visible_points(points, camera, picture_of(instance.mesh, camera))
            shown = {name for name, is_seen in zip(names, seen, strict=True) if is_seen}
            assert {f"wheel_front_{near}", f"wheel_rear_{near}"} <= shown
            assert not {f"wheel_front_{far}", f"wheel_rear_{far}"} & shown
