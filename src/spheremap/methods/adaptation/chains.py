"""Chains of training views in which the viewpoint changes little from one to the next.

Matches between distant viewpoints are mostly wrong; matches between near ones can be chained through the
viewpoints between (Dünkel et al. 2025). Chains depend on seed and step alone.
"""

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.data.viewpoint_bins import UNKNOWN

Chain = list[int]  # records of the cache


class Chains:
    """Draws chains among views of one category, each of another image.

    A chain goes round the object in one direction: from one view to the next the azimuth grows (or shrinks)
    by 0 to `hop` bins. It ends before its full length where there is no further view to go to.

    Args:
        records: `(n,)` the views that may be used.
        category, azimuth_bin, image: of every record of the cache; views of unknown azimuth are not used.
        bins: number of azimuth bins.
        length: views in a chain.
        hop: bins from one view to the next, at most.

    Raises:
        InputError: if no two views can be neighbours.
    """

    def __init__(
        self,
        records: NDArray[np.integer],
        category: NDArray[np.integer],
        azimuth_bin: NDArray[np.integer],
        image: NDArray[np.integer],
        *,
        bins: int,
        length: int,
        hop: int,
    ) -> None:
        self._category, self._bin, self._image = category, azimuth_bin, image
        self._bins, self._length = bins, length
        self._gaps = range(min(hop, bins // 2) + 1)
        self._shelf: dict[tuple[int, int], NDArray[np.integer]] = {}
        known = records[azimuth_bin[records] != UNKNOWN]
        for key in {(int(category[record]), int(azimuth_bin[record])) for record in known}:
            own = (category[known] == key[0]) & (azimuth_bin[known] == key[1])
            self._shelf[key] = known[own]
        near = [record for record in known.tolist() if any(self._ways(record, turn, []) for turn in (-1, 1))]
        self.starts = np.array(near, dtype=np.int64)
        if not len(self.starts):
            raise InputError(
                "no chain of training views can be built",
                expected=f"two images of a category with known azimuths at most {hop} of {bins} bins apart",
                found=f"{len(known)} views with foreground and a known azimuth",
                fix="raise hop of the method, or give azimuths in images.csv",
            )

    def of_step(self, step: int, count: int, seed: int) -> list[Chain]:
        """The chains of one step."""
        generator = np.random.default_rng([seed, step])
        return [self._draw(generator) for _ in range(count)]

    def _draw(self, generator: np.random.Generator) -> Chain:
        chain = [int(generator.choice(self.starts))]
        turn = int(generator.choice([-1, 1]))
        if not self._ways(chain[0], turn, []):
            turn = -turn
        while len(chain) < self._length and (ways := self._ways(chain[-1], turn, chain)):
            chain.append(int(generator.choice(ways[int(generator.integers(len(ways)))])))
        return chain

    def _ways(self, record: int, turn: int, chain: Chain) -> list[NDArray[np.integer]]:
        """For every possible gap with any: the views to go to, of images that are not in the chain."""
        used = self._image[[record, *chain]]
        ways = []
        for gap in self._gaps:
            key = (int(self._category[record]), int(self._bin[record] + turn * gap) % self._bins)
            there = self._shelf.get(key, np.empty(0, dtype=np.int64))
            free = there[~np.isin(self._image[there], used)]
            if len(free):
                ways.append(free)
        return ways
