"""Reading batches from the feature cache, checksums verified, against reading the same raw bytes from a file.

Both files have been read before, so that they lie in the page cache: what is compared is the work of reading,
not the disk.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import alternate, read_options, write_rows
from synthetic import Views, write_cache

from spheremap.features.cache import FeatureCache


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments, repeats=15)
    side, dim, count, batch = (4, 64, 12, 4) if options.tiny else (32, 384, 256, 16)
    views = Views(count, (side, side), dim, categories=2)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        raw, cached = Path(name) / "tokens.bin", Path(name) / "tokens.h5"
        raw.write_bytes(views.data.tobytes())
        write_cache(cached, views, {})
        record = views.data[0].nbytes
        with FeatureCache.open([cached]) as cache, raw.open("rb", buffering=0) as file:
            for order in ("in order", "shuffled"):
                records = np.arange(count)
                if order == "shuffled":
                    records = np.random.default_rng(0).permutation(count)
                parts = np.split(records, range(batch, count, batch))

                def from_bytes(parts: list[np.ndarray] = parts) -> np.ndarray:
                    for part in parts:
                        tokens = np.empty((len(part), *views.data.shape[1:]), np.float16)
                        for row, i in zip(tokens, part.tolist(), strict=True):
                            file.seek(i * record)
                            file.readinto(row.data)
                    return tokens

                def from_cache(parts: list[np.ndarray] = parts) -> np.ndarray:
                    for part in parts:
                        tokens = cache.tokens(part)
                    return tokens

                if not np.array_equal(from_bytes(), from_cache()):
                    raise RuntimeError("cache and file differ")
                timings = alternate({"raw bytes": from_bytes, "cache": from_cache}, repeats=options.repeats)
                rows += [
                    {
                        "order": order,
                        "variant": variant,
                        **timing.columns(),
                        "gb_per_s": views.data.nbytes / timing.median / 1e9,
                        "share_of_raw": timings["raw bytes"].median / timing.median,
                        "note": f"{count} records of {side}x{side} tokens of width {dim}, batches of {batch}",
                    }
                    for variant, timing in timings.items()
                ]
    write_rows("cache_reading", rows, options)


if __name__ == "__main__":
    main()
