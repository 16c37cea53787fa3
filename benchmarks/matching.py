"""Matching from the feature cache: against pair by pair, and a whole evaluation of SPair-71k's size.

First, all pairs of a category from the cache against pair by pair, both images extracted anew. Both answer
the same questions: which target patch is most similar, by features and sphere, to each keypoint of the
source. The answers are checked to be equal.

Second, an evaluation with all its metrics and intervals against its floors: reading every image of the cache
once, and reading and mapping it to the sphere once. Each is a process of its own, so that its peak of memory
is its own. What pair by pair would take at this size is the time of a few pairs, scaled up.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import Options, Timing, allocated_peak, alternate, read_options, wait_for, write_rows
from feature_cache import cache_spec
from numpy.typing import NDArray
from synthetic import photographs, write_cache
from training_step import PAPER, SMALL, TINY, Workload, make_backbone

from spheremap.base.device import choose_device
from spheremap.data.tables import Tables
from spheremap.features.cache import FeatureCache
from spheremap.features.cache.builder import Source, build_shard, decode_views, select_sources
from spheremap.features.geometry import patch_of
from spheremap.methods.descriptors import mix, row_weights, unit
from spheremap.methods.matcher import Matcher
from spheremap.methods.mutual import Mutual
from spheremap.methods.queries import build_queries
from spheremap.methods.rows import FurtherRows, Row
from spheremap.methods.viewpoint import Viewpoint
from spheremap.metrics.evaluation import EvaluateParams, evaluate
from spheremap.model.head import Head, sphere_points

SPHERE_WEIGHT = 0.2
WEIGHTS = row_weights(SPHERE_WEIGHT)["fused"]
KEYPOINTS, VISIBLE = 9, 0.9  # of each category, and the chance to see one: 7.3 in common per pair


@dataclass(frozen=True)
class Benchmark:
    """Size of a data set to evaluate."""

    categories: int
    images: int  # per category
    pairs: int  # per category, at most images * (images - 1)
    side: int  # patches per row and column
    dim: int


# 12,240 pairs with some 89,000 keypoints in common, as in the test split of SPair-71k (12,234 pairs, 88,000);
# ViT-B/14 at 840 px
SPAIR = Benchmark(categories=18, images=27, pairs=680, side=60, dim=768)
FEW = Benchmark(categories=2, images=4, pairs=6, side=6, dim=64)


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments, repeats=5)
    on_gpu = options.device.type == "cuda"
    work = TINY if options.tiny else PAPER if on_gpu else SMALL
    images = 4 if options.tiny else 50 if on_gpu else 12
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, work, images, Path(folder))
        rows += measure_evaluation(options, FEW if options.tiny else SPAIR, Path(folder))
    write_rows("matching", rows, options)


def measure(options: Options, work: Workload, images: int, folder: Path) -> list[dict[str, Any]]:
    device = options.device
    extractor, _ = make_backbone(work, folder, device)
    tables = photographs(folder / "pictures", 1, images, side=80 if options.tiny else 500)
    spec, sources = cache_spec(work, batch=8), select_sources(tables, "images")
    head = Head.initialise(work.dim, ["category00"], seed=0).to(device)
    pairs = tables.pairs[tables.pairs["split"] == "test"].reset_index(drop=True)
    size, grid = work.side * work.patch, (work.side, work.side)
    by_id = {source.image_id: source for source in sources}
    keypoints = dict(list(tables.keypoints.groupby("image_id")))

    built = build_shard(
        spec,
        sources,
        weights=folder / "backbone.safetensors",
        kind="images",
        shard=(0, 1),
        provenance={},
        out=folder / "cache.h5",
        device=device,
        threads=options.threads,
    )

    def describe(image: Source) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.float64]]:
        """Unit features `(N, D)`, sphere points `(N, 3)` and the box of an image."""
        view = decode_views(image, spec.features, "images", size, grid)[0]
        tokens = extractor(
            torch.from_numpy(view.pixels.copy()).unsqueeze(0)
        ).half()  # as precise as in the cache
        return unit(tokens[0]), unit(sphere_points(head, tokens)[0]), view.box

    def match_pair(source: str, target: str) -> NDArray[np.int64]:
        features, points, box = describe(by_id[source])
        target_features, target_points, _ = describe(by_id[target])
        patch = torch.from_numpy(patch_of(keypoints[source][["x", "y"]].to_numpy(), box, grid)).to(device)
        similarity = mix(features[patch] @ target_features.T, points[patch] @ target_points.T, WEIGHTS)
        return similarity.argmax(dim=1).cpu().numpy()

    turn, few = 0, 2 if options.tiny else 4

    def pair_by_pair() -> None:
        nonlocal turn
        for i in range(turn, turn + few):
            match_pair(*pairs.loc[i % len(pairs), ["source", "target"]])
        turn += few

    with FeatureCache.open([folder / "cache.h5"]) as cache:

        def from_cache() -> dict[tuple[str, str], NDArray[np.int64]]:
            queries = build_queries(cache, tables, pairs)
            matcher = Matcher(cache, {"fused": Row(WEIGHTS)}, lambda x: sphere_points(head, x), device=device)
            best = [
                block.similarity["fused"].argmax(dim=1).cpu().numpy() for block in matcher.blocks(queries)
            ]
            parts = np.split(np.concatenate(best), queries.first[1:-1])
            names = zip(queries.source_id.tolist(), queries.target_id.tolist(), strict=True)
            return dict(zip(names, parts, strict=True))

        answers = from_cache()
        compared = [(a, b) for a, b in answers if a < b][:few]
        equal = np.concatenate([answers[pair] == match_pair(*pair) for pair in compared])
        # pictures in a batch of another size are rounded otherwise, which may decide a tie
        if equal.mean() < 0.95:
            raise RuntimeError(f"only {equal.mean():.0%} of the answers agree")
        timings = alternate(
            {"from the cache": from_cache, "pair by pair": pair_by_pair},
            repeats=options.repeats,
            device=device,
        )

    counts = {"from the cache": len(pairs), "pair by pair": few}
    per_pair = {name: Timing(tuple(s / counts[name] for s in of.seconds)) for name, of in timings.items()}
    filled = tuple(s + built.seconds / len(pairs) for s in per_pair["from the cache"].seconds)
    per_pair["from the cache, filling it included"] = Timing(filled)
    ours = per_pair["from the cache"].median
    return [
        {
            "variant": name,
            **timing.columns(),
            "times_ours": timing.median / ours,
            "note": f"per pair, {len(pairs)} pairs of {images} pictures, {work.model}, "
            f"{work.side}x{work.side} patches; {equal.mean():.1%} of the answers equal",
        }
        for name, timing in per_pair.items()
    ]


def measure_evaluation(options: Options, size: Benchmark, folder: Path) -> list[dict[str, Any]]:
    """A whole evaluation and its floors, once each, on features that are noise."""
    path = folder / "evaluation.h5"
    write_cache(path, _Pictures(size), {})
    names = {
        "read": "floor: reading each image once",
        "map": "floor: reading and mapping each image once",
        "evaluate": "evaluation, intervals included",
    }
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for task in names:
        order = {"task": task, "path": str(path), "size": vars(size),
                 "device": str(options.device), "threads": options.threads}  # fmt: skip
        command = [sys.executable, __file__, "--measure", json.dumps(order)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds[task], peaks[task] = json.loads(answer.stdout)
    path.unlink()
    work = TINY if options.tiny else replace(PAPER, side=size.side, records=2)
    pair_by_pair = time_pairs(options, work, folder / "at this size")
    count = size.categories * size.pairs
    names["pairs"] = f"pair by pair, scaled up from {len(pair_by_pair.seconds)} pairs"
    seconds["pairs"], peaks["pairs"] = pair_by_pair.median * count, np.nan
    points = int(_tables(size).pairs.attrs["points"])
    return [
        {
            "variant": name,
            **Timing((seconds[task],)).columns(),
            "times_ours": seconds[task] / seconds["evaluate"],
            "share_of_floor": seconds["map"] / seconds[task],
            "peak_mb": peaks[task] * 2**20 / 1e6,
            "note": f"{count} pairs of {size.categories * size.images} pictures, "
            f"{points} keypoints in common, {size.side}x{size.side} patches of width {size.dim}",
        }
        for task, name in names.items()
    ]


def time_pairs(options: Options, work: Workload, folder: Path) -> Timing:
    """Extract two pictures, already decoded, map both to the sphere and match a pair's keypoints."""
    folder.mkdir()
    extractor, pictures = make_backbone(work, folder, options.device)
    head = Head.initialise(work.dim, ["category00"], seed=0).to(options.device)
    patches = torch.arange(KEYPOINTS, device=options.device)

    def pair() -> None:
        described = []
        for picture in pictures[:2]:
            tokens = extractor(picture.unsqueeze(0))
            described.append((unit(tokens[0]), unit(sphere_points(head, tokens)[0])))
        (a, points_a), (b, points_b) = described
        mix(a[patches] @ b.T, points_a[patches] @ points_b.T, WEIGHTS).argmax(dim=1)

    return alternate({"pair": pair}, repeats=1 if options.tiny else 3, device=options.device)["pair"]


class _Pictures:
    """What `write_cache` needs: features of pictures, made one at a time."""

    def __init__(self, size: Benchmark) -> None:
        self.image_ids = _image_ids(size)
        self.grid, self.dim = (size.side, size.side), size.dim
        self.masks = np.ones((len(self.image_ids), size.side**2), dtype=bool)
        rows = size.side**2 + len(self.image_ids)
        self._noise = (
            np.random.default_rng(0).standard_normal((rows, size.dim), np.float32).astype(np.float16)
        )

    @property
    def data(self) -> "_Pictures":
        """Tokens by record; the noise of one is that of the last, moved on by a patch."""
        return self

    def __getitem__(self, record: int) -> NDArray[np.float16]:
        return self._noise[record : record + self.grid[0] * self.grid[1]]


def _image_ids(size: Benchmark) -> list[str]:
    return [f"category{c:02d}/{i:03d}" for c in range(size.categories) for i in range(size.images)]


def _tables(size: Benchmark) -> Tables:
    """Keypoints anywhere in pictures of 100 px, and pairs drawn within each category."""
    rng = np.random.default_rng(1)
    ids = _image_ids(size)
    category = [image_id.split("/")[0] for image_id in ids]
    images = pd.DataFrame({"image_id": ids, "category": category, "azimuth": rng.uniform(0, 360, len(ids))})
    images = images.assign(x1=10.0, y1=10.0, x2=90.0, y2=90.0, width=100, height=100)
    visible = rng.random((len(ids), KEYPOINTS)) < VISIBLE
    keypoints = pd.DataFrame(
        {
            "image_id": np.repeat(ids, KEYPOINTS),
            "keypoint_id": np.tile([str(k) for k in range(KEYPOINTS)], len(ids)),
            "x": np.where(visible, rng.uniform(10, 90, visible.shape), np.nan).ravel(),
            "y": np.where(visible, rng.uniform(10, 90, visible.shape), np.nan).ravel(),
            "visible": visible.ravel().astype(int),
        }
    )
    pairs, points = [], 0
    for start in range(0, len(ids), size.images):
        every = [(a, b) for a in range(size.images) for b in range(size.images) if a != b]
        for number in rng.choice(len(every), size.pairs, replace=False):
            a, b = every[number]
            pairs.append(("test", ids[start + a], ids[start + b]))
            points += int((visible[start + a] & visible[start + b]).sum())
    table = pd.DataFrame(pairs, columns=["split", "source", "target"])
    table.attrs["points"] = points
    return Tables(images, keypoints, table)


def _measure_alone(order: dict[str, Any]) -> None:
    """Do one task, and print its seconds and the peak of memory in MiB."""
    torch.set_num_threads(order["threads"])
    device, size = choose_device(order["device"]), Benchmark(**order["size"])
    tables = _tables(size)
    head = Head.initialise(size.dim, tables.categories, seed=0).to(device)
    params = EvaluateParams(
        split="test", sphere_weight=SPHERE_WEIGHT, alphas=(0.1, 0.05, 0.01), threshold="box",
        frame="original", source="patch", readout="argmax", window=15, temperature=0.02, kap_labels="centre",
        viewpoint_bins=8, bootstrap=1000, confidence=0.95, baseline="features", sweep=(), seed=0,
        further=FurtherRows((), Mutual(radius=1.0, penalty=0.0), Viewpoint(near=0.0, far=0.0)),
    )  # fmt: skip
    with FeatureCache.open([Path(order["path"])]) as cache:
        cache.tokens([0])
        wait_for(device)
        start = time.perf_counter()
        if order["task"] == "evaluate":
            evaluate(cache, tables, head, params, dataset="noise", device=device)
        else:
            for record in range(0, len(cache), 8):
                tokens = cache.tokens(range(record, min(record + 8, len(cache))))
                if order["task"] == "map":
                    sphere_points(head, tokens)
        wait_for(device)
        seconds = time.perf_counter() - start
    print(json.dumps([seconds, allocated_peak(device)]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measure_alone(json.loads(sys.argv[2]))
    else:
        main()
