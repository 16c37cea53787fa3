"""Bootstrap over image pairs: how much a score would vary had other pairs been drawn (Efron, 1979).

A sample draws as many pairs as there are, with replacement; a score of it counts each pair as often as it was
drawn. Scores of several methods on the same samples can be subtracted: the paired bootstrap. Pairs share
images and are not quite independent, so that the intervals are somewhat too narrow for new ones.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from spheremap.base.progress import progress
from spheremap.metrics.answers import Floats, Statistic


def draws(pairs: int, samples: int, seed: int, batch: int = 32) -> Iterator[Floats]:
    """How often each of P pairs is drawn: `samples` rows, `(b, P)` at a time, the same for any `batch`."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, batch):
        count = min(batch, samples - start)
        drawn = generator.integers(0, pairs, size=(count, pairs))
        drawn += pairs * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * pairs).reshape(count, pairs).astype(np.float64)


def resample(
    statistics: Mapping[str, Statistic], pairs: int, samples: int, seed: int
) -> dict[str, dict[str, Floats]]:
    """All metrics `(samples, A)` of samples of the pairs, by method: the same samples for every one."""
    found: dict[str, dict[str, list[Floats]]] = {name: {} for name in statistics}
    with progress(total=samples, desc="bootstrap", unit="samples") as bar:
        for weights in draws(pairs, samples, seed):
            for name, statistic in statistics.items():
                for metric, values in statistic(weights).items():
                    found[name].setdefault(metric, []).append(values)
            bar.update(len(weights))
    return {name: {metric: np.concatenate(of) for metric, of in own.items()} for name, own in found.items()}


def interval(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper end `(A,)` of the percentile interval of samples `(B, A)`, undefined ones left out.

    Args:
        confidence: share of the samples inside, such as 0.95.
    """
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0)
    return low, high
