"""Where matching goes wrong: by confusing parts of the same object."""

import numpy as np
from numpy.typing import NDArray

from spheremap.metrics.answers import Answers, Floats, Statistic, percent


def statistic(answers: Answers) -> Statistic:
    """Percent of all points that are predicted on another keypoint, see `lands_on_another`."""
    confused, points = answers.per_pair(answers.confused), answers.points
    return lambda weights: {"confusion": percent(weights @ confused, weights @ points)}


def lands_on_another(
    predicted: Floats, landmarks: Floats, radius: Floats, right: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Repeated-part confusion: a wrong prediction that would be right for another keypoint of the target.

    A prediction is confused if it is not within the radius of its own keypoint but strictly within the radius
    of some other keypoint visible in the target, whether or not that one is visible in the source.

    Args:
        predicted: `(Q, 2)`.
        landmarks: `(Q, L, 2)` all keypoints visible in the target, NaN as padding; a query's own among them.
        radius: `(Q, A)`.
        right: `(Q, A)` whether the prediction is within the radius of its own keypoint.

    Returns:
        `(Q, A)`.
    """
    distance = np.sqrt(((predicted[:, None] - landmarks) ** 2).sum(axis=2))  # (Q, L)
    nearest = np.where(np.isnan(distance), np.inf, distance).min(axis=1, initial=np.inf)
    return ~right & (nearest[:, None] < radius)
