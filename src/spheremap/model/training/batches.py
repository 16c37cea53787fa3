"""Batches of cached training views, in an order that depends on seed and step alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.data.tables import Tables
from spheremap.data.viewpoint_bins import bin_centre
from spheremap.model.head.foreground import Foreground
from spheremap.model.training.shares import Share
from spheremap.model.training.store import ViewCache, choose_store, upload

_INDEX = ("counts", "offsets", "rows", "image", "patch", "slots")  # the tensors of a `Foreground`
_QUEUED = 2  # steps that a GPU may have before it


@dataclass(frozen=True)
class Whole:
    """The batch that another one is a share of, as far as every process knows it.

    Attributes:
        part: places of the share's views in it.
        weight: `(3,)` float32, see `shares.Share.weight`.
        azimuth: `(B,)` float32, as in `Batch`.
        valid: `(B,)` bool, views with foreground.
    """

    part: slice
    weight: Tensor
    azimuth: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Batch:
    """B views on the training device.

    Attributes:
        tokens: `(B, N, D)` float16.
        foreground: index of the M foreground tokens.
        category: `(M,)` int64, category of each of them.
        azimuth: `(B,)` float32 radians, the centre of the view's bin; NaN where unknown.
        whole: None, unless these are a process's share of a batch.
    """

    tokens: Tensor
    foreground: Foreground
    category: Tensor
    azimuth: Tensor
    whole: Whole | None = None


class Views:
    """The training views of a cache, with what the tables know of their images.

    Attributes:
        usable: records that have foreground, the ones trained on; the others could not influence any loss.
        grid, dim: as in the cache.
        category: of every record, its number among the head's.
        azimuth: of every record, radians, the centre of its bin; NaN where unknown.
        image: of every record, the number of its image.
        place: where the tokens are kept, see `store.choose_store`.
        device: where batches are put.

    Args:
        cache: features of the views.
        tables: what is known of their images.
        categories: those of the head.
        bins: of the viewpoint.
        memory: GiB of main memory that the tokens may take.
        device: to train on.

    Raises:
        ProvenanceError: if the cache holds an image or has a category that the tables or the head do not.
        InputError: if no view has any foreground.
    """

    def __init__(
        self,
        cache: ViewCache,
        tables: Tables,
        categories: Sequence[str],
        *,
        bins: int,
        memory: float,
        device: torch.device | str = "cpu",
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
        self.category = np.array([categories.index(name) for name in images["category"]])
        self.azimuth = bin_centre(images["azimuth"].to_numpy(np.float64), bins)
        self.image = np.unique(cache.image_ids, return_inverse=True)[1]
        self._masks = cache.masks
        self._store = choose_store(cache, device, memory)
        self.place, self.device = self._store.place, self._store.device

    def batch(self, records: NDArray[np.integer], grain: tuple[int, int] | None = None) -> Batch:
        """Some views, by record number of the cache; for `grain`, see `Foreground`."""
        return self._batch(records, grain)[0]

    def share(
        self, records: NDArray[np.integer], grain: tuple[int, int] | None, share: Share, step: int
    ) -> Batch:
        """A share of the batch of a step; only tokens of the share are read."""
        masks = self._masks[records]
        of_whole = (share.weight(masks, step), self.azimuth[records], masks.any(axis=1).astype(np.float64))
        batch, (weight, azimuth, valid) = self._batch(records[share.part], grain, of_whole)
        return replace(batch, whole=Whole(share.part, weight.float(), azimuth.float(), valid > 0))

    def _batch(
        self,
        records: NDArray[np.integer],
        grain: tuple[int, int] | None,
        more: Sequence[NDArray[np.float64]] = (),
    ) -> tuple[Batch, list[Tensor]]:
        """A batch, and `more` vectors that are copied to the device along with it."""
        on_host = Foreground.from_masks(self._masks[records], grain=grain)
        category = torch.from_numpy(np.append(self.category[records], 0))[on_host.image]  # padding has 0
        # bits, to travel along
        floats = [torch.from_numpy(values).view(torch.int64) for values in (self.azimuth[records], *more)]
        index = [getattr(on_host, name) for name in _INDEX]
        uploaded = upload([*index, category, *floats], self.device)
        index, category = uploaded[: len(index)], uploaded[len(index)]
        azimuth, *others = (bits.view(torch.float64) for bits in uploaded[len(index) + 1 :])
        batch = Batch(
            tokens=self._store.gather(records),
            foreground=Foreground(**dict(zip(_INDEX, index, strict=True)), width=on_host.width),
            category=category,
            azimuth=azimuth.float(),
        )
        return batch, others


def records_of_step(step: int, usable: NDArray[np.integer], batch: int, seed: int) -> NDArray[np.integer]:
    """Records of one step (counted from 1): the next `batch` of the epoch's own permutation.

    An epoch has `len(usable) // batch` steps; what remains of its permutation is left out.
    """
    epoch, position = divmod(step - 1, len(usable) // batch)
    order = np.random.default_rng([seed, epoch]).permutation(usable)
    return order[position * batch : (position + 1) * batch]


def batches(
    views: Views,
    *,
    batch: int,
    seed: int,
    first: int,
    last: int,
    grain: tuple[int, int] | None = None,
    share: Share | None = None,
) -> Iterator[Batch]:
    """The batches of steps `first` to `last`, or a share of each, prepared while the one before is used.

    A thread prepares them; on a GPU its copies run on a stream of their own, beside the arithmetic.
    """
    if first > last:
        return

    gpu = _Copies(views.device) if views.device.type == "cuda" else None

    def prepare(step: int) -> Batch:
        with nullcontext() if gpu is None else gpu.aside():
            records = records_of_step(step, views.usable, batch, seed)
            return views.batch(records, grain) if share is None else views.share(records, grain, share, step)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as reader:
        ahead = reader.submit(prepare, first)
        for step in range(first, last + 1):
            ready = ahead.result()
            if gpu is not None:
                gpu.hand_over(ready)
            if step < last:
                ahead = reader.submit(prepare, step + 1)
            yield ready
            if gpu is not None:
                gpu.step_is_queued()


class _Copies:
    """A stream of its own for the copies of batches to a GPU, and a limit to how far they run ahead."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._copied = torch.cuda.Event()
        self._queued: deque[torch.cuda.Event] = deque()  # one per step that the GPU was given

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Copy inside the block on the stream, in the thread that reads.

        With many steps queued, the batches of all of them would fill the GPU: that thread waits, and in the
        end also the one that trains, while the GPU has its hands full.
        """
        if len(self._queued) > _QUEUED:
            self._queued.popleft().synchronize()
        with torch.cuda.stream(self._stream):
            yield
            self._copied = self._stream.record_event()

    def hand_over(self, batch: Batch) -> None:
        """Let the current stream wait for a batch, and its memory not be used again before that is done."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._copied)
        index = [getattr(batch.foreground, name) for name in _INDEX]
        whole = batch.whole
        of_whole = () if whole is None else (whole.weight, whole.azimuth, whole.valid)
        for tensor in (batch.tokens, batch.category, batch.azimuth, *index, *of_whole):
            tensor.record_stream(stream)

    def step_is_queued(self) -> None:
        """Remember when the GPU will have done all that it was given so far."""
        self._queued.append(torch.cuda.current_stream(self._device).record_event())
