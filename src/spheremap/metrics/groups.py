"""Which pairs and points are scored apart: the columns `group_by` and `group` of the scores."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.data.viewpoint_bins import UNKNOWN, azimuth_bin, azimuth_gap
from spheremap.methods.engine.queries import Questions
from spheremap.metrics.answers import Answers
from spheremap.metrics.symmetry import Symmetry

ALL = "all"
FAR = 90  # degrees between viewpoints from which they are far apart


@dataclass(frozen=True)
class Group:
    """Some pairs `(P,)`, and of these some points `(C,)` or all.

    KAP, which takes the longest and also asks about hidden keypoints, is computed where `kap` says so.
    """

    by: str
    name: str
    pairs: NDArray[np.bool_]
    points: NDArray[np.bool_] | None = None
    kap: bool = False

    def of(self, answers: Answers) -> Answers:
        """The answers in this group."""
        own = answers if self.kap else replace(answers, positive=None, negative=None)
        return (own if self.points is None else own.of_points(self.points)).of_pairs(self.pairs)


def all_groups(questions: Questions, azimuth: pd.Series, bins: int, symmetry: Symmetry | None) -> list[Group]:
    """All pairs, those of each category, azimuth gap and viewpoint, and points by what looks like them.

    Args:
        azimuth: in degrees, by image id.
        bins: of azimuth.
        symmetry: None where it is not known which keypoints look alike.
    """
    everything = np.ones(len(questions.source_id), dtype=bool)
    points = questions.pair[questions.common]
    source, target = (
        azimuth_bin(azimuth[ids.tolist()].to_numpy(dtype=np.float64), bins)
        for ids in (questions.source_id, questions.target_id)
    )
    gap = azimuth_gap(source, target, bins)
    far = np.where(gap * 360 >= FAR * bins, "far", "near")
    known = (gap != UNKNOWN) & (np.bincount(points, minlength=len(gap)) > 0)
    result = [Group(ALL, ALL, everything, kap=True), *_by("category", questions.category, kap=True)]
    result += _by("azimuth_gap", np.where(known, gap.astype(str), ""), order=int)
    result += _by("viewpoint", np.where(known, far, ""))
    for by in ("geometry", "mirror") if symmetry else ():
        labels = getattr(symmetry, by)
        for name in sorted(set(labels.tolist())):
            own = labels == name
            result.append(Group(by, name, np.isin(np.arange(len(gap)), points[own]), own))
    return result


def _by(
    name: str, labels: NDArray[Any], order: Callable[[str], Any] = str, kap: bool = False
) -> Iterator[Group]:
    """A group for each label `(P,)` but the empty one."""
    for label in sorted({*labels.tolist()} - {""}, key=order):
        yield Group(name, label, labels == label, kap=kap)
