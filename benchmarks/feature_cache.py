"""Filling the feature cache against the bare backbone on the same pictures, already decoded and in memory.

The ratio says how much decoding, resizing, checksums and HDF5 cost beside the backbone.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import common
import numpy as np
import torch
from common import Options, Row, Timing, Workload
from synthetic import backbone_spec, make_backbone, write_spair

from spheremap.data.adapters import spair
from spheremap.features.cache.builder import (
    CacheSpec,
    FeaturesSpec,
    build_shard,
    decode_views,
    select_sources,
)


def cache_spec(work: Workload, batch: int, precision: str = "float32", shards: int = 1) -> CacheSpec:
    """Parameters of a cache of a backbone with random weights."""
    features = FeaturesSpec(
        backbone="random", views=1, mirror=False, crop_scale=(0.5, 1.5), crop_ratio=(0.75, 4 / 3), seed=0,
        batch=batch, precision=precision, shards=shards, fit="pad",  # type: ignore[arg-type]
    )  # fmt: skip
    return CacheSpec(features, backbone_spec(work), "synthetic")


def measure(options: Options) -> Iterator[Row]:
    work = common.choose(options, common.TINY, common.SMALL, common.PAPER)
    count, batch = common.choose(options, (6, 2), (64, 8), (512, 32))
    precision = "bfloat16" if options.on_gpu else "float32"
    spec, size, grid = cache_spec(work, batch, precision), work.side * work.patch, (work.side, work.side)
    seconds: list[
        float
    ] = []  # without what does not grow with the number of pictures, such as loading weights
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), Path(name) / "backbone.safetensors"
        extractor, _ = make_backbone(work, weights, options.device, precision)
        only_test = {"train": (0, 0), "val": (0, 0), "test": (count, count)}
        write_spair(folder, 1, only_test, (80, 60) if options.tiny else (500, 375))
        sources = select_sources(spair.read_folder(folder, {}).tables, "images")
        inputs = [decode_views(s, spec.features, "images", size, grid)[0].pixels for s in sources]
        decoded = torch.from_numpy(np.stack(inputs))

        def bare() -> None:
            for part in decoded.split(batch):
                extractor(part)

        def fill() -> None:
            summary = build_shard(
                spec, sources, weights=weights, kind="images", shard=(0, 1), provenance={},
                out=folder / "cache.h5", device=options.device, threads=options.threads,
            )  # fmt: skip
            seconds.append(summary.seconds)

        functions = {"bare backbone": bare, "cache, whole command": fill}
        timings = common.alternate(functions, repeats=options.repeats, device=options.device)
    timings["cache, per picture"] = Timing(tuple(seconds[-options.repeats :]))
    note = f"{count} pictures of {work.model}, {work.side}x{work.side} patches, {precision}"
    for variant, timing in timings.items():
        share = timings["bare backbone"].median / timing.median
        row = {"variant": variant, **timing.columns(), "images_per_s": count / timing.median}
        yield row | {"share_of_bare": share, "note": note}


main = partial(common.run, "feature_cache", __doc__, measure, repeats=3)

if __name__ == "__main__":
    main()
