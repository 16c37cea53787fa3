"""Peak memory of training, with the feature cache held and streamed, for a small and a larger cache.

Each number comes from a process of its own that trains some steps. Streamed, it must not grow with the cache.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import common
from common import Options, Row
from synthetic import Views as SyntheticViews
from synthetic import write_cache

from spheremap.config.learning import PAPERS_TRAIN
from spheremap.features.cache import FeatureCache
from spheremap.model.head import Head
from spheremap.model.training import TrainConfig, Views, train

CATEGORIES = 2


def measure(options: Options) -> Iterator[Row]:
    side, dim, batch, steps = (4, 64, 2, 2) if options.tiny else (32, 384, 16, 4)
    config = replace(PAPERS_TRAIN, steps=steps, batch=batch, log_every=1)
    with tempfile.TemporaryDirectory() as folder:
        for count in (8,) if options.tiny else (128, 1024):
            path = Path(folder) / f"{count}.h5"
            write_cache(path, SyntheticViews(count, (side, side), dim, CATEGORIES), {})
            for variant, memory in (("held", 1000.0), ("streamed", 0.0)):
                place, _, peak = common.in_process(options, train_some, options, path, count, config, memory)
                note = f"{place}; batch {batch}, {side}x{side} tokens of width {dim}"
                size = count * side**2 * dim * 2 / 1e6
                yield {"variant": variant, "cache_mb": size, "peak_mb": peak, "note": note}


def train_some(options: Options, path: Path, count: int, config: TrainConfig, memory: float) -> str:
    """Train; returns where the cache was kept."""
    described = SyntheticViews(count, (1, 1), 2, CATEGORIES)
    tables, device = described.tables(), options.device
    with FeatureCache.open([path]) as cache:
        head = Head.initialise(cache.dim, described.categories, 0).to(device)
        views = Views(cache, tables, head.categories, bins=8, memory=memory, device=device)
        train(head, views, config, state_path=path.parent / "state", identity="", validator=None)
        return views.held


main = partial(common.run, "memory", __doc__, measure)

if __name__ == "__main__":
    main()
