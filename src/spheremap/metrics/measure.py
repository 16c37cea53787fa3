"""One pass over all pairs that keeps, of every similarity map, only what the metrics need."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.progress import progress
from spheremap.config.scoring import Candidates, KapLabels
from spheremap.features.geometry import Grid, patch_centres, patches_of_picture
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.method import Method
from spheremap.methods.engine.queries import Queries
from spheremap.methods.engine.readout import Readout, best_patch, place
from spheremap.metrics.answers import DECIMALS, Floats
from spheremap.metrics.kap import MISSING, Inside, extremes, inside_radius, normalise
from spheremap.metrics.thresholds import Thresholds


@dataclass(frozen=True)
class Measured:
    """What a method answered to Q questions; KAP scores at A radii, None where similarities are not known."""

    predicted: Floats  # (Q, 2) in original target pixels, rounded; NaN: no answer
    positive: Floats | None = None  # (A, Q) normalised score, -inf where there is none
    negative: Floats | None = None  # (A, Q)


@dataclass(frozen=True)
class Measuring:
    """The same while it is measured. NaN marks what was not measured yet."""

    predicted: Floats
    positive: Floats  # (A, Q) as similarities are
    negative: Floats
    low: Floats  # (Q,) lowest similarity
    high: Floats  # (Q,) highest

    @classmethod
    def nothing(cls, queries: int, alphas: int) -> "Measuring":
        """Arrays to be filled."""
        shapes = ((queries, 2), (alphas, queries), (alphas, queries), (queries,), (queries,))
        return cls(*(np.full(shape, np.nan) for shape in shapes))

    def take(
        self, own: slice | NDArray[np.int64], similarity: Tensor, barred: Tensor, near: Inside
    ) -> tuple[Tensor, Tensor]:
        """Keep what scores need of the similarities `(R, N)` of some queries, but for places.

        Args:
            own: which queries.
            barred: `(N,)` patches that are no candidates.
            near: the patches inside the radii about them.

        Returns:
            The similarities, MISSING where they are barred, and the most similar patch `(R,)`.
        """
        self.low[own] = similarity.masked_fill(barred, torch.inf).amin(dim=1).cpu().numpy()
        similarity = similarity.masked_fill(barred, MISSING)
        best = best_patch(similarity)
        highest = similarity.gather(1, best.unsqueeze(1)).squeeze(1)
        self.high[own] = highest.cpu().numpy()
        inside, outside = extremes(similarity, highest, near)
        self.positive[:, own], self.negative[:, own] = inside.cpu().numpy(), outside.cpu().numpy()
        return similarity, best

    def finish(self, first: NDArray[np.int64]) -> Measured:
        """Normalise the scores pair by pair, of which the rows begin at `first` `(P + 1,)`."""
        for name, values in vars(self).items():
            assert not np.isnan(values).any(), (
                f"a method's similarities or places are not numbers: {name} is NaN"
            )
        scores = (normalise(own, self.low, self.high, first) for own in (self.positive, self.negative))
        # as they are published, so that who reads them scores the same
        return Measured(self.predicted.round(DECIMALS), *scores)


def measure(
    comparison: Comparison,
    methods: Mapping[str, Method],
    queries: Queries,
    thresholds: Thresholds,
    alphas: tuple[float, ...],
    readout: Readout,
    kap_labels: KapLabels,
    candidates: Candidates = "all",
) -> dict[str, Measured]:
    """Match all queries with every method.

    Args:
        comparison: of these methods.
        methods: by name.
        alphas: A radii as shares of the thresholds' sides.
        readout: how a prediction is read from a similarity map, by methods that have no way of their own.
        kap_labels: which point of a patch KAP measures distances from.
        candidates: "all" patches, or those "inside" the picture: KAP leaves out the others, too.
    """
    count, grid, pair = len(queries.patch), comparison.cache.grid, queries.pair
    measured = {name: Measuring.nothing(count, len(alphas)) for name in methods}
    with progress(total=count, desc="matching", unit="keypoints") as bar:
        for block in comparison.blocks(queries):
            own, box = block.queries, comparison.cache.boxes[block.target]
            # all pairs of a block share the target: equal ids are equal places at equal thresholds
            _, first, keypoint = np.unique(queries.keypoint_id[own], return_index=True, return_inverse=True)
            scale, side = thresholds.scale[pair[own.start]], thresholds.side[pair[own.start]]
            outside = outside_of(box, grid, candidates)
            inside = inside_radius(
                queries.xy[own][first] * scale,
                patch_labels(box, grid, kap_labels, outside) * scale,
                tuple(side * alpha for alpha in alphas),
            )
            barred = torch.from_numpy(outside).to(comparison.device)
            near = Inside.of(inside).rows(torch.from_numpy(keypoint), comparison.device)
            for name, method in methods.items():
                to = measured[name]
                similarity, best = to.take(own, method.compare(block), barred, near)
                to.predicted[own] = place(method.read(similarity, best, grid, readout), box, grid)
            bar.update(own.stop - own.start)
    return {name: answers.finish(queries.first) for name, answers in measured.items()}


def outside_of(box: NDArray[np.float64], grid: Grid, candidates: Candidates) -> NDArray[np.bool_]:
    """Patches `(N,)` that are no candidates; the box of a whole picture is centred on it."""
    if candidates == "all":
        return np.zeros(grid[0] * grid[1], dtype=bool)
    return ~patches_of_picture(box, grid, box[:2] + box[2:])


def patch_labels(
    box: NDArray[np.float64], grid: Grid, kap_labels: KapLabels, outside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Where patches are taken to be `(N, 2)`: centres or upper left corners; those `outside` nowhere near."""
    labels = patch_centres(box, grid)
    if kap_labels == "corner":
        rows, columns = grid
        labels -= np.array([(box[2] - box[0]) / columns, (box[3] - box[1]) / rows]) / 2
    labels[outside] = np.inf
    return labels
