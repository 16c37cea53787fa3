"""Azimuth gaps and repeated-part confusion against hand values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spheremap.data.viewpoint_bins import UNKNOWN, azimuth_gap
from spheremap.metrics.repeated_parts import lands_on_another


def test_gap_is_circular_and_unknown_stays_unknown() -> None:
    source, target = np.array([0, 0, 1, 7, UNKNOWN, 3]), np.array([0, 4, 7, 0, 2, UNKNOWN])
    assert azimuth_gap(source, target, 8).tolist() == [0, 4, 2, 1, UNKNOWN, UNKNOWN]


@given(st.integers(1, 16), st.data())
def test_gap_is_symmetric_bounded_and_the_angle_between(bins: int, data) -> None:
    a, b = (np.array([data.draw(st.integers(0, bins - 1))]) for _ in range(2))
    (gap,) = azimuth_gap(a, b, bins)
    assert gap == azimuth_gap(b, a, bins)[0] <= bins // 2
    angle = math.acos(max(-1, min(1, math.cos(2 * math.pi * (a[0] - b[0]) / bins))))
    assert gap * 2 * math.pi / bins == pytest.approx(angle, abs=1e-6)


def test_confusion_by_hand() -> None:
    nan = [np.nan, np.nan]
    landmarks = np.array([[[0.0, 0], [10, 0], nan]] * 5)  # the own keypoint is the first
    predicted = np.array([[1.0, 0], [9, 0], [5, 0], [12, 0], [8, 0]])

    def confused(radius: float, right: list[int]) -> list[int]:
        whether = np.array(right, dtype=bool)[:, None]
        return lands_on_another(predicted, landmarks, np.full((5, 1), radius), whether)[:, 0].tolist()

    # right; on the other; on neither; on the other's circle; likewise
    assert confused(2.0, [1, 0, 0, 0, 0]) == [0, 1, 0, 0, 0]
    # near both: what is right is not confused
    assert confused(7.0, [1, 0, 1, 0, 0]) == [0, 1, 0, 1, 1]


def test_a_target_with_one_keypoint_has_nothing_to_confuse() -> None:
    found = lands_on_another(
        np.array([[50.0, 0]]), np.array([[[0.0, 0]]]), np.array([[5.0, 1.0]]), np.zeros((1, 2), bool)
    )
    assert found.tolist() == [[False, False]]
