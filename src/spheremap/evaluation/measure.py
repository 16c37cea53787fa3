"""One pass over all pairs that keeps, of every similarity map, only what the metrics need."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spheremap.evaluation.params import KapLabels
from spheremap.geometry import Grid, patch_centres
from spheremap.matching.descriptors import CHANCE
from spheremap.matching.matcher import Matcher
from spheremap.matching.queries import Queries
from spheremap.metrics.kap import extremes, inside_radius, normalise
from spheremap.progress import progress


@dataclass(frozen=True)
class Measurements:
    """What each row of the table answered to Q queries; KAP scores at A radii."""

    rows: tuple[str, ...]
    predicted: dict[
        str, NDArray[np.float64]
    ]  # row -> (Q, 2) centre of the best patch, original target pixels
    positive: dict[str, NDArray[np.float64]]  # row -> (A, Q) normalised score, -inf where there is none
    negative: dict[str, NDArray[np.float64]]  # row -> (A, Q)


def measure(
    matcher: Matcher,
    queries: Queries,
    box_side: NDArray[np.float64],
    alphas: tuple[float, ...],
    kap_labels: KapLabels = "centre",
) -> Measurements:
    """Match all queries.

    Args:
        box_side: `(P,)` longer side of each pair's target box, in original pixels.
        alphas: A radii as shares of `box_side`.
        kap_labels: which point of a patch KAP measures distances from.
    """
    rows = (*matcher.weights, *([CHANCE] if matcher.chance_seed is not None else []))
    count = len(queries.patch)
    pair = queries.pair
    # NaN marks what no block has filled
    predicted = {row: np.full((count, 2), np.nan) for row in rows}
    low, high = ({row: np.full(count, np.nan) for row in rows} for _ in range(2))
    positive, negative = ({row: np.full((len(alphas), count), np.nan) for row in rows} for _ in range(2))

    with progress(total=count, desc="matching", unit="keypoints") as bar:
        for block in matcher.blocks(queries):
            own = block.queries
            box = matcher.cache.boxes[block.target]
            centres = patch_centres(box, matcher.cache.grid)
            places = centres if kap_labels == "centre" else _corners(centres, box, matcher.cache.grid)
            # all pairs of a block share the target, so equal ids are equal places
            _, first, keypoint = np.unique(queries.keypoint_id[own], return_index=True, return_inverse=True)
            radius = tuple(box_side[pair[own.start]] * alpha for alpha in alphas)
            inside = torch.from_numpy(inside_radius(queries.xy[own][first], places, radius))
            inside = inside.to(matcher.device)[:, torch.from_numpy(keypoint).to(matcher.device)]  # (A, R, N)
            for row, similarity in block.similarity.items():
                predicted[row][own] = centres[similarity.argmax(dim=1).cpu().numpy()]  # the first of equals
                low[row][own] = similarity.amin(dim=1).cpu().numpy()
                high[row][own] = similarity.amax(dim=1).cpu().numpy()
                best_inside, best_outside = extremes(similarity, inside)
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


def _corners(centres: NDArray[np.float64], box: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Upper left corners `(N, 2)` of the patches."""
    rows, columns = grid
    return centres - np.array([(box[2] - box[0]) / columns, (box[3] - box[1]) / rows]) / 2
