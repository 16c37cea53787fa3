"""One pass over all pairs that keeps, of every similarity map, only what the metrics need."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spheremap.base.progress import progress
from spheremap.config.scoring import KapLabels
from spheremap.features.geometry import Grid, patch_centres
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.method import Method
from spheremap.methods.engine.queries import Queries
from spheremap.methods.engine.readout import Readout, best_patch, place
from spheremap.metrics.answers import Floats
from spheremap.metrics.kap import Inside, inside_radius, normalise, sparse_extremes
from spheremap.metrics.ruler import Ruler


@dataclass(frozen=True)
class Measured:
    """What a method answered to Q queries; KAP scores at A radii. NaN marks what was not measured."""

    predicted: Floats  # (Q, 2) in original target pixels
    positive: Floats  # (A, Q) normalised score, -inf where there is none
    negative: Floats  # (A, Q)
    low: Floats  # (Q,) lowest similarity
    high: Floats  # (Q,) highest

    @classmethod
    def nothing(cls, queries: int, alphas: int) -> "Measured":
        """Arrays to be filled."""
        shapes = ((queries, 2), (alphas, queries), (alphas, queries), (queries,), (queries,))
        return cls(*(np.full(shape, np.nan) for shape in shapes))

    def finish(self, first: NDArray[np.int64]) -> None:
        """Normalise the scores pair by pair, of which the rows begin at `first` `(P + 1,)`."""
        for name in ("predicted", "positive", "negative"):
            assert not np.isnan(getattr(self, name)).any(), f"a query was left without {name}"
        for scores in (self.positive, self.negative):
            scores[:] = normalise(scores, self.low, self.high, first)


def measure(
    comparison: Comparison,
    methods: Mapping[str, Method],
    queries: Queries,
    ruler: Ruler,
    alphas: tuple[float, ...],
    readout: Readout,
    kap_labels: KapLabels,
) -> dict[str, Measured]:
    """Match all queries with every method.

    Args:
        comparison: of these methods.
        methods: by name.
        alphas: A radii as shares of the ruler's sides.
        readout: how a prediction is read from a similarity map, by methods that have no way of their own.
        kap_labels: which point of a patch KAP measures distances from.
    """
    count, grid, pair = len(queries.patch), comparison.cache.grid, queries.pair
    measured = {name: Measured.nothing(count, len(alphas)) for name in methods}
    with progress(total=count, desc="matching", unit="keypoints") as bar:
        for block in comparison.blocks(queries):
            own, box = block.queries, comparison.cache.boxes[block.target]
            # all pairs of a block share the target: equal ids are equal places, and one ruler serves them all
            _, first, keypoint = np.unique(queries.keypoint_id[own], return_index=True, return_inverse=True)
            scale, side = ruler.scale[pair[own.start]], ruler.side[pair[own.start]]
            inside = inside_radius(
                queries.xy[own][first] * scale,
                _labels(box, grid, kap_labels) * scale,
                tuple(side * alpha for alpha in alphas),
            )
            near = Inside.of(inside).rows(torch.from_numpy(keypoint), comparison.device)
            for name, method in methods.items():
                similarity, to = method.compare(block), measured[name]
                best = best_patch(similarity)
                highest = similarity.gather(1, best.unsqueeze(1)).squeeze(1)
                to.predicted[own] = place(method.read(similarity, best, grid, readout), box, grid)
                to.low[own] = similarity.amin(dim=1).cpu().numpy()
                to.high[own] = highest.cpu().numpy()
                best_inside, best_outside = sparse_extremes(similarity, highest, near)
                to.positive[:, own] = best_inside.cpu().numpy()
                to.negative[:, own] = best_outside.cpu().numpy()
            bar.update(own.stop - own.start)
    for answers in measured.values():
        answers.finish(queries.first)
    return measured


def _labels(box: NDArray[np.float64], grid: Grid, kap_labels: KapLabels) -> NDArray[np.float64]:
    """Where patches are taken to be `(N, 2)`: their centres or their upper left corners."""
    centres = patch_centres(box, grid)
    if kap_labels == "centre":
        return centres
    rows, columns = grid
    return centres - np.array([(box[2] - box[0]) / columns, (box[3] - box[1]) / rows]) / 2
