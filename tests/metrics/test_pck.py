"""PCK against hand values and plain loops."""

import math

import numpy as np

from spheremap.metrics.answers import Answers
from spheremap.metrics.pck import correct, distances, radii, statistic


def test_distance_and_radius_by_hand() -> None:
    found = distances(np.array([[3.0, 4.0], [1.0, 1.0]]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert found.tolist() == [5.0, 0.0]
    np.testing.assert_allclose(radii(np.array([100.0, 20.0]), (0.1, 0.05)), [[10, 5], [2, 1]])


def test_a_point_on_the_circle_is_wrong() -> None:
    sides = np.array([100.0, 100.0, 0.0])  # in a box without extent nothing is right
    right = correct(np.array([10.0, math.nextafter(10.0, 0), 0.0]), radii(sides, (0.1,)))
    assert right.tolist() == [[False], [True], [False]]


def averages(
    right: np.ndarray, pair: np.ndarray, category: np.ndarray, weights=None
) -> dict[str, np.ndarray]:
    """PCK of points `(Q, A)` by label of their pairs `(Q,)`, in P pairs with `category` `(P,)`."""
    some = np.ones(len(right), dtype=bool)
    answers = Answers(category, pair, some, right, right, some, some, some, None, None)
    return statistic(answers)(np.ones((1, len(category))) if weights is None else weights)


def test_the_three_averages_by_hand() -> None:
    # category a: pair 0 has 1 of 4, pair 1 has 1 of 1; category b: pair 2 has 0 of 1; pair 3 has no point
    right = np.array([[True], [False], [False], [False], [True], [False]])
    pair, category = np.array([0, 0, 0, 0, 1, 2]), np.array(["a", "a", "b", "b"], dtype=object)
    weights = np.array([[1.0, 1, 1, 1], [0, 2, 1, 1], [0, 0, 0, 1]])
    found = averages(right, pair, category, weights)
    np.testing.assert_allclose(found["pck_point"][:, 0], [100 * 2 / 6, 100 * 2 / 3, np.nan])
    np.testing.assert_allclose(found["pck_image"][:, 0], [100 * (1 / 4 + 1 + 0) / 3, 100 * 2 / 3, np.nan])
    np.testing.assert_allclose(found["pck_category"][:, 0], [100 * (2 / 5 + 0) / 2, 100 / 2, np.nan])
