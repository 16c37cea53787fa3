"""PCK against hand values and plain loops."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 300), st.integers(0, 5)), min_size=1
    ),
    st.randoms(),
)
def test_averages_equal_plain_loops_in_any_order(points, random) -> None:
    alphas = (0.1, 0.05, 0.01)
    expected = []
    for alpha in alphas:
        hits = [(math.sqrt(x * x + y * y) < side * alpha, pair) for x, y, side, pair in points]
        by_pair: dict[int, list[bool]] = {}
        by_category: dict[int, list[bool]] = {}
        for hit, pair in hits:
            by_pair.setdefault(pair, []).append(hit)
            by_category.setdefault(pair % 2, []).append(hit)
        groups = (
            mean([hit for hit, _ in hits]),
            mean([mean(values) for values in by_pair.values()]),
            mean([mean(values) for values in by_category.values()]),
        )
        expected.append([100 * value for value in groups])
    random.shuffle(points)
    x, y, side, pair = np.array(points).T
    right = correct(distances(np.stack([x, y], axis=1), np.zeros((len(x), 2))), radii(side, alphas))
    labels = np.arange(6)
    found = averages(right, pair.astype(int), (labels % 2).astype(object))
    np.testing.assert_allclose(np.concatenate(list(found.values())).T, expected)
