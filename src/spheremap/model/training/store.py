"""Where the tokens of the training views are kept, and how a batch of them gets to the training device."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.progress import progress

GIB = 2**30
DEVICE_SHARE = 0.5  # of the memory free on a GPU that the features may take
_READ = 256  # records read at once when the cache is loaded whole
_BLOCK = 2**28  # bytes; the allocator of pinned memory rounds up to a power of two


class ViewCache(Protocol):
    """What training needs of a `spheremap.features.cache.FeatureCache`."""

    grid: tuple[int, int]
    dim: int
    image_ids: list[str]
    mirrored: NDArray[np.bool_]
    masks: NDArray[np.bool_]

    def tokens(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float16]:
        """Tokens `(k, N, D)` of some records."""
        ...


class TokenStore(Protocol):
    """Source of batches on one device; on a GPU without making the host wait for it."""

    held: str  # where, in words
    device: torch.device

    def gather(self, records: NDArray[np.integer]) -> Tensor:
        """Tokens `(k, N, D)` float16 of some records, on the device."""
        ...


def choose_store(cache: ViewCache, device: torch.device | str, memory: float) -> TokenStore:
    """The nearest place that has room: the GPU, main memory (pinned, for a GPU), or else the disk.

    Args:
        cache: features of all views.
        device: to train on.
        memory: GiB of main memory that the features may take.
    """
    device = torch.device(device)
    size = len(cache.image_ids) * cache.grid[0] * cache.grid[1] * cache.dim * 2
    if device.type == "cuda" and size <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return Held(cache, device)
    if size > memory * GIB:
        return OnDisk(cache, device)
    return Pinned(cache, device) if device.type == "cuda" else Held(cache, device)


class Held:
    """All tokens in the memory of the training device."""

    def __init__(self, cache: ViewCache, device: torch.device) -> None:
        self.device = device
        self.held = "held in memory" if device.type == "cpu" else "held on the GPU"
        shape = (len(cache.image_ids), cache.grid[0] * cache.grid[1], cache.dim)
        self._tokens = torch.empty(shape, dtype=torch.float16, device=device)
        _read_all(cache, lambda start, part: self._tokens[start : start + len(part)].copy_(part))
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # batches are gathered on another stream

    def gather(self, records: NDArray[np.integer]) -> Tensor:
        return self._tokens[upload([torch.from_numpy(np.asarray(records, np.int64))], self.device)[0]]


class Pinned:
    """All tokens in pinned main memory, from which a GPU copies a batch record by record."""

    def __init__(self, cache: ViewCache, device: torch.device) -> None:
        self.device, self.held = device, "held in pinned memory"
        self._record = (cache.grid[0] * cache.grid[1], cache.dim)
        count = len(cache.image_ids)
        self._per_block = max(1, _BLOCK // (2 * self._record[0] * self._record[1]))
        self._blocks = [
            torch.empty(
                min(self._per_block, count - start), *self._record, dtype=torch.float16, pin_memory=True
            )
            for start in range(0, count, self._per_block)
        ]
        _read_all(cache, self._fill)

    def _fill(self, start: int, part: Tensor) -> None:
        for number, record in enumerate(part, start):
            self._at(number).copy_(record)

    def _at(self, record: int) -> Tensor:
        return self._blocks[record // self._per_block][record % self._per_block]

    def gather(self, records: NDArray[np.integer]) -> Tensor:
        batch = torch.empty(len(records), *self._record, dtype=torch.float16, device=self.device)
        for row, record in zip(batch, records.tolist(), strict=True):
            row.copy_(self._at(record), non_blocking=True)
        return batch


class OnDisk:
    """Tokens read from the cache batch by batch: memory does not grow with the cache."""

    def __init__(self, cache: ViewCache, device: torch.device) -> None:
        self.device, self.held = device, "read from disk batch by batch"
        self._cache = cache

    def gather(self, records: NDArray[np.integer]) -> Tensor:
        tokens = torch.from_numpy(self._cache.tokens(records))
        if self.device.type == "cuda":
            tokens = tokens.pin_memory()
        return tokens.to(self.device, non_blocking=True)


def upload(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy int64 vectors to a device: to a GPU all in one go, from pinned memory, without waiting."""
    if device.type == "cpu":
        return list(tensors)
    # one row each, of whole cache lines: kernels are compiled for aligned and for other addresses
    width = -(-max(map(len, tensors)) // 16) * 16
    rows = torch.zeros(len(tensors), width, dtype=torch.int64, pin_memory=True)
    for row, tensor in zip(rows, tensors, strict=True):
        row[: len(tensor)] = tensor
    uploaded = rows.to(device, non_blocking=True)
    return [row[: len(tensor)] for row, tensor in zip(uploaded, tensors, strict=True)]


def _read_all(cache: ViewCache, put: Callable[[int, Tensor], object]) -> None:
    n = len(cache.image_ids)
    with progress(total=n, desc="reading features", unit="views") as bar:
        for start in range(0, n, _READ):
            part = torch.from_numpy(cache.tokens(np.arange(start, min(start + _READ, n))))
            put(start, part)
            bar.update(len(part))
