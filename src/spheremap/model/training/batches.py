"""Batches of cached training views, in an order that depends on seed and step alone."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.data.tables import Tables
from spheremap.data.viewpoint_bins import bin_centre
from spheremap.kernels import patch_coordinates
from spheremap.model.head.foreground import Foreground
from spheremap.model.training.store import ViewCache, choose_store, upload

_INDEX = ("counts", "offsets", "rows", "image", "patch", "slots")  # the tensors of a `Foreground`
ALL_ROUND = 3  # azimuths
_QUEUED = 2  # steps that a GPU may have before it


@dataclass(frozen=True)
class Batch:
    """B views on the training device.

    Attributes:
        tokens: `(B, N, D)` float16.
        seen: the same as the mapper sees them, with noise where there is any.
        foreground: index of the M foreground tokens.
        category: `(M,)` int64, category of each of them.
        azimuth: `(B,)` float32 radians, the centre of the view's bin; NaN where unknown.
        all_round: `(B,)` bool, views of categories that are seen from all round, see `Views`.
        coordinates: `(N, 2)` image positions of the patches, see `patch_coordinates`.
        global_batch: views that all processes have together in this batch.
    """

    tokens: Tensor
    seen: Tensor
    foreground: Foreground
    category: Tensor
    azimuth: Tensor
    all_round: Tensor
    coordinates: Tensor
    global_batch: int


class Views:
    """The training views of a cache, with what the tables know of their images.

    Attributes:
        usable: records that have foreground, the ones trained on; the others could not influence any loss.
        grid, dim: as in the cache.
        category: of every record, its number among the head's.
        azimuth: of every record, radians, the centre of its bin, on the other side for mirrored views; NaN
            where unknown.
        all_round: of every record, whether the views of its category are known from at least `ALL_ROUND`
            azimuths. From two opposite ones nobody can tell which way it rises.
        image: of every record, the number of its image.
        held: where the tokens are, in words, see `store.choose_store`.
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
        unknown_categories = sorted(set(images["category"]) - set(categories))
        if unknown_categories:
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
        azimuth = images["azimuth"].to_numpy(np.float64)
        self.azimuth = bin_centre(np.where(cache.mirrored, -azimuth, azimuth), bins)
        views = pd.DataFrame({"category": self.category, "azimuth": self.azimuth})
        azimuths = views.groupby("category")["azimuth"].nunique()
        self.all_round = azimuths.loc[self.category].to_numpy() >= ALL_ROUND
        self.image = np.unique(cache.image_ids, return_inverse=True)[1]
        self._masks = cache.masks
        self._store = choose_store(cache, device, memory)
        self.held, self.device = self._store.held, self._store.device
        self._coordinates = patch_coordinates(self.grid, self.device)
        self._known = [
            torch.from_numpy(of).to(self.device)
            for of in (self.category, self.azimuth.astype(np.float32), self.all_round)
        ]

    def batch(
        self,
        records: NDArray[np.integer],
        pad_to: tuple[int, int] | None = None,
        part: slice = slice(None),
    ) -> Batch:
        """Some views, by record number of the cache.

        Args:
            records: of the batch.
            pad_to: see `Foreground`.
            part: those that this process takes; no others are read.
        """
        own = records[part]
        on_host = Foreground.from_masks(self._masks[own], pad_to=pad_to)
        *index, record = upload(
            [*(getattr(on_host, name) for name in _INDEX), torch.from_numpy(own)], self.device
        )
        foreground = Foreground(**dict(zip(_INDEX, index, strict=True)), width=on_host.width)
        category, azimuth, all_round = (known[record] for known in self._known)
        tokens = self._store.gather(own)
        return Batch(
            tokens=tokens,
            seen=tokens,
            foreground=foreground,
            category=F.pad(category, (0, 1))[foreground.image],  # padding has 0
            azimuth=azimuth,
            all_round=all_round,
            coordinates=self._coordinates,
            global_batch=len(records),
        )


def records_of_step(step: int, usable: NDArray[np.integer], batch: int, seed: int) -> NDArray[np.integer]:
    """Records of one step (counted from 1): the next `batch` of the epoch's own permutation.

    An epoch has `len(usable) // batch` steps; what remains of its permutation is left out.
    """
    epoch, position = divmod(step - 1, len(usable) // batch)
    order = np.random.default_rng([seed, epoch]).permutation(usable)
    return order[position * batch : (position + 1) * batch]


def noisy(tokens: Tensor, share: float, seed: tuple[int, ...], first: int) -> Tensor:
    """Tokens `(B, N, D)` with Gaussian noise of a share of their standard deviation, view by view.

    Drawn on their device, for each view by itself: as view `first` + i of a batch it has the same noise
    whatever part of the batch it is in.
    """
    draw = torch.Generator(tokens.device)
    seen = torch.empty_like(tokens)
    for i, view in enumerate(tokens.float()):
        draw.manual_seed(int(np.random.SeedSequence([*seed, first + i]).generate_state(1, np.uint64)[0] >> 1))
        drawn = torch.randn(view.shape, generator=draw, device=view.device)
        seen[i] = view + share * view.std() * drawn
    return seen


def batches(
    views: Views,
    *,
    batch: int,
    seed: int,
    first: int,
    last: int,
    part: slice = slice(None),
    pad_to: tuple[int, int] | None = None,
    noise: float = 0.0,
) -> Iterator[Batch]:
    """The batches of steps `first` to `last`, or a part of each, prepared while the one before is used.

    A thread prepares them; on a GPU its copies run on a stream of their own, beside the arithmetic.
    """
    if first > last:
        return

    gpu = _Copies(views.device) if views.device.type == "cuda" else None

    def prepare(step: int) -> Batch:
        with nullcontext() if gpu is None else gpu.aside():
            made = views.batch(records_of_step(step, views.usable, batch, seed), pad_to, part)
            if not noise:
                return made
            return replace(made, seen=noisy(made.tokens, noise, (seed, step), part.start or 0))

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
        for tensor in (batch.tokens, batch.seen, batch.category, batch.azimuth, batch.all_round, *index):
            tensor.record_stream(stream)

    def step_is_queued(self) -> None:
        """Remember when the GPU will have done all that it was given so far."""
        self._queued.append(torch.cuda.current_stream(self._device).record_event())
