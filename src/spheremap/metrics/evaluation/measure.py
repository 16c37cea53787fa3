"""One pass over all pairs that keeps, of every similarity map, only what the metrics need."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spheremap.base.progress import progress
from spheremap.config.scoring import KapLabels
from spheremap.features.geometry import Grid, patch_centres
from spheremap.methods.descriptors import CHANCE
from spheremap.methods.matcher import Matcher
from spheremap.methods.queries import Queries
from spheremap.methods.readout import Readout, best_patch, place
from spheremap.metrics.evaluation.ruler import Ruler
from spheremap.metrics.kap import Inside, inside_radius, normalise, sparse_extremes


@dataclass(frozen=True)
class Measurements:
    """What each row of the table answered to Q queries; KAP scores at A radii."""

    rows: tuple[str, ...]
    predicted: dict[str, NDArray[np.float64]]  # row -> (Q, 2) prediction, original target pixels
    positive: dict[str, NDArray[np.float64]]  # row -> (A, Q) normalised score, -inf where there is none
    negative: dict[str, NDArray[np.float64]]  # row -> (A, Q)

    def joined(self, other: "Measurements") -> "Measurements":
        """The rows of both, answers to the same queries; chance comes last."""
        rows = sorted((*self.rows, *other.rows), key=lambda row: row == CHANCE)
        return Measurements(
            tuple(rows),
            self.predicted | other.predicted,
            self.positive | other.positive,
            self.negative | other.negative,
        )


def measure(
    matcher: Matcher,
    queries: Queries,
    ruler: Ruler,
    alphas: tuple[float, ...],
    readout: Readout,
    kap_labels: KapLabels,
) -> Measurements:
    """Match all queries.

    Args:
        alphas: A radii as shares of the ruler's sides.
        readout: how a prediction is read from a similarity map, by rows that have no way of their own.
        kap_labels: which point of a patch KAP measures distances from.
    """
    rows = (*matcher.rows, *([CHANCE] if matcher.chance_seed is not None else []))
    count, grid = len(queries.patch), matcher.cache.grid
    pair = queries.pair
    readers = dict.fromkeys(rows, readout) | {
        name: row.place for name, row in matcher.rows.items() if row.place is not None
    }
    # NaN marks what no block has filled
    predicted = {row: np.full((count, 2), np.nan) for row in rows}
    low, high = ({row: np.full(count, np.nan) for row in rows} for _ in range(2))
    positive, negative = ({row: np.full((len(alphas), count), np.nan) for row in rows} for _ in range(2))

    with progress(total=count, desc="matching", unit="keypoints") as bar:
        for block in matcher.blocks(queries):
            own, box = block.queries, matcher.cache.boxes[block.target]
            # all pairs of a block share the target: equal ids are equal places, and one ruler serves them all
            _, first, keypoint = np.unique(queries.keypoint_id[own], return_index=True, return_inverse=True)
            scale, side = ruler.scale[pair[own.start]], ruler.side[pair[own.start]]
            inside = inside_radius(
                queries.xy[own][first] * scale,
                _labels(box, grid, kap_labels) * scale,
                tuple(side * alpha for alpha in alphas),
            )
            near = Inside.of(inside).rows(torch.from_numpy(keypoint), matcher.device)
            for row, similarity in block.similarity.items():
                best = best_patch(similarity)
                highest = similarity.gather(1, best.unsqueeze(1)).squeeze(1)
                predicted[row][own] = place(readers[row](similarity, best, grid), box, grid)
                low[row][own] = similarity.amin(dim=1).cpu().numpy()
                high[row][own] = highest.cpu().numpy()
                best_inside, best_outside = sparse_extremes(similarity, highest, near)
                positive[row][:, own] = best_inside.cpu().numpy()
                negative[row][:, own] = best_outside.cpu().numpy()
            bar.update(own.stop - own.start)

    for row in rows:
        for name, array in (
            ("prediction", predicted[row]),
            ("positive", positive[row]),
            ("negative", negative[row]),
        ):
            if np.isnan(array).any():
                raise RuntimeError(f"row {row!r}: a query was left without {name}")
        positive[row] = normalise(positive[row], low[row], high[row], queries.first)
        negative[row] = normalise(negative[row], low[row], high[row], queries.first)
    return Measurements(rows, predicted, positive, negative)


def _labels(box: NDArray[np.float64], grid: Grid, kap_labels: KapLabels) -> NDArray[np.float64]:
    """Where patches are taken to be `(N, 2)`: their centres or their upper left corners."""
    centres = patch_centres(box, grid)
    if kap_labels == "centre":
        return centres
    rows, columns = grid
    return centres - np.array([(box[2] - box[0]) / columns, (box[3] - box[1]) / rows]) / 2
