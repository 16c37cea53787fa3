"""Reading batches from the feature cache, checksums verified, against reading the same raw bytes from a file.

Both files have been read before, so that they lie in the page cache: what is compared is the work of reading,
not the disk.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import common
import numpy as np
from common import Options, Row
from synthetic import Views, write_cache

from spheremap.features.cache import FeatureCache


def measure(options: Options) -> Iterator[Row]:
    side, dim, count, batch = (4, 64, 12, 4) if options.tiny else (32, 384, 256, 16)
    views = Views(count, (side, side), dim, categories=2)
    note = f"{count} records of {side}x{side} tokens of width {dim}, batches of {batch}"
    orders = {"in order": np.arange(count), "shuffled": np.random.default_rng(0).permutation(count)}
    with tempfile.TemporaryDirectory() as name:
        raw, cached = Path(name) / "tokens.bin", Path(name) / "tokens.h5"
        raw.write_bytes(views.data.tobytes())
        write_cache(cached, views, {})
        with FeatureCache.open([cached]) as cache, raw.open("rb", buffering=0) as file:
            for order, records in orders.items():
                parts = np.split(records, range(batch, count, batch))
                functions = {
                    "raw bytes": partial(from_bytes, file, views.data.shape[1:], parts),
                    "cache": partial(from_cache, cache, parts),
                }
                if not np.array_equal(*(function() for function in functions.values())):
                    raise RuntimeError("cache and file differ")
                timings = common.alternate(functions, repeats=options.repeats)
                for variant, timing in timings.items():
                    speed = views.data.size * 2 / timing.median / 1e9
                    share = timings["raw bytes"].median / timing.median
                    row = {"order": order, "variant": variant, **timing.columns()}
                    yield row | {"gb_per_s": speed, "share_of_raw": share, "note": note}


def from_bytes(file: BinaryIO, shape: tuple[int, ...], parts: list[np.ndarray]) -> np.ndarray:
    """Read records batch by batch; returns the last."""
    for part in parts:
        tokens = np.empty((len(part), *shape), np.float16)
        for row, i in zip(tokens, part.tolist(), strict=True):
            file.seek(i * row.nbytes)
            file.readinto(row.data)
    return tokens


def from_cache(cache: FeatureCache, parts: list[np.ndarray]) -> np.ndarray:
    for part in parts:
        tokens = cache.tokens(part)
    return tokens


main = partial(common.run, "cache_reading", __doc__, measure, repeats=15)

if __name__ == "__main__":
    main()
