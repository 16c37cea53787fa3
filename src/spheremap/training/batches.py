"""Batches of cached training views, in an order that depends on seed and step alone."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.errors import InputError, ProvenanceError
from spheremap.head.foreground import Foreground
from spheremap.progress import progress
from spheremap.tables import Tables

GIB = 2**30
_READ = 256  # records read at once when the cache is loaded whole


class ViewCache(Protocol):
    """What training needs of a `spheremap.cache.FeatureCache`."""

    grid: tuple[int, int]
    dim: int
    image_ids: list[str]
    masks: NDArray[np.bool_]

    def tokens(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float16]:
        """Tokens `(k, N, D)` of some records."""
        ...


@dataclass(frozen=True)
class Batch:
    """B views on the training device.

    Attributes:
        tokens: `(B, N, D)` float16.
        foreground: index of the M foreground tokens.
        category: `(M,)` int64, category of each of them.
        azimuth: `(B,)` float32 radians, the centre of the view's bin; NaN where unknown.
    """

    tokens: Tensor
    foreground: Foreground
    category: Tensor
    azimuth: Tensor


class Views:
    """The training views of a cache, with what the tables know of their images.

    Tokens are held in memory if they fit the budget, else read from the cache batch by batch.

    Attributes:
        usable: records that have foreground, the ones trained on; the others could not influence any loss.
        grid, dim: as in the cache.

    Raises:
        ProvenanceError: if the cache holds an image or has a category that the tables or the head do not.
        InputError: if no view has any foreground.
    """

    def __init__(
        self, cache: ViewCache, tables: Tables, categories: Sequence[str], *, bins: int, memory: float
    ) -> None:
        self.grid, self.dim = cache.grid, cache.dim
        images = tables.images.set_index("image_id")
        unknown = sorted(set(cache.image_ids) - set(images.index))
        if unknown:
            raise ProvenanceError(
                "the feature cache holds images that the tables do not",
                expected=f"images of a data set of {len(images)}",
                found=", ".join(unknown[:4]),
                fix="delete the cache and run `snakemake --cores all`",
            )
        images = images.loc[cache.image_ids]
        strangers = sorted(set(images["category"]) - set(categories))
        if strangers:
            raise InputError(
                "the head lacks categories of the training views",
                expected=", ".join(sorted(set(images["category"]))),
                found=", ".join(categories),
            )
        self.usable = np.flatnonzero(cache.masks.any(axis=1))
        if not len(self.usable):
            raise InputError(
                "no training view has any foreground",
                expected="masks that cover at least one patch",
                found=f"{len(cache.image_ids)} views with empty masks",
                fix="check mask_path and mask_value in images.csv",
            )
        self._category = np.array([categories.index(name) for name in images["category"]])
        self._azimuth = bin_centre(images["azimuth"].to_numpy(np.float64), bins)
        self._cache = cache
        self._tokens: Tensor | None = None
        size = len(cache.image_ids) * self.grid[0] * self.grid[1] * self.dim * 2
        if size <= memory * GIB:
            self._tokens = _load_all(cache)

    @property
    def in_memory(self) -> bool:
        """Whether all tokens are held."""
        return self._tokens is not None

    def batch(self, records: NDArray[np.integer], device: torch.device | str) -> Batch:
        """Some views, by record number of the cache."""
        if self._tokens is None:
            tokens = torch.from_numpy(self._cache.tokens(records))
        else:
            tokens = self._tokens[torch.from_numpy(np.asarray(records))]
        masks = self._cache.masks[records]
        image = np.nonzero(masks)[0]
        return Batch(
            tokens=tokens.to(device, non_blocking=True),
            foreground=Foreground.from_masks(masks, device),
            category=torch.from_numpy(self._category[records][image]).to(device, non_blocking=True),
            azimuth=torch.from_numpy(self._azimuth[records]).to(device, torch.float32, non_blocking=True),
        )


def bin_centre(azimuth: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """The coarse viewpoint label: centre in radians of the bin that an azimuth in degrees falls in."""
    width = 360 / bins
    return np.radians(np.rint(azimuth / width) % bins * width)


def records_of_step(step: int, usable: NDArray[np.integer], batch: int, seed: int) -> NDArray[np.integer]:
    """Records of one step (counted from 1): the next `batch` of the epoch's own permutation.

    An epoch has `len(usable) // batch` steps; what remains of its permutation is left out.
    """
    epoch, position = divmod(step - 1, len(usable) // batch)
    order = np.random.default_rng([seed, epoch]).permutation(usable)
    return order[position * batch : (position + 1) * batch]


def batches(
    views: Views, *, batch: int, seed: int, first: int, last: int, device: torch.device | str
) -> Iterator[Batch]:
    """The batches of steps `first` to `last`, each prepared while the one before is used.

    Raises:
        InputError: if a batch is larger than the set of usable views.
    """
    if batch > len(views.usable):
        raise InputError(
            "parameter 'train.batch' is larger than the training set",
            expected=f"at most {len(views.usable)}, the number of views with foreground",
            found=str(batch),
            fix="lower train.batch or raise features.views",
        )

    if first > last:
        return

    def prepare(step: int) -> Batch:
        return views.batch(records_of_step(step, views.usable, batch, seed), device)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as reader:
        ahead = reader.submit(prepare, first)
        for step in range(first, last + 1):
            ready = ahead.result()
            if step < last:
                ahead = reader.submit(prepare, step + 1)
            yield ready


def _load_all(cache: ViewCache) -> Tensor:
    n = len(cache.image_ids)
    tokens = torch.empty(n, cache.grid[0] * cache.grid[1], cache.dim, dtype=torch.float16)
    with progress(total=n, desc="reading features", unit="views") as bar:
        for start in range(0, n, _READ):
            part = cache.tokens(np.arange(start, min(start + _READ, n)))
            tokens[start : start + len(part)] = torch.from_numpy(part)
            bar.update(len(part))
    return tokens
