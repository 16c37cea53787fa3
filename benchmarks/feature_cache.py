"""Filling the feature cache against the bare backbone on the same pictures, already decoded and in memory.

The ratio says how much decoding, resizing, checksums and HDF5 cost beside the backbone.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import Options, Timing, alternate, read_options, write_rows
from synthetic import photographs
from training_step import PAPER, SMALL, TINY, Workload, make_backbone

from spheremap.features.backbones.spec import BackboneSpec, ImageSizes, WeightsSpec
from spheremap.features.cache.builder import (
    CacheSpec,
    FeaturesSpec,
    build_shard,
    decode_views,
    select_sources,
)


def cache_spec(work: Workload, batch: int, views: int = 1, precision: str = "float32") -> CacheSpec:
    """Parameters of a cache of a backbone with random weights."""
    size = work.side * work.patch
    backbone = BackboneSpec(
        model=work.model,
        weights=WeightsSpec(source="random", seed=0),
        block=work.block,
        norm=False,
        facet="token",
        image_size=ImageSizes(size, size),
    )
    features = FeaturesSpec(
        backbone="random",
        views=views,
        crop_scale=(0.5, 1.5),
        crop_ratio=(0.75, 4 / 3),
        seed=0,
        batch=batch,
        precision=precision,  # type: ignore[arg-type]
        shards=1,
    )
    return CacheSpec(features, backbone, "synthetic")


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments, repeats=3)
    on_gpu = options.device.type == "cuda"
    work = TINY if options.tiny else PAPER if on_gpu else SMALL
    count, batch = (6, 2) if options.tiny else (512, 32) if on_gpu else (64, 8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = measure(options, work, count, batch, folder)
    write_rows("feature_cache", rows, options)


def measure(
    options: Options, work: Workload, count: int, batch: int, folder: Path
) -> list[dict[str, object]]:
    precision = "bfloat16" if options.device.type == "cuda" else "float32"
    extractor, _ = make_backbone(work, folder, options.device, precision)
    tables = photographs(folder / "pictures", 1, count, side=80 if options.tiny else 500)
    spec = cache_spec(work, batch, precision=precision)
    sources = select_sources(tables, "images")
    size, grid = work.side * work.patch, (work.side, work.side)
    inputs = np.stack([decode_views(s, spec.features, "images", size, grid)[0].pixels for s in sources])
    decoded = torch.from_numpy(inputs)

    def bare() -> None:
        for part in decoded.split(batch):
            extractor(part)

    filling: list[float] = []

    def cache() -> None:
        summary = build_shard(
            spec,
            sources,
            weights=folder / "backbone.safetensors",
            kind="images",
            shard=(0, 1),
            provenance={},
            out=folder / "cache.h5",
            device=options.device,
            threads=options.threads,
        )
        filling.append(summary.seconds)

    functions = {"bare backbone": bare, "cache, whole command": cache}
    timings = alternate(functions, repeats=options.repeats, device=options.device)
    # without what does not grow with the number of pictures: loading the weights, writing the header
    timings["cache, per picture"] = Timing(tuple(filling[-options.repeats :]))
    note = f"{count} pictures of {work.model}, {work.side}x{work.side} patches, {precision}"
    return [
        {
            "variant": name,
            **timing.columns(),
            "images_per_s": count / timing.median,
            "share_of_bare": timings["bare backbone"].median / timing.median,
            "note": note,
        }
        for name, timing in timings.items()
    ]


if __name__ == "__main__":
    main()
