"""A data set of SPair-71k's size: seconds to parse it, peak memory of reading its tables and those of ten
times as many images, and of writing and reading its 10 GB cache.

Pictures, annotations and pairs are made up, as many as SPair-71k has and in its layout. So are the tokens: a
stub that emits 60x60 of them, of width 768, stands in for the backbone; what is left is spheremap's own. All
1,800 pictures are cached, one shard per category. Each number comes from a process of its own that runs what
Snakemake runs and reports the peak of its resident memory. The folder for temporary files (TMPDIR) needs 12
GB.
"""

import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import Options, allocated_peak, read_options, write_rows
from PIL import Image

from spheremap.base.files import write_json
from spheremap.cli import main as spheremap
from spheremap.data.adapters.voc import VOC_CLASS_IDS
from spheremap.data.tables import Tables, read_tables, write_tables
from spheremap.features.cache import FeatureCache, builder
from spheremap.model.training import Views
from spheremap.model.training.batches import batches

SPAIR_CATEGORIES = tuple(name for name in VOC_CLASS_IDS if name not in ("diningtable", "sofa"))


@dataclass(frozen=True)
class Size:
    """How large the data set and its cache are."""

    categories: int
    images: dict[str, int]  # split -> images per category; no image is in two splits
    pairs: dict[str, int]  # split -> pairs in all
    picture: tuple[int, int]
    side: int  # patches along a side of the network input
    dim: int
    batch: int
    steps: int  # batches read

    @property
    def bytes_cached(self) -> int:
        return self.categories * sum(self.images.values()) * self.side**2 * self.dim * 2


FULL = Size(
    categories=18,
    images={"train": 55, "val": 18, "test": 27},
    pairs={"train": 53_340, "val": 5_384, "test": 12_234},
    picture=(500, 375),
    side=60,
    dim=768,
    batch=16,
    steps=50,
)
TINY = Size(
    categories=2,
    images={"train": 3, "val": 2, "test": 2},
    pairs={"train": 12, "val": 4, "test": 4},
    picture=(50, 40),
    side=4,
    dim=64,
    batch=2,
    steps=3,
)
PATCH = 14  # px


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments, repeats=5)
    size = TINY if options.tiny else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < 1.2 * size.bytes_cached:
            raise SystemExit(
                f"{folder} has {free / 1e9:.0f} GB free, {1.2 * size.bytes_cached / 1e9:.0f} are needed: "
                "set TMPDIR to another folder"
            )
        rows = [
            *measure_parsing(options, size, folder),
            *measure_tables(options, size, folder),
            *measure_cache(options, size, folder),
        ]
    write_rows("scale", rows, options)


# --- parsing


def measure_parsing(options: Options, size: Size, folder: Path) -> list[dict[str, Any]]:
    write_spair(folder / "SPair", size)
    entry = {"layout": "spair", "root": str(folder / "SPair"), "class_ids": {}}
    write_json(folder / "entry.json", entry)
    command = ["ingest", "--params", str(folder / "entry.json"), "--out", str(folder / "tables")]
    runs = [whole_command(command) for _ in range(options.repeats)]
    count = size.categories * sum(size.images.values())
    return [
        {
            "what": "ingest",
            "seconds": float(np.median([run["seconds"] for run in runs])),
            "peak_mb": max(run["peak_mb"] for run in runs),
            "note": f"{count} images, {sum(size.pairs.values())} pairs; median of {len(runs)} runs of the "
            "whole command, files in the page cache",
        }
    ]


def write_spair(root: Path, size: Size) -> None:
    """Write pictures of noise in SPair-71k's layout; about as many bytes per picture as it has."""
    rng = np.random.default_rng(0)
    width, height = size.picture
    noise = rng.integers(-20, 21, (2 * height, 2 * width, 3))
    pairs: dict[str, list[str]] = {split: [] for split in size.pairs}
    categories = SPAIR_CATEGORIES[: size.categories]
    for number, category in enumerate(categories):
        for part in ("ImageAnnotation", "JPEGImages", "Segmentation"):
            (root / part / category).mkdir(parents=True)
        image = 0
        for split, count in size.images.items():
            names = [f"2008_{image + i:06d}" for i in range(count)]
            image += count
            for name in names:
                _write_image(root, category, name, size.picture, noise, rng)
            begin, end = (size.pairs[split] * k // size.categories for k in (number, number + 1))
            pairs[split] += [f"{a}-{b}:{category}" for a, b in islice(permutations(names, 2), end - begin)]
    folder = root / "Layout" / "large"
    folder.mkdir(parents=True)
    for split, stem in (("train", "trn"), ("val", "val"), ("test", "test")):
        assert len(pairs[split]) == size.pairs[split]
        lines = [f"{i:06d}-{pair}\n" for i, pair in enumerate(pairs[split], start=1)]
        (folder / f"{stem}.txt").write_text("".join(lines))


def _write_image(
    root: Path,
    category: str,
    name: str,
    picture: tuple[int, int],
    noise: np.ndarray,
    rng: np.random.Generator,
) -> None:
    width, height = picture
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(picture, Image.Resampling.BICUBIC), dtype=np.int64)
    top, left = rng.integers(0, height), rng.integers(0, width)
    pixels = (smooth + noise[top : top + height, left : left + width]).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(root / "JPEGImages" / category / f"{name}.jpg", quality=85)
    x1, y1, x2, y2 = width // 5, height // 5, width * 4 // 5, height * 4 // 5
    mask = np.zeros((height, width), np.uint8)
    mask[y1:y2, x1:x2] = VOC_CLASS_IDS[category]
    Image.fromarray(mask).save(root / "Segmentation" / category / f"{name}.png")
    points = {
        str(i): [int(rng.integers(x1, x2)), int(rng.integers(y1, y2))] if i < 12 else None for i in range(30)
    }
    record = {
        "filename": f"{name}.jpg",
        "src_database": "VOC2012",
        "src_annotation": "PASCAL3D",
        "src_image": "flickr",
        "image_width": width,
        "image_height": height,
        "image_depth": 3,
        "category": category,
        "pose": "Unspecified",
        "truncated": 0,
        "occluded": 0,
        "difficult": 0,
        "bndbox": [x1, y1, x2, y2],
        "kps": points,
        "azimuth_id": int(rng.integers(0, 8)),
    }
    (root / "ImageAnnotation" / category / f"{name}.json").write_text(json.dumps(record))


# --- tables


def measure_tables(options: Options, size: Size, folder: Path) -> list[dict[str, Any]]:
    """What reading the canonical tables takes as a data set grows, its pairs in proportion to its images."""
    tables = read_tables(folder / "tables")
    rows = []
    for times in (1, 10):
        grown = folder / f"tables-{times}"
        write_tables(grown, repeat_tables(tables, times), {})
        rows.append(
            {
                "what": f"tables, {times} times the images",
                **in_process("tables", options, tables=str(grown)),
                "written_gb": sum(file.stat().st_size for file in grown.iterdir()) / 1e9,
                "note": f"{times * len(tables.images)} images, {times * len(tables.pairs)} pairs, checked",
            }
        )
    return rows


def repeat_tables(tables: Tables, times: int) -> Tables:
    """The same images under `times` names each."""

    def repeat(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        copies = [table.assign(**{name: table[name] + f"-{i}" for name in names}) for i in range(times)]
        return pd.concat(copies, ignore_index=True)

    images = repeat(tables.images, ["image_id", "path"])
    pictures = dict.fromkeys([*images["path"], *images["mask_path"]], "0" * 64)
    return Tables(
        images,
        repeat(tables.keypoints, ["image_id"]),
        repeat(tables.pairs, ["source", "target"]),
        pictures,
    )


# --- cache


def measure_cache(options: Options, size: Size, folder: Path) -> list[dict[str, Any]]:
    tables = every_image_tested(read_tables(folder / "tables"))
    write_tables(folder / "all", tables, {})
    write_json(folder / "features.json", _features(size))
    (folder / "weights").write_bytes(b"the stub has none")
    shards = [folder / "cache" / f"images-{i}of{size.categories}.h5" for i in range(size.categories)]
    command = ["cache", "--params", str(folder / "features.json"), "--tables", str(folder / "all"),
               "--weights", str(folder / "weights"), "--kind", "images", "--device", "cpu",
               "--threads", str(options.threads), "--work", str(folder / "work")]  # fmt: skip
    bare = in_process("backbone", options, size=vars(size))
    built = [
        in_process("cache", options, size=vars(size),
                   arguments=[*command, "--shard", f"{i}/{size.categories}", "--out", str(shard)])
        for i, shard in enumerate(shards)
    ]  # fmt: skip
    index = folder / "cache" / "images.h5"
    indexed = whole_command(["cache-index", "--out", str(index), "--shards", *map(str, shards)])
    read = in_process("read", options, size=vars(size), index=str(index), tables=str(folder / "all"))
    written = sum(shard.stat().st_size for shard in shards)
    seconds = sum(run["seconds"] for run in built)
    batch_mb = size.batch * size.side**2 * size.dim * 2 / 1e6
    note = f"{len(tables.images)} records of {size.side}x{size.side} tokens of width {size.dim}"
    return [
        {
            "what": "backbone alone",
            **bare,
            "note": f"the stub, one batch of {size.batch} pictures",
        },
        {
            "what": "caching",
            "seconds": seconds,
            "peak_mb": max(run["peak_mb"] for run in built),
            "above_backbone_mb": max(run["peak_mb"] for run in built) - bare["peak_mb"],
            "written_gb": written / 1e9,
            "gb_per_s": written / 1e9 / seconds,
            "note": f"{note}; {len(shards)} shards one after the other, without the start of each process",
        },
        {
            "what": "index",
            **indexed,
            "written_gb": index.stat().st_size / 1e9,
            "note": f"over {len(shards)} shards; the whole command",
        },
        {
            "what": "reading",
            **read,
            "gb_per_s": size.steps * batch_mb / 1e3 / read["seconds"],
            "note": f"through the index: {size.steps} shuffled training batches of {size.batch} "
            f"({batch_mb:.0f} MB each), streamed from disk, checksums verified",
        },
    ]


def every_image_tested(tables: Tables) -> Tables:
    """The same images with pairs that make a cache of kind "images" hold all of them."""
    following = tables.images.groupby("category")["image_id"].transform(lambda ids: np.roll(ids, -1))
    pairs = pd.DataFrame({"split": "test", "source": tables.images["image_id"], "target": following})
    return Tables(tables.images, tables.keypoints, pairs)


def _features(size: Size) -> dict[str, Any]:
    """What the rule `cache` hands to its command."""
    side = size.side * PATCH
    return {
        "dataset": "synthetic",
        "features": {
            "backbone": "stub",
            "views": 1,
            "crop_scale": [0.5, 1.5],
            "crop_ratio": [0.75, 4 / 3],
            "seed": 0,
            "batch": size.batch,
            "precision": "float32",
            "shards": size.categories,
        },
        "backbone": {
            "model": "stub",
            "weights": {"source": "random", "seed": 0},
            "block": 0,
            "norm": False,
            "facet": "token",
            "image_size": {"train": side, "eval": side},
        },
    }


class Stub:
    """Emits tokens of the right shape; has what `build_shard` needs of an `Extractor`."""

    def __init__(self, size: Size) -> None:
        self.device, self.dim = torch.device("cpu"), size.dim
        self._tokens = torch.randn(size.side**2, size.dim, generator=torch.Generator().manual_seed(0))

    def grid(self, size: int) -> tuple[int, int]:
        return size // PATCH, size // PATCH

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._tokens * (1 + images[:, :1, :1, 0].float() / 255)  # (B, N, D), told apart by a pixel


# --- processes


COMMAND = """
import sys
from pathlib import Path
from spheremap.cli import main
code = main(sys.argv[1:])
lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(lines["VmHWM"].split()[0]) * 2**10 / 1e6)
sys.exit(code)
"""


def whole_command(arguments: Sequence[str]) -> dict[str, float]:
    """Run a command as Snakemake does; returns the seconds that a user waits and the peak of memory in MB."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": float(done.stdout.split()[-1])}


def in_process(what: str, options: Options, **task: Any) -> dict[str, float]:
    """Do a task in a process of its own; returns its seconds and the peak of its memory in MB."""
    task = {"what": what, "threads": options.threads, **task}
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = json.loads(answer.stdout)
    return {"seconds": seconds, "peak_mb": peak * 2**20 / 1e6}


def _do(task: dict[str, Any]) -> None:
    torch.set_num_threads(task["threads"])
    with redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        TASKS[task["what"]](task)
        seconds = time.perf_counter() - start
    print(json.dumps([seconds, allocated_peak(torch.device("cpu"))]))


def _cache(task: dict[str, Any]) -> None:
    stub = Stub(Size(**task["size"]))
    builder.Extractor = lambda *_args, **_options: stub  # type: ignore[assignment, misc]
    if spheremap(task["arguments"]) != 0:
        raise SystemExit(f"failed: spheremap {' '.join(task['arguments'])}")


def _backbone(task: dict[str, Any]) -> None:
    size = Size(**task["size"])
    side = size.side * PATCH
    Stub(size)(torch.zeros(size.batch, side, side, 3, dtype=torch.uint8))


def _read(task: dict[str, Any]) -> None:
    size, tables = Size(**task["size"]), read_tables(Path(task["tables"]))
    with FeatureCache.open([Path(task["index"])]) as cache:
        views = Views(cache, tables, tables.categories, bins=8, memory=0)
        for batch in batches(views, batch=size.batch, seed=0, first=1, last=size.steps):
            assert len(batch.tokens) == size.batch


def _tables(task: dict[str, Any]) -> None:
    read_tables(Path(task["tables"]))


TASKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "backbone": _backbone,
    "cache": _cache,
    "read": _read,
    "tables": _tables,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        _do(json.loads(sys.argv[2]))
    else:
        main()
