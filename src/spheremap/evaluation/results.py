"""From measurements to the numbers that are published, and the files that hold them."""

import gzip
import json
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spheremap.cache.reader import FeatureCache
from spheremap.evaluation.measure import Measurements, measure
from spheremap.evaluation.params import EvaluateParams, alpha_label
from spheremap.files import atomic_path
from spheremap.head import Head, sphere_points
from spheremap.matching.descriptors import row_weights
from spheremap.matching.matcher import Matcher
from spheremap.matching.queries import Queries, box_sides, build_queries, with_common_keypoint
from spheremap.metrics import breakdown, kap, pck
from spheremap.tables import Tables

METRICS = "metrics.json"
BY_CATEGORY = "by_category.csv"
BY_GAP = "by_azimuth_gap.csv"
PREDICTIONS = "predictions.csv.gz"
DECIMALS = 4  # of percentages and pixels


@dataclass(frozen=True)
class Results:
    """All scores of one evaluation, in percent; n counts what they are averages of.

    Attributes:
        metrics: of the whole split. `n_pairs` and `n_images` count what the split lists, `n_points` the
            keypoints visible in both images of a pair. Per row and threshold: `pck_point` over all points;
            `pck_image` mean over pairs with a point; `pck_category` mean over categories of the category's
            `pck_point`; `kap` mean over categories; `kap_pair` mean over categories weighted by their pairs
            with a keypoint in the source; `confusion` share of points predicted on another keypoint of the
            target (`breakdown.lands_on_another`).
        by_category: the same by row and category.
        by_gap: PCK per point and confusion by row and azimuth gap in bins, for gaps with points; images of
            unknown azimuth are left out.
        predictions: one line per row and point: keypoint, prediction and truth in original target pixels, and
            the error as a share of the longer side of the target's box.
    """

    metrics: dict[str, Any]
    by_category: pd.DataFrame
    by_gap: pd.DataFrame
    predictions: pd.DataFrame


def evaluate(
    cache: FeatureCache,
    tables: Tables,
    head: Head,
    params: EvaluateParams,
    *,
    dataset: str,
    device: torch.device | str = "cpu",
) -> Results:
    """Match the pairs of a split with every row of the table and score them.

    Raises:
        InputError: if the split has no pair with a keypoint visible in both images.
        ProvenanceError: if cache or head are damaged.
    """
    pairs = tables.pairs_of(params.split)
    with_common_keypoint(tables, pairs, where=f"split {params.split!r} of data set {dataset!r}")
    queries = build_queries(cache, tables, pairs)
    images = tables.images.set_index("image_id")
    box_side = box_sides(tables, queries)
    matcher = Matcher(
        cache,
        row_weights(params.sphere_weight),
        partial(sphere_points, head),
        chance_seed=params.seed,
        device=device,
    )
    measured = measure(matcher, queries, box_side, params.alphas, params.kap_labels)
    scores = _Scores(queries, measured, box_side, params.alphas, _landmarks(tables, queries))

    listed = pairs["source"].map(images["category"]).value_counts()
    rows = measured.rows
    metrics: dict[str, Any] = {
        "dataset": dataset,
        "split": params.split,
        "n_pairs": len(pairs),
        "n_points": int(queries.common.sum()),
        "n_images": len(np.unique(pairs[["source", "target"]])),
        "seed": params.seed,
    }
    metrics.update({row: scores.overall(row) for row in rows})
    by_category = [
        {"row": row, "category": name, "n_pairs": int(listed[name]), **scores.of_category(row, name)}
        for row in rows
        for name in sorted(set(queries.category.tolist()))
    ]
    gap = _gaps(images["azimuth"], queries, params.viewpoint_bins)[queries.pair]
    by_gap = [
        {"row": row, "gap": int(value), **scores.of_points(row, queries.common & (gap == value))}
        for row in rows
        for value in np.unique(gap[queries.common & (gap != breakdown.UNKNOWN)])
    ]
    return Results(
        metrics,
        pd.DataFrame(by_category),
        pd.DataFrame(by_gap, columns=["row", "gap", *scores.point_columns]),
        pd.concat([scores.predictions(row) for row in rows], ignore_index=True),
    )


@dataclass(frozen=True)
class _Scores:
    """Turns measurements into percentages, for any part of the queries."""

    queries: Queries
    measured: Measurements
    box_side: NDArray[np.float64]  # (P,)
    alphas: tuple[float, ...]
    landmarks: NDArray[np.float64]  # (P, L, 2) keypoints visible in the target, NaN as padding

    @property
    def point_columns(self) -> list[str]:
        return ["n_points", *self._name("pck_point", self.alphas), *self._name("confusion", self.alphas)]

    def overall(self, row: str) -> dict[str, float]:
        points = self.queries.common
        right = self._right(row, points)
        category = self.queries.category[self.queries.pair]
        result = {
            **self._name("pck_point", pck.pck_point(right)),
            **self._name("pck_image", pck.pck_image(right, self.queries.pair[points])),
            **self._name("pck_category", pck.pck_category(right, category[points])),
            **self._name("confusion", self._confusion(row, points, right)),
        }
        by_alpha = self._kap(row)
        result |= self._name("kap", [value.macro for value in by_alpha])
        result |= self._name("kap_pair", [value.pair for value in by_alpha])
        return result

    def of_category(self, row: str, category: str) -> dict[str, float]:
        points = self.queries.common & (self.queries.category[self.queries.pair] == category)
        by_alpha = self._kap(row)
        return {
            **self.of_points(row, points),
            **self._name("pck_image", pck.pck_image(self._right(row, points), self.queries.pair[points])),
            **self._name("kap", [value.by_category[category] for value in by_alpha]),
        }

    def of_points(self, row: str, points: NDArray[np.bool_]) -> dict[str, float]:
        right = self._right(row, points)
        return {
            "n_points": int(points.sum()),
            **self._name("pck_point", pck.pck_point(right)),
            **self._name("confusion", self._confusion(row, points, right)),
        }

    def predictions(self, row: str) -> pd.DataFrame:
        points = self.queries.common
        pair = self.queries.pair[points]
        predicted, truth = self.measured.predicted[row][points], self.queries.xy[points]
        return pd.DataFrame(
            {
                "row": row,
                "source": self.queries.source_id[pair],
                "target": self.queries.target_id[pair],
                "keypoint_id": self.queries.keypoint_id[points],
                "x": predicted[:, 0].round(DECIMALS),
                "y": predicted[:, 1].round(DECIMALS),
                "target_x": truth[:, 0].round(DECIMALS),
                "target_y": truth[:, 1].round(DECIMALS),
                "error": pck.distances(predicted, truth) / self.box_side[pair],
            }
        )

    def _right(self, row: str, points: NDArray[np.bool_]) -> NDArray[np.bool_]:
        distance = pck.distances(self.measured.predicted[row][points], self.queries.xy[points])
        return pck.correct(distance, self._radius(points))

    def _confusion(
        self, row: str, points: NDArray[np.bool_], right: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        confused = breakdown.lands_on_another(
            self.measured.predicted[row][points],
            self.landmarks[self.queries.pair[points]],
            self._radius(points),
            right,
        )
        return pck.percent(confused.sum(axis=0), len(confused))

    def _radius(self, points: NDArray[np.bool_]) -> NDArray[np.float64]:
        return pck.radii(self.box_side[self.queries.pair[points]], self.alphas)

    def _kap(self, row: str) -> list[kap.Kap]:
        pair = self.queries.pair
        scores = zip(self.measured.positive[row], self.measured.negative[row], strict=True)
        return [
            kap.kap(positive, negative, self.queries.category[pair], pair) for positive, negative in scores
        ]

    def _name(self, metric: str, values: Any) -> dict[str, float]:
        return {
            f"{metric}@{alpha_label(alpha)}": round(float(value), DECIMALS)
            for alpha, value in zip(self.alphas, values, strict=True)
        }


def _landmarks(tables: Tables, queries: Queries) -> NDArray[np.float64]:
    """All keypoints `(P, L, 2)` visible in each pair's target, padded with NaN."""
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    places = {str(image): rows[["x", "y"]].to_numpy() for image, rows in visible.groupby("image_id")}
    targets, pair = np.unique(queries.target_id.astype(str), return_inverse=True)
    result = np.full((len(targets), max((len(xy) for xy in places.values()), default=0), 2), np.nan)
    for i, target in enumerate(targets):
        own = places.get(str(target), np.empty((0, 2)))
        result[i, : len(own)] = own
    return result[pair]


def _gaps(azimuth: pd.Series, queries: Queries, bins: int) -> NDArray[np.int64]:
    """Azimuth gap `(P,)` of each pair."""
    source, target = (
        breakdown.azimuth_bin(azimuth[ids.tolist()].to_numpy(dtype=np.float64), bins)
        for ids in (queries.source_id, queries.target_id)
    )
    return breakdown.azimuth_gap(source, target, bins)


def write_results(directory: Path, results: Results) -> None:
    """Write all files of an evaluation; they replace older ones only when every one is complete."""
    with ExitStack() as stack:
        # left in reverse order: the metrics appear last
        files = {
            name: stack.enter_context(atomic_path(Path(directory) / name))
            for name in (METRICS, BY_CATEGORY, BY_GAP, PREDICTIONS)
        }
        text = json.dumps(results.metrics, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        files[METRICS].write_text(text + "\n", encoding="utf-8")
        files[BY_CATEGORY].write_text(_csv(results.by_category), encoding="utf-8")
        files[BY_GAP].write_text(_csv(results.by_gap), encoding="utf-8")
        # without a time stamp: equal results are equal bytes
        files[PREDICTIONS].write_bytes(gzip.compress(_csv(results.predictions).encode(), mtime=0))


def _csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))
