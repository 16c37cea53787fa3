"""Keypoint average precision against hand values and plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spheremap.metrics.answers import Answers
from spheremap.metrics.kap import (
    Inside,
    RankedScores,
    extremes,
    inside_radius,
    normalise,
    statistic,
)

NONE = -np.inf


def average_precision(scores: np.ndarray, positives: np.ndarray) -> float:
    """Of scores that all come from one pair."""
    return float(
        RankedScores(scores, positives, np.zeros(len(scores), int)).average_precision(np.ones((1, 1)))[0]
    )


def kap(positive, negative, category, pair, weights=None) -> dict[str, list[float]]:
    """KAP of scores `(Q,)` at one radius, for weights `(b, P)` of their pairs, with `category` `(P,)`."""
    nothing = np.zeros((0, 1), dtype=bool)
    none = np.zeros(len(pair), dtype=bool)
    answers = Answers(
        category, pair, none, nothing, nothing, none[:0], none[:0], none[:0], positive[None], negative[None]
    )
    values = statistic(answers)(np.ones((1, len(category))) if weights is None else weights)
    return {name: own[:, 0].tolist() for name, own in values.items()}


def slow_average_precision(scores: list[float], positives: list[bool]) -> float:
    """The definition: at every distinct threshold, precision times the gain of recall."""
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        retrieved = [
            positive for score, positive in zip(scores, positives, strict=True) if score >= threshold
        ]
        recall = sum(retrieved) / sum(positives)
        area += (recall - recall_before) * sum(retrieved) / len(retrieved)
        recall_before = recall
    return area


@pytest.mark.parametrize(
    ("scores", "positives", "expected"),
    [
        ([0.9, 0.8, 0.7], [1, 1, 0], 1.0),
        ([0.9, 0.8, 0.7], [0, 1, 1], (1 / 2 + 2 / 3) / 2),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], (1 + 2 / 3) / 2),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 0.25),  # all enter together
        ([0.9, 0.5, 0.5], [0, 1, 0], 1 / 3),
        ([0.2], [1], 1.0),
        ([0.0, 1.0], [1, 0], 0.5),
    ],
)
def test_average_precision_by_hand(scores, positives, expected) -> None:
    assert average_precision(np.array(scores), np.array(positives, dtype=bool)) == pytest.approx(expected)


def test_average_precision_without_positives_is_undefined() -> None:
    assert math.isnan(average_precision(np.array([0.5]), np.array([False])))
    nothing = RankedScores(np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64))
    assert np.isnan(nothing.average_precision(np.ones((3, 2)))).all()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]) | st.floats(0, 1), st.booleans())),
    st.randoms(),
)
def test_average_precision_equals_its_definition_in_any_order(items, random) -> None:
    items.append((0.4, True))
    expected = slow_average_precision([score for score, _ in items], [positive for _, positive in items])
    random.shuffle(items)
    scores, positives = zip(*items, strict=True)
    assert average_precision(np.array(scores), np.array(positives)) == pytest.approx(expected)


def test_inside_is_closer_than_the_radius_or_nearest() -> None:
    points = np.array([[0.0, 0], [10, 0], [20, 0], [30, 0]])
    xy = np.array([[9.0, 0], [15, 0], [np.nan, np.nan], [100, 0]])
    found = inside_radius(xy, points, (9.5, 1.0, 11.0))
    assert found.shape == (3, 4, 4)
    # first keypoint: distances 9, 1, 11, 21; at radius 1 nothing is closer, at 11 one lies on the circle
    assert found[:, 0].tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]
    # second: a tie of the nearest, the first of which counts
    assert found[:, 1].tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert not found[:, 2].any()  # hidden in the target
    assert found[:, 3].tolist() == [[0, 0, 0, 1]] * 3  # far away, but one patch is nearest


def test_extremes_by_hand() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1], [-1.0, -2.0, -3.0]])
    inside = torch.tensor(
        [[[1, 0, 0], [0, 0, 0], [1, 1, 1]], [[1, 1, 0], [0, 0, 0], [0, 0, 1]]], dtype=torch.bool
    )
    positive, negative = extremes(similarity, similarity.amax(1), Inside.of(inside.numpy()))
    torch.testing.assert_close(positive, torch.tensor([[0.1, NONE, -1.0], [0.9, NONE, -3.0]]))
    torch.testing.assert_close(negative, torch.tensor([[0.9, 0.3, NONE], [0.5, 0.3, -1.0]]))


def dense_extremes(similarity: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `(R, N)` by masks `(A, R, N)`."""
    positive = [torch.where(mask, similarity, NONE).amax(dim=1) for mask in inside]
    negative = [torch.where(mask, NONE, similarity).amax(dim=1) for mask in inside]
    return torch.stack(positive), torch.stack(negative)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_extremes_equal_the_dense_ones(seed: int, radii: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    keypoints, rows, patches = 4, 9, 11
    inside = rng.random((radii, keypoints, patches)) < share  # also none and all
    similarity = torch.from_numpy(rng.integers(-3, 4, (rows, patches)) / 4)
    keypoint = torch.from_numpy(rng.integers(0, keypoints, rows))
    before = similarity.clone()
    found = extremes(similarity, similarity.amax(1), Inside.of(inside).rows(keypoint, "cpu"))
    expected = dense_extremes(similarity, torch.from_numpy(inside)[:, keypoint])
    for own, dense in zip(found, expected, strict=True):
        torch.testing.assert_close(own, dense, rtol=0, atol=0)
    assert torch.equal(similarity, before)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_ranked_scores_equal_scores_repeated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score, positive = rng.integers(0, 6, 12) / 5, rng.random(12) < 0.4
    pair, times = rng.integers(0, 4, 12), rng.integers(0, 3, (5, 4)).astype(np.float64)
    times[0] = 1
    found = RankedScores(score, positive, pair).average_precision(times)
    for own, value in zip(times[:, pair].astype(int), found, strict=True):
        expected = average_precision(np.repeat(score, own), np.repeat(positive, own))
        assert value == pytest.approx(expected, nan_ok=True)


def test_normalisation_is_per_pair_over_all_rows() -> None:
    first = np.array([0, 2, 3])
    low, high = np.array([-1.0, 0.0, 0.5]), np.array([1.0, 3.0, 0.5])
    found = normalise(np.array([[1.0, 3.0, 0.5], [NONE, 0.0, NONE]]), low, high, first)
    assert found.tolist() == [[0.5, 1.0, 0.0], [NONE, 0.25, NONE]]  # the second pair is flat


def test_kap_by_hand() -> None:
    # a: positive 0.9, negatives 0.5 and 0.95 -> 1/2; b: positive above its negative -> 1; c: no positive
    positive = np.array([0.9, NONE, 0.8, NONE])
    negative = np.array([0.5, 0.95, 0.1, 0.7])
    category = np.array(["a", "a", "b", "c"], dtype=object)
    weights = np.vstack([np.ones(4), category == "a", category == "b", category == "c"]).astype(float)
    found = kap(positive, negative, category, np.arange(4), weights)
    nan = float("nan")
    assert found["kap"] == pytest.approx([75, 50, 100, nan], nan_ok=True)
    # c has no value
    assert found["kap_pair"] == pytest.approx([(2 * 50 + 100) / 3, 50, 100, nan], nan_ok=True)


def test_a_radius_over_all_patches_leaves_no_negative() -> None:
    found = kap(np.array([0.2]), np.array([NONE]), np.array(["a"], dtype=object), np.array([0]))
    assert found["kap"] == [100]
