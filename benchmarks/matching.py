"""A whole evaluation of SPair-71k's size from the feature cache, with all its metrics and intervals.

The evaluation is that of the paper's three methods. Beside it stand one of twelve, the floors (reading every
image once, and reading and mapping it to the sphere once), and what the three would take pair by pair, both
images extracted anew: the time of a few pairs, scaled up. Each but the last is a process of its own, so that
its peak of memory is its own.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import common
import numpy as np
import pandas as pd
import torch
from common import Options, Row, Timing, Workload
from synthetic import Views, make_backbone, write_cache

from spheremap.config import Evaluate as EvaluateParams
from spheremap.config.scoring import Sweep
from spheremap.data.tables import Tables
from spheremap.features.cache import FeatureCache
from spheremap.methods.adaptation.bottleneck import GridBottleneck
from spheremap.methods.adaptive_flip import AdaptiveFlip
from spheremap.methods.chance import Chance
from spheremap.methods.debiased import Debiased
from spheremap.methods.diy_sc import DiySc
from spheremap.methods.engine.descriptors import unit, weighted_sum
from spheremap.methods.fused import FEATURES, SPHERE, Fused, paper
from spheremap.methods.kernel import Kernel
from spheremap.methods.subpatch import Subpatch
from spheremap.methods.transport import Transport
from spheremap.metrics.evaluate import evaluate
from spheremap.model.head import Head, sphere_points

METHODS = paper(0.2)
FUSED = METHODS["fused"]
DEBIASED, REFINED = Debiased(FEATURES, 10), DiySc("of random weights")
TWELVE = METHODS | {
    "debiased": DEBIASED,
    "debiased_fused": Fused((DEBIASED, SPHERE), 0.2),
    "refined": REFINED,
    "refined_fused": Fused((REFINED, SPHERE), 0.2),
    "fused_subpatch": Subpatch(FUSED),
    "fused_kernel": Kernel(FUSED, 7.0, 0.04),
    "fused_transport": Transport(FUSED, 0, 0.0, 0.1, 10),
    "flip": AdaptiveFlip(FEATURES, 32),
    "chance": Chance(seed=0),
}
WEIGHTS = list(FUSED.parts().values())  # of features and sphere
KEYPOINTS, VISIBLE = 9, 0.9  # of each category, and the chance to see one: 7.3 in common per pair
PARAMS = EvaluateParams(
    split="test", methods=tuple(METHODS), alphas=(0.1, 0.05, 0.01), threshold="box", frame="original",
    source="patch", readout="argmax", window=15, sigma=7.0, temperature=0.02, kap_labels="centre",
    candidates="all", viewpoint_bins=8, bootstrap=1000, resample="clusters", confidence=0.95,
    baseline="features", seed=0, sweep=Sweep("fused", "sphere_weight", ()),
)  # fmt: skip


# 12,240 pairs with some 89,000 keypoints in common, as in the test split of SPair-71k (12,234 pairs, 88,000);
# ViT-B/14 at 840 px
SPAIR, FEW = replace(common.PAPER, side=60, records=486), common.TINY
TASKS = {
    "read": "floor: reading each image once",
    "map": "floor: reading and mapping each image once",
    "evaluate": "evaluation, intervals included",
    "twelve": "evaluation of twelve methods",
}


def measure(options: Options) -> Iterator[Row]:
    size, per_category = (FEW, 6) if options.tiny else (SPAIR, 680)
    tables, points = make_tables(size, per_category)
    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder) / "evaluation.h5", Path(folder) / "weights.safetensors"
        pictures, record = pictures_of(size), {"params": {}, "inputs": {}}
        write_cache(path, pictures, record, "images")
        write_cache(path.with_name("mirrored.h5"), pictures, record, "mirrored")
        write_cache(path.with_name("blank.h5"), pictures_of(replace(size, records=1)), record, "blank")
        found = {
            task: common.in_process(options, time_task, options, size, tables, path, task) for task in TASKS
        }
        pair = time_pairs(options, replace(size, records=2), weights)
    count = len(tables.pairs)
    taken = {TASKS[task]: (seconds, peak) for task, (seconds, _, peak) in found.items()}
    taken[f"pair by pair, scaled up from {len(pair.seconds)} pairs"] = (pair.median * count, np.nan)
    note = (
        f"{count} pairs of {size.records} pictures, {points} keypoints in common, "
        f"{size.side}x{size.side} patches of width {size.dim}"
    )
    for variant, (seconds, peak) in taken.items():
        row = {
            "variant": variant,
            **Timing((seconds,)).columns(),
            "times_ours": seconds / found["evaluate"][0],
        }
        yield row | {"share_of_floor": found["map"][0] / seconds, "peak_mb": peak, "note": note}


def time_task(options: Options, size: Workload, tables: Tables, path: Path, task: str) -> float:
    """Seconds of one task, in a process of its own."""
    head = Head.initialise(size.dim, tables.categories, seed=0).to(options.device)
    network = GridBottleneck(size.dim).to(options.device)

    def work() -> None:
        if task in ("evaluate", "twelve"):
            methods = METHODS if task == "evaluate" else TWELVE
            params = replace(PARAMS, methods=tuple(methods))
            given = {"methods": methods, "fitted": {REFINED: network}, "device": options.device}
            evaluate(cache, tables, head, params, dataset="noise", **given)
            return
        for record in range(0, len(cache), 8):
            tokens = cache.tokens(range(record, min(record + 8, len(cache))))
            if task == "map":
                sphere_points(head, tokens)

    with FeatureCache.open([path]) as cache:
        cache.tokens([0])
        return common.seconds_of(work, options.device)


def time_pairs(options: Options, work: Workload, weights: Path) -> Timing:
    """Extract two pictures, already decoded, map both to the sphere and match a pair's keypoints."""
    extractor, pictures = make_backbone(work, weights, options.device)
    head = Head.initialise(work.dim, ["category00"], seed=0).to(options.device)
    patches = torch.arange(KEYPOINTS, device=options.device)

    def pair() -> None:
        described = []
        for picture in pictures[:2]:
            tokens = extractor(picture.unsqueeze(0))
            described.append((unit(tokens[0]), unit(sphere_points(head, tokens)[0])))
        (a, points_a), (b, points_b) = described
        products = a[patches] @ b.T, points_a[patches] @ points_b.T
        weighted_sum(zip(WEIGHTS, products, strict=True)).argmax(dim=1)

    return common.alternate({"pair": pair}, repeats=1 if options.tiny else 3, device=options.device)["pair"]


def pictures_of(size: Workload) -> Views:
    """Features of whole pictures, category by category."""
    pictures = Views(size.records, (size.side, size.side), size.dim, size.categories)
    pictures.masks[:] = True
    pictures.image_ids.sort()
    return pictures


def make_tables(size: Workload, per_category: int) -> tuple[Tables, int]:
    """Keypoints anywhere in pictures of 100 px, pairs drawn within each category; the points in common."""
    rng = np.random.default_rng(1)
    ids, images = pictures_of(replace(size, side=1, dim=1)).image_ids, size.records // size.categories
    category = [image_id.split("/")[0] for image_id in ids]
    table = pd.DataFrame({"image_id": ids, "category": category, "azimuth": rng.uniform(0, 360, len(ids))})
    table = table.assign(x1=10.0, y1=10.0, x2=90.0, y2=90.0, width=100, height=100, instance="")
    visible = rng.random((len(ids), KEYPOINTS)) < VISIBLE
    x, y = (np.where(visible, rng.uniform(10, 90, visible.shape), np.nan).ravel() for _ in range(2))
    numbers = np.tile([str(k) for k in range(KEYPOINTS)], len(ids))
    keypoints = pd.DataFrame({"image_id": np.repeat(ids, KEYPOINTS), "keypoint_id": numbers, "x": x, "y": y})
    keypoints = keypoints.assign(visible=visible.ravel().astype(int))
    every = [(a, b) for a in range(images) for b in range(images) if a != b]
    chosen = [
        (start + every[number][0], start + every[number][1])
        for start in range(0, len(ids), images)
        for number in rng.choice(len(every), per_category, replace=False)
    ]
    pairs = pd.DataFrame([("test", ids[a], ids[b]) for a, b in chosen], columns=["split", "source", "target"])
    points = sum(int((visible[a] & visible[b]).sum()) for a, b in chosen)
    return Tables(table, keypoints, pairs), points


main = partial(common.run, "matching", __doc__, measure)

if __name__ == "__main__":
    main()
