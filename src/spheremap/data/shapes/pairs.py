"""Drawing image pairs that cover all viewpoint changes evenly."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.data.shapes.camera import BINS
from spheremap.data.viewpoint_bins import azimuth_gap


def draw_pairs(
    rng: np.random.Generator,
    *,
    instance: NDArray[np.integer],
    view_bin: NDArray[np.integer],
    visible: NDArray[np.bool_],
    count: int,
    min_shared: int,
    where: str,
) -> NDArray[np.int64]:
    """Draw ordered pairs of different instances, evenly over the azimuth gaps and over the source images.

    A gap that runs out of pairs leaves its share to the others.

    Args:
        rng: source of randomness.
        instance: instance of each image `(n,)`.
        view_bin: azimuth bin of each image `(n,)`.
        visible: which keypoints each image shows `(n, K)`.
        count: how many pairs to draw.
        min_shared: keypoints that both images of a pair must show at least.
        where: category and split, for the error message.

    Returns:
        Distinct pairs (source, target) `(count, 2)`, ordered by source.

    Raises:
        InputError: if the images do not allow so many pairs.
    """
    shown = visible.astype(np.int64)
    allowed = (instance[:, None] != instance) & (shown @ shown.T >= min_shared)
    pairs = rng.permutation(np.argwhere(allowed))
    if len(pairs) < count:
        expected = f"{count} pairs of different instances sharing {min_shared} or more visible keypoints"
        found = f"{len(pairs)} such pairs among {len(instance)} images"
        fix = "ask for fewer pairs, or for more instances or views per instance"
        raise InputError(f"too few image pairs for {where}", expected=expected, found=found, fix=fix)
    gap = azimuth_gap(view_bin[pairs[:, 0]], view_bin[pairs[:, 1]], BINS)
    frame = pd.DataFrame({"source": pairs[:, 0], "gap": gap})
    # within a gap every source comes first once, then every source a second time, ...
    frame["turn"] = frame.groupby(["gap", "source"]).cumcount()
    frame = frame.sort_values(["gap", "turn"], kind="stable")
    # then the gaps take turns
    frame["rank"] = frame.groupby("gap").cumcount()
    chosen = frame.sort_values(["rank", "gap"], kind="stable").index[:count]
    drawn = pairs[chosen]
    return drawn[np.lexsort((drawn[:, 1], drawn[:, 0]))].astype(np.int64)
