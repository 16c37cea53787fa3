"""The scores of methods that have answered: a function of the pairs' weights (`answers.Statistic`), and its
table.

What differs between a score, its interval and its breakdowns is the weights alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.keypoint_groups import KeypointGroups
from spheremap.data.tables import Tables
from spheremap.methods.engine.queries import Questions
from spheremap.metrics import bootstrap, pck
from spheremap.metrics.answers import DECIMALS, Answers, Floats, Statistic
from spheremap.metrics.catalogue import METRICS, labels, statistic
from spheremap.metrics.groups import Group, all_groups
from spheremap.metrics.measure import Measured
from spheremap.metrics.repeated_parts import lands_on_another
from spheremap.metrics.score_table import COLUMNS
from spheremap.metrics.symmetry import Symmetry, symmetry
from spheremap.metrics.thresholds import Thresholds


@dataclass(frozen=True)
class Scores:
    """Answers of all methods, and what turns them into percentages for any weights of the pairs."""

    questions: Questions
    measured: Mapping[str, Measured]
    thresholds: Thresholds
    alphas: tuple[float, ...]
    landmarks: Floats  # (P, L, 2) keypoints visible in the target, NaN as padding
    images: pd.DataFrame  # of the tables
    symmetry: Symmetry | None = None  # None: it is not known which keypoints look alike

    @classmethod
    def of(
        cls,
        questions: Questions,
        measured: Mapping[str, Measured],
        thresholds: Thresholds,
        alphas: tuple[float, ...],
        tables: Tables,
        groups: KeypointGroups | None = None,
    ) -> "Scores":
        """Scores of what was measured, with what the tables know of the keypoints."""
        known = None if groups is None else symmetry(questions, tables, groups)
        places = _landmarks(tables, questions)
        return cls(questions, measured, thresholds, alphas, places, tables.images, known)

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """What the metrics need, by method."""
        return {name: self._answers(name) for name in self.measured}

    @cached_property
    def statistics(self) -> dict[str, Statistic]:
        """All metrics by method, as functions of weights `(b, P)`."""
        return {name: statistic(answers) for name, answers in self.answers.items()}

    @cached_property
    def points(self) -> NDArray[np.int64]:
        """Points `(P,)` of each pair that are visible in both images."""
        return np.bincount(
            self.questions.pair[self.questions.common], minlength=len(self.questions.source_id)
        )

    def overall(self) -> dict[str, dict[str, float]]:
        """All metrics of all pairs, by method."""
        once = np.ones((1, len(self.points)))
        return {name: self.leaves(values(once)) for name, values in self.statistics.items()}

    def design(self, params: EvaluateParams) -> bootstrap.Pairs | bootstrap.Clusters:
        """What the bootstrap draws."""
        asked = self.questions
        return bootstrap.design_of(params.resample, self.images, asked.source_id, asked.target_id)

    def table(self, params: EvaluateParams) -> pd.DataFrame:
        """All metrics of all methods over all pairs and in groups, with intervals: the columns of `COLUMNS`.

        What is not defined has no line. No interval has a group whose points are of too few units
        (`bootstrap.FEWEST`), and no gain a method that did not answer the same points as the baseline.
        """
        azimuth = self.images.set_index("image_id")["azimuth"]
        groups = all_groups(self.questions, azimuth, params.viewpoint_bins, self.symmetry)
        statistics = {
            (method, at): _in_group(group, answers)
            for method, answers in self.answers.items()
            for at, group in enumerate(groups)
        }
        once = np.ones((1, len(self.points)))
        exact = {key: values(once) for key, values in statistics.items()}
        design, samples = self.design(params), {}
        if params.bootstrap:
            samples = bootstrap.resample(statistics, design, params.bootstrap, params.seed)
        interval = partial(bootstrap.interval, confidence=params.confidence, spread=design.spread)
        comparable = [name for name in self.measured if self._comparable(name, params.baseline)]
        lines = []
        for (method, at), values in exact.items():
            group, base = groups[at], (params.baseline, at)
            counted = group.of(self.answers[method]).points
            drawn = samples and design.units(np.flatnonzero(group.pairs)[counted > 0]) >= bootstrap.FEWEST
            n_pairs = len(counted) if group.points is None else int((counted > 0).sum())
            key: dict[str, Any] = {"method": method, "group_by": group.by, "group": group.name}
            key |= {"n_pairs": n_pairs, "n_points": int(counted.sum())}
            for name, value in values.items():
                columns = {"value": value[0]}
                if drawn:
                    ends = interval(value[0], samples[method, at][name])
                    columns |= dict(zip(("low", "high"), np.clip(ends, 0, 100), strict=True))
                if method in comparable:
                    columns["gain"] = value[0] - exact[base][name][0]
                    if drawn:
                        deviating = samples[method, at][name] - samples[base][name]
                        ends = interval(columns["gain"], deviating)
                        columns |= dict(zip(("gain_low", "gain_high"), ends, strict=True))
                lines += self._lines(key, name, columns)
        return pd.DataFrame(lines, columns=list(COLUMNS))

    def _lines(self, key: dict[str, Any], name: str, columns: Mapping[str, Floats]) -> list[dict[str, Any]]:
        """One line for each threshold at which a metric is defined."""
        metric = METRICS[name]
        lines = []
        for i, label in enumerate(labels(name, self.alphas)):
            if not np.isnan(columns["value"][i]):
                own = {column: round(float(values[i]), DECIMALS) for column, values in columns.items()}
                told = {"metric": metric.name, "average": metric.average, "threshold": label}
                lines.append(key | told | own)
        return lines

    def predictions(self, method: str) -> pd.DataFrame:
        """One line per point visible in both images that has a prediction."""
        points = self.questions.common & ~np.isnan(self.measured[method].predicted[:, 0])
        pair = self.questions.pair[points]
        predicted, truth = self.measured[method].predicted[points], self.questions.xy[points]
        return pd.DataFrame(
            {
                "method": method,
                "source": self.questions.source_id[pair],
                "target": self.questions.target_id[pair],
                "keypoint_id": self.questions.keypoint_id[points],
                "x": predicted[:, 0].round(DECIMALS),
                "y": predicted[:, 1].round(DECIMALS),
                "target_x": truth[:, 0].round(DECIMALS),
                "target_y": truth[:, 1].round(DECIMALS),
                "error": self._distance(method)[points[self.questions.common]] / self.thresholds.side[pair],
            }
        )

    def names(self, metric: str, ending: str = "") -> list[str]:
        """What a metric is called at the A thresholds."""
        return [(f"{metric}@{label}" if label else metric) + ending for label in labels(metric, self.alphas)]

    def leaves(self, values: Mapping[str, Floats], ending: str = "") -> dict[str, float]:
        """The values `(1, A)` of metrics, rounded, under their short names."""
        return {
            name: round(float(value), DECIMALS)
            for metric, own in values.items()
            for name, value in zip(self.names(metric, ending), own[0], strict=True)
            if not np.isnan(value)
        }

    def _comparable(self, method: str, baseline: str) -> bool:
        """Whether a method and another one as baseline have answered the same points."""
        if method == baseline or baseline not in self.answers:
            return False
        return np.array_equal(self.answers[method].counted, self.answers[baseline].counted)

    def _answers(self, method: str) -> Answers:
        """What the metrics need of a method's answers, in the thresholds' frame."""
        questions, measured = self.questions, self.measured[method]
        pair = questions.pair[questions.common]
        scale, radius = self.thresholds.scale[pair], pck.radii(self.thresholds.side[pair], self.alphas)
        distance = self._distance(method)
        right = pck.correct(distance, radius)
        predicted = measured.predicted[questions.common] * scale
        mirror = np.full(predicted.shape, np.nan)
        if self.symmetry is not None:
            mirror = self.symmetry.mirror_xy * scale
        return Answers(
            questions.category,
            questions.pair,
            questions.common,
            right,
            confused=lands_on_another(predicted, self.landmarks[pair] * scale[:, None], radius, right),
            nearer_to_mirror=pck.distances(predicted, mirror) < distance,
            mirror_visible=~np.isnan(mirror[:, 0]),
            counted=~np.isnan(predicted[:, 0]),
            positive=measured.positive,
            negative=measured.negative,
        )

    def _distance(self, method: str) -> Floats:
        """Distances `(C,)` to the truth, in the thresholds' frame."""
        points = self.questions.common
        scale = self.thresholds.scale[self.questions.pair[points]]
        return pck.distances(
            self.measured[method].predicted[points] * scale, self.questions.xy[points] * scale
        )


def _in_group(group: Group, answers: Answers) -> Statistic:
    """All metrics in a group, as functions of weights `(b, P)` of all pairs."""
    values = statistic(group.of(answers))
    return lambda weights: values(weights[:, group.pairs])


def _landmarks(tables: Tables, questions: Questions) -> Floats:
    """All keypoints `(P, L, 2)` visible in each pair's target, padded with NaN."""
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    places = {str(image): rows[["x", "y"]].to_numpy() for image, rows in visible.groupby("image_id")}
    targets, pair = np.unique(questions.target_id.astype(str), return_inverse=True)
    result = np.full((len(targets), max((len(xy) for xy in places.values()), default=0), 2), np.nan)
    for i, target in enumerate(targets):
        own = places.get(str(target), np.empty((0, 2)))
        result[i, : len(own)] = own
    return result[pair]
