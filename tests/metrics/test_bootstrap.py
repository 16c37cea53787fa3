"""Whether intervals hold the truth as often as they say, where pictures recur in many pairs."""

import numpy as np
import pandas as pd
import pytest

from spheremap.metrics import pck
from spheremap.metrics.bootstrap import Clusters, Pairs, clusters, draws, interval, resample

CATEGORIES, POINTS = 4, 8


def test_draws_take_as_many_pairs_as_there_are_in_any_batches() -> None:
    whole = np.concatenate(list(draws(Pairs(13), 50, seed=3, batch=50)))
    parts = np.concatenate(list(draws(Pairs(13), 50, seed=3, batch=7)))
    np.testing.assert_array_equal(whole, parts)
    assert (whole.sum(axis=1) == 13).all()
    expected = [np.bincount(d, minlength=13) for d in np.random.default_rng(3).integers(0, 13, (50, 13))]
    np.testing.assert_array_equal(whole, expected)


def images(objects: list[str]) -> pd.DataFrame:
    ids = [f"{name[0]}/{i}" for i, name in enumerate(objects)]
    return pd.DataFrame({"image_id": ids, "category": [name[0] for name in objects], "instance": objects})


def test_objects_are_drawn_where_they_are_known_within_their_category() -> None:
    table = images(["a1", "a1", "a2", "a3", "b1", "b2", "b2", "b3"])
    names = table["image_id"].to_numpy(dtype=object)
    source, target = names[[0, 1, 2, 4, 5]], names[[2, 3, 3, 6, 7]]
    design = clusters(table, source, target)
    assert design.unit == "objects"
    assert [own.tolist() for own in design.strata] == [[0, 1, 2], [3, 4, 5]]
    weights = np.concatenate(list(draws(design, 200, seed=0)))
    generator = np.random.default_rng(0)
    for at in range(0, 200, 32):
        size = min(32, 200 - at), 3
        a, b = (generator.integers(0, 3, size) for _ in range(2))
        times = np.array(
            [[1 + (own[i] == k).sum() for own in (a, b) for k in range(3)] for i in range(size[0])]
        )
        expected = times[:, [0, 0, 1, 3, 4]] * times[:, [1, 2, 2, 4, 5]]
        np.testing.assert_array_equal(weights[at : at + 32], expected)
    few = images(["a1", "a1", "a2", "a2", "b1", "b1", "b2", "b2"])
    assert clusters(few, few["image_id"].to_numpy()[:3], few["image_id"].to_numpy()[3:6]).unit == "pictures"
    lone = images([*(f"a{i}" for i in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)), "b1", "b1"])  # of one category only
    assert clusters(lone, *(lone["image_id"].to_numpy(dtype=object)[i:] for i in (0, 0))).unit == "pictures"
    each = images(list("aaaaabbbbb"))
    each["instance"] = each["image_id"]
    ids = each["image_id"].to_numpy(dtype=object)
    assert clusters(each, ids[:4], ids[1:5]).unit == "pictures"


def simulate(rng: np.random.Generator, units: int, views: int, pairs: int, share: float):
    """Pairs of pictures of different objects: points right by chance, and by effects of both sides' objects.

    Returns:
        Whether points are right `(P, 1)` in sum, and the units `(P,)` of sources and targets; half are right.
    """
    every = CATEGORIES * units
    effects = rng.uniform(-share, share, size=(2, every)) * np.sqrt(3)
    source, target = (np.repeat(np.arange(CATEGORIES) * units, pairs) for _ in range(2))
    first = rng.integers(0, units, CATEGORIES * pairs)
    source, target = source + first, target + (first + rng.integers(1, units, len(first))) % units
    level = np.repeat(np.linspace(-0.1, 0.1, CATEGORIES), pairs)
    right = rng.binomial(POINTS, 0.5 + level + effects[0, source] + effects[1, target])
    return right[:, None].astype(np.float64), source, target


@pytest.mark.parametrize(
    ("units", "pairs", "share"),
    [(5, 160, 0.08), (27, 680, 0.1)],
    ids=["few objects, as in shapes", "pictures, as in SPair-71k"],
)
def test_intervals_by_clusters_hold_the_truth_as_often_as_they_say(
    units: int, pairs: int, share: float
) -> None:
    rng = np.random.default_rng(0)
    held = {"clusters": 0, "pairs": 0}
    strata = list(np.arange(CATEGORIES * units).reshape(CATEGORIES, units))
    for trial in range(500):
        right, source, target = simulate(rng, units, 1, pairs, share)
        points = np.full(len(right), float(POINTS))
        designs = {"clusters": Clusters(source, target, strata, "objects"), "pairs": Pairs(len(right))}
        exact = pck.per_point(right, points, np.ones((1, len(right))))[0]
        for name, design in designs.items():
            if name == "pairs" and trial >= 60:
                continue
            values = {"": lambda weights: {"": pck.per_point(right, points, weights)}}  # noqa: B023
            samples = resample(values, design, 160, seed=trial)[""][""]
            low, high = interval(exact, samples, 0.95, design.spread)
            held[name] += low[0] <= 50 <= high[0]
    assert 0.93 <= held["clusters"] / 500 <= 0.97, held
    assert held["pairs"] / 60 < 0.85, held  # a picture's pairs are not as many witnesses
