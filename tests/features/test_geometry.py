"""Pixels and patches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from spheremap.features.geometry import patch_centres, patch_of, pixel_box, square_box

grids = st.tuples(st.integers(1, 60), st.integers(1, 60))
sides = st.integers(1, 4000)
coordinates = st.floats(-1e4, 1e4)
boxes = st.tuples(coordinates, coordinates, st.floats(1, 5e3), st.floats(1, 5e3)).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (100, 100, [0, 0, 100, 100]),
        (100, 60, [0, -20, 100, 80]),
        (60, 100, [-20, 0, 80, 100]),
        (101, 60, [0, -20.5, 101, 80.5]),  # an odd remainder is split in halves, not rounded
        (1, 3, [-1, 0, 2, 3]),
    ],
)
def test_square_box_by_hand(width: int, height: int, box: list[float]) -> None:
    assert_array_equal(square_box(width, height), box)
    assert square_box(width, height).dtype == np.float64


@given(sides, sides)
def test_square_box_is_the_smallest_centred_square(width: int, height: int) -> None:
    x0, y0, x1, y1 = square_box(width, height)
    assert x1 - x0 == y1 - y0 == max(width, height)
    assert (x0 + x1, y0 + y1) == (width, height)
    assert x0 <= 0
    assert y0 <= 0


@pytest.mark.parametrize(
    ("width", "height", "side", "box"),
    [
        (100, 100, 100, [0, 0, 100, 100]),
        (100, 60, 120, [-10, -30, 110, 90]),
        (101, 60, 120, [-10, -30, 110, 90]),  # whole pixels: half a pixel off the middle
    ],
)
def test_pixel_box_by_hand(width: int, height: int, side: int, box: list[float]) -> None:
    assert_array_equal(pixel_box(width, height, side), box)
    assert pixel_box(width, height, side).dtype == np.float64


def test_patch_centres_by_hand() -> None:
    # 2 rows, 3 columns over x in [-10, 50], y in [0, 40]: patches of 20 x 20
    centres = patch_centres(np.array([-10.0, 0, 50, 40]), (2, 3))
    assert_array_equal(centres, [[0, 10], [20, 10], [40, 10], [0, 30], [20, 30], [40, 30]])
    assert centres.dtype == np.float64


def test_patch_of_by_hand() -> None:
    box = np.array([-10.0, 0, 50, 40])
    xy = np.array([[-10, 0], [9.999, 19.999], [10, 0], [10, 20], [49.999, 39.999], [25, 5]])
    assert_array_equal(patch_of(xy, box, (2, 3)), [0, 0, 1, 4, 5, 1])
    assert patch_of(xy, box, (2, 3)).dtype == np.int64
    assert patch_of(np.zeros((0, 2)), box, (2, 3)).shape == (0,)


def test_points_outside_go_to_the_nearest_patch() -> None:
    box = np.array([0.0, 0, 30, 20])
    xy = np.array(
        [[30, 20], [-5, -5], [100, -5], [-1, 25], [15, 1e9]]
    )  # the far edge belongs to the last patch
    assert_array_equal(patch_of(xy, box, (2, 3)), [5, 0, 2, 3, 4])


def test_whole_numbers_are_no_special_case() -> None:
    box = square_box(40, 30)
    xy = np.array([[3, 4], [39, 29], [20, 15]])
    assert_array_equal(patch_of(xy, box, (4, 4)), patch_of(xy.astype(np.float64), box, (4, 4)))
    # box [0, -5, 40, 35], patches of 10: the points are in (column, row) (0, 0), (3, 3) and (2, 2)
    assert_array_equal(patch_of(xy, box, (4, 4)), [0, 15, 10])


@given(boxes, grids)
def test_every_centre_lies_in_its_own_patch(box: np.ndarray, grid: tuple[int, int]) -> None:
    rows, columns = grid
    assert_array_equal(patch_of(patch_centres(box, grid), box, grid), np.arange(rows * columns))


@given(boxes, grids, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_a_point_lies_within_half_a_patch_of_its_centre(
    box: np.ndarray, grid: tuple[int, int], fractions: list[tuple[float, float]]
) -> None:
    size = np.array([box[2] - box[0], box[3] - box[1]])
    xy = box[:2] + np.array(fractions) * size
    centre = patch_centres(box, grid)[patch_of(xy, box, grid)]
    half = size / (grid[1], grid[0]) / 2
    assert np.all(np.abs(xy - centre) <= half + 1e-8 * (np.abs(box).max() + 1))


@given(
    st.integers(1, 50), st.integers(1, 50), st.integers(0, 7), st.integers(0, 7),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
)  # fmt: skip
def test_padding_by_whole_patches_only_shifts_indices(
    rows: int, columns: int, top: int, left: int, fractions: list[tuple[float, float]]
) -> None:
    """Points away from patch borders keep their patch, counted from the padding's corner."""
    patch = 14.0
    box = np.array([0, 0, columns * patch, rows * patch])
    padded = np.array([-left * patch, -top * patch, columns * patch, rows * patch])
    cells = np.floor(np.array(fractions) * [columns, rows] * 0.999999)
    xy = (cells + 0.1 + 0.8 * np.array(fractions)) * patch
    inner = patch_of(xy, box, (rows, columns))
    outer = patch_of(xy, padded, (rows + top, columns + left))
    assert_array_equal(inner, cells[:, 1] * columns + cells[:, 0])
    row, column = inner // columns, inner % columns
    assert_array_equal(outer, (row + top) * (columns + left) + column + left)
    centres = patch_centres(padded, (rows + top, columns + left)).reshape(rows + top, columns + left, 2)
    assert_allclose(centres[top:, left:].reshape(-1, 2), patch_centres(box, (rows, columns)), atol=1e-9)


@given(boxes, grids, coordinates, coordinates, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_moving_and_scaling_the_picture_moves_and_scales_the_centres(
    box: np.ndarray, grid: tuple[int, int], dx: float, dy: float, scale: float
) -> None:
    moved = box * scale + np.array([dx, dy, dx, dy])
    expected = patch_centres(box, grid) * scale + [dx, dy]
    assert_allclose(patch_centres(moved, grid), expected, atol=1e-6)
