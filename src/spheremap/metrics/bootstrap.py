"""Bootstrap over image pairs: how much a score would vary had other pairs been drawn (Efron, 1979).

A sample draws as many pairs as there are, with replacement; a score of it counts each pair as often as it was
drawn. Scores of several rows on the same samples can be subtracted: the paired bootstrap. Pairs share images
and are not quite independent, so that the intervals are somewhat too narrow as a statement on new images.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def draws(pairs: int, samples: int, seed: int, batch: int = 32) -> Iterator[Floats]:
    """How often each of P pairs is drawn: `samples` rows, `(b, P)` at a time, the same for any `batch`."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, batch):
        count = min(batch, samples - start)
        drawn = generator.integers(0, pairs, size=(count, pairs))
        drawn += pairs * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * pairs).reshape(count, pairs).astype(np.float64)


def pooled(times: Floats, part: Floats, whole: Floats) -> Floats:
    """Percent `(b, A)` of what P pairs hold in all: `part` `(P, A)` of `whole` `(P,)`; NaN of nothing."""
    return percent_of(times @ part, times @ whole)


def per_pair(times: Floats, part: Floats, whole: Floats) -> Floats:
    """Mean over pairs of their own percentages `(b, A)`; pairs with nothing do not count."""
    share = np.divide(part, whole[:, None], out=np.zeros_like(part), where=whole[:, None] > 0)
    return percent_of(times @ share, times @ (whole > 0).astype(np.float64))


def macro(values: Sequence[Floats], weights: Sequence[Floats] | None = None) -> Floats:
    """Mean over groups of `(b, …)` values where they are defined, by weights `(b,)` if given; else NaN."""
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    by = np.ones_like(stacked) if weights is None else np.broadcast_to(_like(weights, stacked), stacked.shape)
    by = np.where(defined, by, 0.0)
    total = by.sum(axis=0)
    summed = (np.where(defined, stacked, 0.0) * by).sum(axis=0)
    return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)


def percent_of(part: Floats, whole: Floats) -> Floats:
    """`100 part / whole`, `(b, A)` of `(b,)`; NaN where the whole is zero."""
    whole = np.broadcast_to(whole[:, None], part.shape)
    return 100 * np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def interval(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper end `(A,)` of the percentile interval of samples `(B, A)`, undefined ones left out.

    Args:
        confidence: share of the samples inside, such as 0.95.
    """
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0)
    return low, high


def _like(weights: Sequence[Floats], values: Floats) -> Floats:
    stacked = np.stack(weights)
    return stacked.reshape(stacked.shape + (1,) * (values.ndim - stacked.ndim))
