"""How a feature cache is cut into shards: by category, so that no file mixes parts of two categories.

The number of shards is a parameter, and with it the names of all files are known before the data set is: the
whole chain can be planned at once, and the shards are built side by side.

- As many shards as categories: one category each.
- Fewer: each shard holds whole categories, neighbours in alphabetical order, about equally many images.
- More: each shard holds a part of one category; the larger a category, the more parts it is cut into.
"""

from collections.abc import Sequence
from itertools import accumulate


def shard_range(sizes: Sequence[int], index: int, count: int) -> range:
    """The images of one shard, as positions in the list of all images sorted by category.

    Args:
        sizes: images per category, in the order of the list, each at least 1.
        index: the shard, 0 <= index < count.
        count: number of shards, at most the number of images.
    """
    edges = _group(sizes, count) if count <= len(sizes) else _divide(sizes, count)
    return range(edges[index], edges[index + 1])


def _group(sizes: Sequence[int], count: int) -> list[int]:
    """Edges of groups of whole categories: the borders nearest to an even cut that leave none empty."""
    borders = [0, *accumulate(sizes)]  # borders[k]: images before category k
    chosen = [0]
    for group in range(1, count):
        even = borders[-1] * group / count
        free = range(chosen[-1] + 1, len(sizes) - (count - group) + 1)
        chosen.append(min(free, key=lambda k: abs(borders[k] - even)))
    return [borders[k] for k in [*chosen, len(sizes)]]


def _divide(sizes: Sequence[int], count: int) -> list[int]:
    """Edges of parts of single categories: the one whose parts are largest is cut once more, repeatedly."""
    parts = [1] * len(sizes)
    for _ in range(count - len(sizes)):
        # a category of as many parts as images has parts of one image and is never cut again
        largest = max(range(len(sizes)), key=lambda k: sizes[k] / parts[k])
        parts[largest] += 1
    starts = accumulate(sizes, initial=0)
    cuts = [
        start + size * part // n
        for start, size, n in zip(starts, sizes, parts, strict=False)
        for part in range(n)
    ]
    return [*cuts, sum(sizes)]
