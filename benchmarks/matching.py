"""Matching all pairs of a category from the feature cache against pair by pair, both images extracted anew.

Both answer the same questions: which target patch is most similar, by features and sphere, to each keypoint
of the source. The answers are checked to be equal.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Options, Timing, alternate, read_options, write_rows
from feature_cache import cache_spec
from numpy.typing import NDArray
from synthetic import photographs
from training_step import PAPER, SMALL, TINY, Workload, make_backbone

from spheremap.cache import FeatureCache
from spheremap.cache.builder import Source, build_shard, decode_views, select_sources
from spheremap.geometry import patch_of
from spheremap.head import Head, sphere_points
from spheremap.matching.descriptors import mix, row_weights, unit
from spheremap.matching.matcher import Matcher
from spheremap.matching.queries import build_queries

SPHERE_WEIGHT = 0.2
WEIGHTS = row_weights(SPHERE_WEIGHT)["fused"]


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments, repeats=5)
    on_gpu = options.device.type == "cuda"
    work = TINY if options.tiny else PAPER if on_gpu else SMALL
    images = 4 if options.tiny else 50 if on_gpu else 12
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, work, images, Path(folder))
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
        work=folder / "work",
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
            matcher = Matcher(cache, {"fused": WEIGHTS}, lambda x: sphere_points(head, x), device=device)
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


if __name__ == "__main__":
    main()
