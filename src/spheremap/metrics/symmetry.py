"""Where matching goes wrong: by left and right.

A prediction is a left/right error if it is nearer to the mirror keypoint, where the target shows it, than to
the keypoint itself: to the right wheel instead of the left one. That holds at any threshold.

The *geometry-aware* keypoints of a pair (Zhang et al., "Telling Left from Right", CVPR 2024) are those of
whose group the target shows two or more. Whether the mirror keypoint is visible beside the match divides the
points as GECO does (Hartwig et al. 2025); where neither is, there is no right place, which KAP alone sees.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.data.keypoint_groups import KeypointGroups, counts_by_group
from spheremap.data.tables import Tables
from spheremap.methods.engine.queries import Questions
from spheremap.metrics.answers import Answers, Floats, Statistic, percent

# match and mirror visible, the match alone, no mirror keypoint
BOTH, ONE, UNPAIRED = "both", "one", "unpaired"
AWARE, OTHER = "aware", "other"


@dataclass(frozen=True)
class Symmetry:
    """What is known of C points by the keypoints that look alike.

    Attributes:
        mirror_xy: `(C, 2)` the mirror keypoint in the target, NaN where it is hidden or there is none.
        mirror: `(C,)` BOTH, ONE or UNPAIRED.
        geometry: `(C,)` AWARE or OTHER.
    """

    mirror_xy: Floats
    mirror: NDArray[np.object_]
    geometry: NDArray[np.object_]


def symmetry(questions: Questions, tables: Tables, groups: KeypointGroups) -> Symmetry:
    """Look up what looks like each of the points that are visible in both images."""
    visible = tables.keypoints.loc[tables.keypoints["visible"] == 1, ["image_id", "keypoint_id", "x", "y"]]
    visible = visible.merge(tables.images[["image_id", "category"]], on="image_id")
    pair = questions.pair[questions.common]
    target = questions.target_id[pair]
    category = tables.images.set_index("image_id")["category"].loc[target.tolist()]
    keys = list(zip(category, questions.keypoint_id[questions.common], strict=True))
    other = pd.DataFrame({"image_id": target, "keypoint_id": [groups.mirror.get(key, "") for key in keys]})
    xy = other.merge(visible, on=["image_id", "keypoint_id"], how="left")[["x", "y"]].to_numpy(np.float64)
    mirror = np.where(np.isnan(xy[:, 0]), ONE, BOTH).astype(object)
    mirror[[key not in groups.mirror for key in keys]] = UNPAIRED
    shown = counts_by_group(visible, groups)
    alike = shown.reindex(list(zip(target, [groups.group.get(key, "") for key in keys], strict=True)))
    return Symmetry(xy, mirror, np.where(alike.to_numpy(np.float64) >= 2, AWARE, OTHER).astype(object))


def statistic(answers: Answers) -> Statistic:
    """Percent of left/right errors among the points whose mirror keypoint the target shows too."""
    wrong, paired = (
        answers.per_pair(own[:, None]) for own in (answers.nearer_to_mirror, answers.mirror_visible)
    )
    return lambda weights: {"mirrored": percent(weights @ wrong, (weights @ paired)[:, 0])}
