"""A data set of SPair-71k's size: seconds to parse it, peak memory of reading its tables and those of ten
times as many images, and of writing and reading its 10 GB cache.

Pictures, annotations and pairs are made up, as many as SPair-71k has and in its layout. So are the tokens: a
stub that emits 60x60 of them, of width 768, stands in for the backbone; what is left is spheremap's own. All
1,800 pictures are cached, one shard per category. Each number comes from a process of its own that runs what
Snakemake runs. The folder for temporary files (TMPDIR) needs 12 GB.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import common
import numpy as np
import pandas as pd
import torch
from common import Options, Row, Workload, in_process
from feature_cache import cache_spec
from synthetic import write_spair

from spheremap.base.files import write_json
from spheremap.cli import main as spheremap
from spheremap.data.tables import Tables, read_tables, write_tables
from spheremap.features.cache import FeatureCache, builder
from spheremap.model.training import Views
from spheremap.model.training.batches import batches

# the stub's size; then by split: images per category, and pairs in all
FULL = Workload("stub", 0, 14, dim=768, batch=16, side=60, categories=18, records=1800)
SPLITS = {"train": (55, 53_340), "val": (18, 5_384), "test": (27, 12_234)}
TINY = Workload("stub", 0, 14, dim=64, batch=2, side=4, categories=2, records=14)
FEW = {"train": (3, 12), "val": (2, 4), "test": (2, 4)}


def measure(options: Options) -> Iterator[Row]:
    work = TINY if options.tiny else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        free, needed = (
            shutil.disk_usage(folder).free / 1e9,
            1.2e-9 * work.records * work.side**2 * work.dim * 2,
        )
        if free < needed:
            raise SystemExit(f"{folder} has {free:.0f} GB free, {needed:.0f} are needed: set TMPDIR")
        yield measure_parsing(options, work, folder)
        yield from measure_tables(options, folder)
        yield from measure_cache(options, work, folder)


def row(what: str, seconds: float, peak: float, note: str, **more: float) -> Row:
    return {"what": what, "seconds": seconds, "peak_mb": peak, **more, "note": note}


def measure_parsing(options: Options, work: Workload, folder: Path) -> Row:
    splits, picture = (FEW, (50, 40)) if options.tiny else (SPLITS, (500, 375))
    write_spair(folder / "SPair", work.categories, splits, picture)
    entry = {"layout": "spair", "root": str(folder / "SPair"), "class_ids": {}}
    write_json(folder / "entry.json", entry)
    command = ["ingest", "--params", str(folder / "entry.json"), "--out", str(folder / "tables")]
    seconds, peaks = zip(*(whole_command(command) for _ in range(options.repeats)), strict=True)
    note = f"{work.records} images, {sum(pairs for _, pairs in splits.values())} pairs; median of "
    note += f"{len(seconds)} runs of the whole command, files in the page cache"
    return row("ingest", float(np.median(seconds)), max(peaks), note)


# --- tables


def measure_tables(options: Options, folder: Path) -> Iterator[Row]:
    """What reading the canonical tables takes as a data set grows, its pairs in proportion to its images."""
    tables = read_tables(folder / "tables")
    for times in (1, 10):
        grown = folder / f"tables-{times}"
        write_tables(grown, repeat_tables(tables, times), {})
        _, seconds, peak = in_process(options, read_tables, grown)
        written = sum(file.stat().st_size for file in grown.iterdir()) / 1e9
        note = f"{times * len(tables.images)} images, {times * len(tables.pairs)} pairs, checked"
        yield row(f"tables, {times} times the images", seconds, peak, note, written_gb=written)


def repeat_tables(tables: Tables, times: int) -> Tables:
    """The same images under `times` names each."""

    def repeat(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        copies = [table.assign(**{name: table[name] + f"-{i}" for name in names}) for i in range(times)]
        return pd.concat(copies, ignore_index=True)

    images = repeat(tables.images, ["image_id", "path"])
    pictures = dict.fromkeys([*images["path"], *images["mask_path"]], "0" * 64)
    keypoints, pairs = repeat(tables.keypoints, ["image_id"]), repeat(tables.pairs, ["source", "target"])
    return Tables(images, keypoints, pairs, pictures)


# --- cache


def measure_cache(options: Options, work: Workload, folder: Path) -> Iterator[Row]:
    tables = every_image_tested(read_tables(folder / "tables"))
    write_tables(folder / "all", tables, {})
    write_json(folder / "features.json", asdict(cache_spec(work, work.batch, shards=work.categories)))
    (folder / "weights").write_bytes(b"the stub has none")
    shards = [folder / "cache" / f"images-{i}of{work.categories}.h5" for i in range(work.categories)]
    command = ["cache", "--params", str(folder / "features.json"), "--tables", str(folder / "all"),
               "--weights", str(folder / "weights"), "--kind", "images", "--device", "cpu",
               "--threads", str(options.threads)]  # fmt: skip
    _, seconds, bare = in_process(options, run_stub, work)
    yield row("backbone alone", seconds, bare, f"the stub, one batch of {work.batch} pictures")

    built = [
        in_process(options, cache, work, [*command, "--shard", f"{i}/{len(shards)}", "--out", str(shard)])
        for i, shard in enumerate(shards)
    ]
    seconds, peak = sum(seconds for _, seconds, _ in built), max(peak for *_, peak in built)
    written = sum(shard.stat().st_size for shard in shards) / 1e9
    sizes = {"above_backbone_mb": peak - bare, "written_gb": written, "gb_per_s": written / seconds}
    note = (
        f"{work.records} records of {work.side}x{work.side} tokens of width {work.dim}; {len(shards)} shards "
    )
    note += "one after the other, without the start of each process"
    yield row("caching", seconds, peak, note, **sizes)

    index, steps = folder / "cache" / "images.h5", 3 if options.tiny else 50
    seconds, peak = whole_command(["cache-index", "--out", str(index), "--shards", *map(str, shards)])
    note, written = f"over {len(shards)} shards; the whole command", index.stat().st_size / 1e9
    yield row("index", seconds, peak, note, written_gb=written)

    _, seconds, peak = in_process(options, read, work, steps, index, folder / "all")
    batch_gb = work.batch * work.side**2 * work.dim * 2 / 1e9
    note = f"through the index: {steps} shuffled training batches of {work.batch} ({batch_gb * 1e3:.0f} MB "
    note += "each), streamed from disk, checksums verified"
    yield row("reading", seconds, peak, note, gb_per_s=steps * batch_gb / seconds)


def every_image_tested(tables: Tables) -> Tables:
    """The same images with pairs that make a cache of kind "images" hold all of them."""
    following = tables.images.groupby("category")["image_id"].transform(lambda ids: np.roll(ids, -1))
    pairs = pd.DataFrame({"split": "test", "source": tables.images["image_id"], "target": following})
    return Tables(tables.images, tables.keypoints, pairs)


class Stub:
    """Emits tokens of the right shape; has what `build_shard` needs of an `Extractor`."""

    def __init__(self, work: Workload) -> None:
        self.device, self.dim, self._patch = torch.device("cpu"), work.dim, work.patch
        self._tokens = torch.randn(work.side**2, work.dim, generator=torch.Generator().manual_seed(0))

    def grid(self, size: int) -> tuple[int, int]:
        return size // self._patch, size // self._patch

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._tokens * (1 + images[:, :1, :1, 0].float() / 255)  # (B, N, D), told apart by a pixel


# --- what processes of their own do


def run_stub(work: Workload) -> None:
    side = work.side * work.patch
    Stub(work)(torch.zeros(work.batch, side, side, 3, dtype=torch.uint8))


def cache(work: Workload, arguments: list[str]) -> None:
    stub = Stub(work)
    builder.Extractor = lambda *_args, **_options: stub  # type: ignore[assignment, misc]
    if spheremap(arguments) != 0:
        raise SystemExit(f"failed: spheremap {' '.join(arguments)}")


def read(work: Workload, steps: int, index: Path, folder: Path) -> None:
    tables = read_tables(folder)
    with FeatureCache.open([index]) as opened:
        views = Views(opened, tables, tables.categories, bins=8, memory=0)
        for batch in batches(views, batch=work.batch, seed=0, first=1, last=steps):
            assert len(batch.tokens) == work.batch


COMMAND = """
import re, sys
from pathlib import Path
from spheremap.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


def whole_command(arguments: Sequence[str]) -> tuple[float, float]:
    """Run a command as Snakemake does; returns the seconds that a user waits and the peak of memory in MB."""
    start = time.perf_counter()
    command = [sys.executable, "-c", COMMAND, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) * 1024 / 1e6


main = partial(common.run, "scale", __doc__, measure, repeats=5)

if __name__ == "__main__":
    main()
