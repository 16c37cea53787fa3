"""Bootstrap: how much a score would vary had other pictures, or other pairs, been drawn.

Scores of several methods on the same samples can be subtracted: the paired bootstrap (Efron, 1979).

*By pairs*, a sample draws as many pairs as there are, with replacement, and counts each as often as it was
drawn. But a picture recurs in many pairs, which rise and fall with it: such intervals are far too narrow
for other pictures.

*By clusters*, units are drawn, with replacement among those of the same category: objects, where the tables
know which pictures show the same one, else pictures. The pigeonhole bootstrap (Owen, "The pigeonhole
bootstrap", 2007) counts a pair as often as its source's unit was drawn times as often as its target's. What
is particular to a pair then counts three times over, and the intervals are too wide where that is much. Here
the weights are damped to (1 + c)(1 + c'), which halves deviations, and deviations are doubled: the effects of
units count as they should, the rest 2.25 times. With n units per category deviations further are scaled by
√(n(n − 1)) / (n − 2), since drawing takes the mean of few units for the truth and a unit has no pairs with
itself, and by what Student's t has over the normal distribution. tests/metrics/test_bootstrap.py measures how
often the truth is held; where pictures differ little and pairs are few, it is more often than said.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.base.progress import progress
from spheremap.config.scoring import Resample
from spheremap.metrics.answers import Floats, Statistic

Key = TypeVar("Key", bound=Hashable)
# objects per category that can be drawn from: with fewer, pictures are; units that an interval can come from
FEWEST = 3


@dataclass(frozen=True)
class Pairs:
    """P pairs, each drawn on its own."""

    count: int
    unit = "pairs"
    spread = 1.0  # what deviations are scaled by

    def units(self, pairs: NDArray[np.int64]) -> int:
        """How many units some pairs are of."""
        return len(pairs)

    def draw(self, generator: np.random.Generator, samples: int) -> Floats:
        """Weights `(samples, P)` of the pairs."""
        drawn = generator.integers(0, self.count, size=(samples, self.count))
        return _counts(drawn, self.count)


@dataclass(frozen=True)
class Clusters:
    """P pairs of units.

    Attributes:
        source, target: `(P,)` units of each pair, from 0.
        strata: the units of each category.
        unit: what they are, in words.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    strata: list[NDArray[np.int64]]
    unit: str

    @property
    def spread(self) -> float:
        """What deviations are scaled by."""
        units = sum(map(len, self.strata))
        each, freedom = units / len(self.strata), max(units - len(self.strata), 1)
        few = np.sqrt(each * max(each - 1, 1)) / max(each - 2, 1) * (1 + 1.2 / freedom)
        return float(2 * few)

    def units(self, pairs: NDArray[np.int64]) -> int:
        """How many units some pairs are of."""
        return len(np.union1d(self.source[pairs], self.target[pairs]))

    def draw(self, generator: np.random.Generator, samples: int) -> Floats:
        """Weights `(samples, P)` of the pairs: whole numbers."""
        times = np.empty((samples, sum(map(len, self.strata))))
        for units in self.strata:
            drawn = generator.integers(0, len(units), size=(samples, len(units)))
            times[:, units] = _counts(drawn, len(units))
        times += 1
        return times[:, self.source] * times[:, self.target]


def clusters(images: pd.DataFrame, source: NDArray[np.object_], target: NDArray[np.object_]) -> Clusters:
    """The units of pairs of images.

    Args:
        images: columns image_id, category and instance.
        source, target: `(P,)` image ids.
    """
    own = images[images["image_id"].isin({*source, *target})].set_index("image_id")
    objects = own["category"] + "/" + own["instance"]
    unit, named = objects, "objects"
    few = (objects.groupby(own["category"]).nunique() < FEWEST).any()
    if few or objects.is_unique:
        unit, named = pd.Series(own.index, index=own.index), "pictures"
    codes, _ = pd.factorize(unit, sort=True)
    category = pd.Series(own["category"].to_numpy(), index=codes).groupby(level=0).first()
    strata = [category.index[category == name].to_numpy() for name in sorted(category.unique())]
    code = pd.Series(codes, index=own.index)
    return Clusters(code[list(source)].to_numpy(), code[list(target)].to_numpy(), strata, named)


def design_of(
    resample: Resample, images: pd.DataFrame, source: NDArray[np.object_], target: NDArray[np.object_]
) -> Pairs | Clusters:
    """What samples of pairs of images draw: pairs, or `clusters`, whose arguments the others are."""
    return Pairs(len(source)) if resample == "pairs" else clusters(images, source, target)


def draws(design: Pairs | Clusters, samples: int, seed: int, batch: int = 32) -> Iterator[Floats]:
    """Weights of the pairs: `samples` rows, `(b, P)` at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, batch):
        yield design.draw(generator, min(batch, samples - start))


def resample(
    statistics: Mapping[Key, Statistic], design: Pairs | Clusters, samples: int, seed: int
) -> dict[Key, dict[str, Floats]]:
    """All metrics `(samples, A)` of samples of the pairs, by key: the same samples for every one."""
    found: dict[Key, dict[str, list[Floats]]] = {key: {} for key in statistics}
    with progress(total=samples, desc="bootstrap", unit="samples") as bar:
        for weights in draws(design, samples, seed):
            for key, statistic in statistics.items():
                for metric, values in statistic(weights).items():
                    found[key].setdefault(metric, []).append(values)
            bar.update(len(weights))
    return {key: {metric: np.concatenate(of) for metric, of in own.items()} for key, own in found.items()}


def interval(exact: Floats, samples: Floats, confidence: float, spread: float = 1.0) -> tuple[Floats, Floats]:
    """Lower and upper end `(A,)` of the percentile interval of samples `(B, A)`, undefined ones left out.

    Args:
        exact: `(A,)` the score itself, from which samples deviate.
        confidence: share of the samples inside, such as 0.95.
        spread: what their deviations are scaled by.
    """
    tail = (1 - confidence) / 2
    some = ~np.isnan(samples).all(axis=0)
    ends = np.full((2, samples.shape[1]), np.nan)
    ends[:, some] = np.nanquantile(samples[:, some], [tail, 1 - tail], axis=0)
    low, high = exact + spread * (ends - exact)
    return low, high


def _counts(drawn: NDArray[np.int64], of: int) -> Floats:
    """How often each of `of` numbers stands in each row."""
    offset = drawn + of * np.arange(len(drawn))[:, None]
    return np.bincount(offset.ravel(), minlength=len(drawn) * of).reshape(len(drawn), of).astype(np.float64)
