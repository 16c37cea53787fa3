"""Building one shard of a feature cache: decode → backbone → HDF5.

Decoding runs in a thread pool ahead of the backbone and writing in a thread behind it, both over bounded
queues; memory does not grow with the number of images. A shard appears when it is complete: a killed run
begins the shard again, and finds the finished ones.
"""

import errno
import itertools
import json
import math
import os
import resource
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.base.files import atomic_path
from spheremap.base.progress import progress
from spheremap.config import CacheSlice as CacheSpec
from spheremap.config.backbone import Features as FeaturesSpec
from spheremap.data.images import load_rgb
from spheremap.data.subjects import Subject, subjects_of
from spheremap.data.tables import Tables
from spheremap.features.backbones.extractor import Extractor
from spheremap.features.cache.reader import DTYPES, SCHEMA, record_shapes
from spheremap.features.cache.shards import shard_range
from spheremap.features.cache.views import (
    View,
    blank_view,
    make_view,
    random_resized_crop,
    view_generator,
    whole_box,
)
from spheremap.features.geometry import Grid

Kind = Literal["views", "images", "mirrored", "blank"]
T = TypeVar("T")
S = TypeVar("S")
_QUEUED = 2  # batches that may wait on either side of the backbone
_MIRRORED = {"images": False, "mirrored": True}  # kinds of whole images


BLANK = Subject("blank", "", Path(), None, 0, (0, 0, 0, 0), (0, 0))  # of the one record of kind "blank"


@dataclass(frozen=True)
class Summary:
    """How a build went: records, seconds, and seconds that the backbone stood idle."""

    records: int
    seconds: float
    waited: float

    def __str__(self) -> str:
        rate, idle = self.records / self.seconds, 100 * self.waited / self.seconds
        return (
            f"{self.records} records: {rate:.2f} images/s, backbone waiting for data {idle:.1f} % of the time"
        )


def select_sources(
    tables: Tables, kind: Kind, shard: tuple[int, int] = (0, 1), measured: Collection[str] = ("val", "test")
) -> list[Subject]:
    """The images of one shard, by category, then id.

    Kind "views" takes the distinct source images of the train pairs, kinds "images" and "mirrored" every
    image of the pairs of the splits `measured`: none where nothing is to be measured. Kind "blank" needs no
    image and has a single shard. Shard (i, n) is the i-th of n parts that
    keep categories apart, see `spheremap.features.cache.shards`.

    Raises:
        InputError: if there is nothing to train on, or there are fewer images than shards.
    """
    if kind == "blank":
        return [BLANK]
    pairs = tables.pairs
    if kind == "views":
        wanted = set(pairs.loc[pairs["split"] == "train", "source"])
    else:
        held_out = pairs[pairs["split"].isin(measured)]
        wanted = set(held_out["source"]) | set(held_out["target"])
    images = tables.images[tables.images["image_id"].isin(wanted)].sort_values(["category", "image_id"])
    if kind in _MIRRORED and images.empty:
        return []
    index, count = shard
    if len(images) < count:
        splits = "train" if kind == "views" else "val and test"
        raise InputError(
            f"too few images for a cache of {kind}",
            expected=f"at least {count} (features.shards) in the {splits} pairs",
            found=str(len(images)),
            fix=f"set features.shards to {len(images)} or less"
            if len(images)
            else "add pairs of these splits",
        )
    part = shard_range(images.groupby("category").size().tolist(), index, count)
    return subjects_of(images.iloc[part.start : part.stop], tables.pictures)


def build_shard(
    spec: CacheSpec,
    sources: Sequence[Subject],
    *,
    weights: Path,
    kind: Kind,
    shard: tuple[int, int],
    provenance: dict[str, Any],
    out: Path,
    device: torch.device | str = "cpu",
    threads: int = 1,
) -> Summary:
    """Build one shard of a feature cache.

    Args:
        spec: parameters.
        sources: the shard's images, see `select_sources`.
        weights: safetensors file of the command `weights`.
        kind: training views, whole images, these mirrored, or a blank picture.
        shard: (index, count).
        provenance: how the cache is made; equal for all its shards.
        out: HDF5 file to write.
        device: where the backbone runs.
        threads: decoding threads.

    Raises:
        InputError: for an image or mask that is missing, unreadable, of another size or without foreground,
            or an image larger than the input if it is to keep its resolution.
        ProvenanceError: for one that has changed since the data set was read.
    """
    extractor = Extractor(spec.backbone, weights, device=device, precision=spec.features.precision)
    size = spec.backbone.image_size.train if kind == "views" else spec.backbone.image_size.eval
    grid = extractor.grid(size)
    views = spec.features.views_per_image if kind == "views" else 1
    if kind in _MIRRORED and sources:  # the largest image tells at once whether all fit
        largest = max(sources, key=lambda source: max(source.size))
        whole_box(largest.size, spec.features.fit, size, grid, largest.path)

    def decode(source: Subject) -> list[View]:
        if kind == "blank":
            return [blank_view(extractor.mean_colour, size, grid)]
        return decode_views(source, spec.features, kind, size, grid)

    ids = [source.image_id.encode() for source in sources]
    with _new_shard(out, ids, views, grid, extractor.dim) as file:
        summary = _fill(file, extractor, sources, decode, views, spec.features.batch, threads)
        file["view"][...] = np.tile(np.arange(views), len(ids))
        file["image_id"][...] = np.repeat(np.array(ids, dtype=file["image_id"].dtype), views)
        # fixed-length texts stay in the checksummed object header
        file.attrs["schema"] = np.bytes_(SCHEMA)
        file.attrs["kind"] = np.bytes_(kind)
        file.attrs["grid"] = np.array(grid, dtype=np.int64)
        file.attrs["shard"] = np.array(shard, dtype=np.int64)
        file.attrs["provenance"] = np.bytes_(json.dumps(provenance, sort_keys=True).encode())
        file.attrs["complete"] = True
    return summary


@contextmanager
def _new_shard(out: Path, ids: Sequence[bytes], views: int, grid: Grid, dim: int) -> Iterator[h5py.File]:
    """A file with room for all records, in the layout of `reader`; it becomes `out` after the block."""
    total, patches = len(ids) * views, grid[0] * grid[1]
    types = {**DTYPES, "image_id": f"S{max(map(len, ids), default=1)}"}
    with atomic_path(out) as temporary:
        # HDF5 says late, and not for which file, that the disk is full or a file too large
        largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        rooms = {errno.ENOSPC: shutil.disk_usage(out.parent).free, errno.EFBIG: largest}
        for number, free in rooms.items():
            if free != resource.RLIM_INFINITY and free < 2 * total * patches * dim:
                raise OSError(number, os.strerror(number), str(out))
        # the file format of HDF5 1.10 has checksums for its own structures as well
        with h5py.File(temporary, "w", libver=("v110", "v110")) as file:
            for name, shape in record_shapes(total, patches, dim).items():
                records = 1 if name in ("tokens", "masks") else max(1, min(total, 4096))
                # h5py wants room for a chunk, and there is none in a cache of nothing
                room = None if total else (1, *shape[1:])
                file.create_dataset(
                    name, shape, types[name], maxshape=room, chunks=(records, *shape[1:]), fletcher32=True,
                    track_times=False,
                )  # fmt: skip
            yield file


def decode_views(source: Subject, features: FeaturesSpec, kind: Kind, size: int, grid: Grid) -> list[View]:
    """All network inputs of one image: its training views, or the whole image made square.

    With `features.mirror` the views follow once more as mirrored ones, with boxes from right to left. Of a
    mirrored image the whole input is mirrored, borders and mask included: patch (row, column) shows what
    (row, columns - 1 - column) shows of the image itself. Its box stays that of the image.

    Raises:
        InputError: see `build_shard`.
    """
    image = load_rgb(source.path, source.sha256[0])
    width, height = source.size
    if image.shape[:2] != (height, width):
        raise InputError(
            f"image {source.image_id!r} is not of the size in the tables", where=source.path,
            expected=f"{width}×{height}", found=f"{image.shape[1]}×{image.shape[0]}",
        )  # fmt: skip
    mask = _object_mask(source)
    if kind in _MIRRORED:
        box = whole_box(source.size, features.fit, size, grid, source.path)
        view = make_view(image, mask, box, size, grid)
        return [view.mirrored(grid) if _MIRRORED[kind] else view]
    boxes = (
        random_resized_crop(
            width, height, features.crop_scale, features.crop_ratio,
            view_generator(features.seed, source.image_id, view),
        )
        for view in range(features.views)
    )  # fmt: skip
    made = [make_view(image, mask, box, size, grid) for box in boxes]
    if features.mirror:
        made += [replace(view.mirrored(grid), box=view.box[[2, 1, 0, 3]]) for view in made]
    return made


def _object_mask(source: Subject) -> NDArray[np.bool_]:
    mask = source.mask()
    if not mask.any():
        raise InputError(
            f"image {source.image_id!r} has no foreground",
            where=source.mask_path or source.path,
            expected=f"mask pixels equal to {source.mask_value}",
            found="none",
            fix="correct the mask, or remove the image from the data set",
        )
    return mask


def _fill(
    file: h5py.File,
    extractor: Extractor,
    sources: Sequence[Subject],
    decode: Callable[[Subject], list[View]],
    views: int,
    batch: int,
    threads: int,
) -> Summary:
    """Write tokens, masks and boxes of all records."""
    total = len(sources) * views
    tokens_of, masks_of, boxes = file["tokens"], file["masks"], np.full((total, 4), np.nan)

    def write(start: int, tokens: NDArray[np.float16], group: Sequence[View]) -> None:
        for i, (values, view) in enumerate(zip(tokens, group, strict=True), start):
            tokens_of[i], masks_of[i], boxes[i] = values, view.mask, view.box

    begun, waited = time.perf_counter(), 0.0
    decoders, writer = ThreadPoolExecutor(threads), ThreadPoolExecutor(1)
    try:
        decoded = _prefetch(decoders, decode, sources, threads + math.ceil(_QUEUED * batch / views))
        inputs = itertools.chain.from_iterable(decoded)
        writing: deque[Future[None]] = deque()
        with progress(total=total, desc="features", unit="images") as bar:
            for start in range(0, total, batch):
                before = time.perf_counter()
                group = list(itertools.islice(inputs, batch))
                waited += time.perf_counter() - before
                tokens = extractor(torch.from_numpy(np.stack([view.pixels for view in group])))
                half = tokens.half().cpu()
                _check_finite(half)
                before = time.perf_counter()
                writing.append(writer.submit(write, start, half.numpy(), group))
                if len(writing) > _QUEUED:
                    writing.popleft().result()
                waited += time.perf_counter() - before
                bar.update(len(group))
            for future in writing:
                future.result()
    finally:
        decoders.shutdown(cancel_futures=True)
        writer.shutdown()
    file["boxes"][...] = boxes
    return Summary(total, time.perf_counter() - begun, waited)


def _check_finite(tokens: torch.Tensor) -> None:
    if not torch.isfinite(tokens).all():
        raise InputError(
            "the backbone's tokens do not fit float16",
            expected="finite values below 65504",
            found="infinity or NaN",
            fix="choose another block, set norm: true, or check the weights",
        )


def _prefetch(
    pool: ThreadPoolExecutor, function: Callable[[T], S], items: Iterable[T], ahead: int
) -> Iterator[S]:
    """Results of `function` in order, computed at most `ahead` items in advance."""
    pending: deque[Future[S]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
