"""Drawing pairs of images, for data sets that come without any."""

import numpy as np
from numpy.typing import NDArray


def sample_pairs(
    visible: NDArray[np.bool_],
    group: NDArray[np.int64],
    *,
    count: int,
    min_shared: int,
    seed: int,
    across: bool = False,
) -> list[tuple[int, int]]:
    """Draw ordered pairs of different images, uniformly and without replacement, in ascending order.

    Args:
        visible: `(N, K)`, which keypoints each image shows.
        group: `(N,)`, the category of each image as a number.
        count: how many to draw; all there are, if there are fewer.
        min_shared: keypoints that both images show.
        across: of different groups; else of one group.
    """
    size = len(group)
    shown = visible.astype(np.float32)
    starts = range(0, size, 1024)  # rows of the N × N table of pairs that are held at a time

    def allowed(start: int) -> NDArray[np.bool_]:
        rows = np.arange(start, min(start + 1024, size))
        table = (group[rows, None] != group) if across else (group[rows, None] == group)
        table &= shown[rows] @ shown.T >= min_shared
        table[np.arange(len(rows)), rows] = False
        return table

    per_row = np.concatenate([allowed(start).sum(axis=1) for start in starts] or [np.zeros(0, np.int64)])
    ends = per_row.cumsum()
    total = int(ends[-1]) if size else 0
    rng = np.random.default_rng(seed)
    numbers = np.sort(rng.choice(total, count, replace=False)) if total > count else np.arange(total)
    row_of = np.searchsorted(ends, numbers, side="right")
    rank = numbers - (ends - per_row)[row_of]
    pairs: list[tuple[int, int]] = []
    for start in starts:
        chosen = np.flatnonzero((row_of >= start) & (row_of < start + 1024))
        if len(chosen):
            table = allowed(start)
            for i in chosen:
                columns = np.flatnonzero(table[row_of[i] - start])
                pairs.append((int(row_of[i]), int(columns[rank[i]])))
    return pairs
