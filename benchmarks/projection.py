"""What a preset on SPair-71k, or 10 and 1,000 times that, takes, from the tables of the other benchmarks.

Nothing is timed here: rates come from the CSV files in the folder of the results, sizes and operations from
the paper's settings, and what no table says (prices, a GPU's rate, the room that a machine has) from options.
The result is printed as Markdown, and written between its marks on a page with --page.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from common import RESULTS, SMALL
from floors import step_operations, vit_operations

from spheremap.config import load_params
from spheremap.config.presets import apply_preset

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- begin: written by benchmarks/projection.py -->", "<!-- end -->"
HOUR, DAY = 3600.0, 86400.0
# what is assumed, not measured: option -> default, meaning
ASSUMED = {
    "gpu-tflops": (100.0, "a GPU's rate"),
    "gpus": (1.0, "how many"),
    "core-price": (0.04, "per core and hour"),
    "gpu-price": (3.0, "per GPU and hour"),
    "disk-price": (0.05, "per GB and month"),
    "days": (7.0, "that one waits for a result"),
    "disk": (4000.0, "GB that there are"),
    "memory": (64.0, "GB that there are"),
}

TRAIN_IMAGES, OTHER_IMAGES, TEST_PAIRS = 1000, 800, 12_234
PICTURE_BYTES = 227e6 / 1800  # of an image, in the archive
FOREGROUND = 0.2  # share of the tokens


@dataclass(frozen=True)
class Chain:
    """What of the settings a chain's time depends on; tokens are those of one view or image."""

    width: int
    blocks: int
    view_tokens: int
    image_tokens: int
    views: int  # cached per training image
    batch: int
    steps: int


PAPER = Chain(768, 12, 32**2, 60**2, 10, 64, 33_000)  # ViT-B/14, 448 px views, 840 px for evaluation


def read_chain(preset: Path) -> Chain:
    """The chain of params.yaml as shipped with a preset applied."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(ROOT / "params.yaml", folder))
        apply_preset(preset, path)
        params = load_params(path)
    features, train = params.features, params.train
    backbone = params.backbones[features.backbone]
    with torch.device("meta"):
        vit: Any = timm.create_model(backbone.model)
    sides = (
        side // vit.patch_embed.patch_size[0]
        for side in (backbone.image_size.train, backbone.image_size.eval)
    )
    of_view, of_image = (side**2 for side in sides)
    return Chain(
        vit.embed_dim,
        backbone.block + 1,
        of_view,
        of_image,
        features.views_per_image,
        train.batch,
        train.steps,
    )


@dataclass(frozen=True)
class Rates:
    """What was measured, on one machine of `cores` cores."""

    hardware: str
    cores: int
    ingest: float  # seconds per image
    backbone: float  # operations per second
    store: float  # bytes per second into the cache
    load: float  # bytes per second out of it
    step: float  # operations per second of the training step
    match: float  # seconds per pair, an evaluation with its intervals
    tables_time: float  # seconds per image, to read the tables
    tables_memory: float  # bytes per image
    tables_disk: float  # bytes per image


@dataclass(frozen=True)
class Need:
    """What one size takes; times in seconds, sizes in bytes."""

    images: float
    on_cpu: dict[str, float]  # stage -> seconds on the measured machine
    on_gpu: dict[str, float]
    storage: dict[str, float]
    memory: float  # of the tables


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_assumed(arguments)
    rates = read_rates(options.results)
    text = describe_preset(rates, options) if options.preset else describe(rates, options)
    print(text)
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        options.page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def read_assumed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What is assumed: the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the benchmarks' tables")
    parser.add_argument("--page", type=Path, help="Markdown page to write the result to, between its marks")
    parser.add_argument("--preset", type=Path, help="project this preset on this machine's CPU, and no more")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 1000], help="of SPair-71k's images")
    parser.add_argument("--square", action="store_true", help="pairs grow with the square of the images")
    for name, (default, text) in ASSUMED.items():
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{text} (default: {default:g})")
    return parser.parse_args(arguments)


def read_rates(folder: Path) -> Rates:
    """Rates from the tables of `scale`, `feature_cache`, `training_step` and `matching`.

    Raises:
        SystemExit: if they were measured on different machines, or not at full size.
    """
    names = ("scale", "feature_cache", "training_step", "matching")
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in names}
    columns = ["cpu", "cores", "gpu", "size"]
    machine = pd.concat([table[columns] for table in tables.values()]).drop_duplicates()
    if len(machine) != 1 or machine["size"].item() != "full" or machine["gpu"].item() != "none":
        raise SystemExit(
            f"{folder}: expected tables of one machine's CPU at full size, found\n"
            f"{machine.to_string(index=False)}\nrun `make bench` to measure all of them again"
        )
    scale, matching = tables["scale"].set_index("what"), tables["matching"].set_index("variant")
    filled = tables["feature_cache"].set_index("variant").loc["bare backbone"]
    step = tables["training_step"].set_index(["case", "variant"]).loc[("features cached", "ours")]
    one, ten = (scale.loc[f"tables, {times} times the images"] for times in (1, 10))
    images, tokens = TRAIN_IMAGES + OTHER_IMAGES, SMALL.side**2
    small_step = step_operations(SMALL.batch, tokens, SMALL.batch * FOREGROUND * tokens, SMALL.dim)
    return Rates(
        hardware=machine["cpu"].item(),
        cores=int(machine["cores"].item()),
        ingest=scale.loc["ingest", "seconds"] / images,
        backbone=vit_operations(SMALL.block + 1, SMALL.dim, tokens) * filled["images_per_s"],
        store=scale.loc["caching", "gb_per_s"] * 1e9,
        load=scale.loc["reading", "gb_per_s"] * 1e9,
        step=small_step / (step["median_ms"] / 1e3),
        match=matching.loc["evaluation, intervals included", "median_ms"] / 1e3 / TEST_PAIRS,
        tables_time=ten["seconds"] / (10 * images),
        tables_memory=(ten["peak_mb"] - one["peak_mb"]) * 1e6 / (9 * images),
        tables_disk=ten["written_gb"] * 1e9 / (10 * images),
    )


def project(rates: Rates, assumed: argparse.Namespace, times: float, chain: Chain = PAPER) -> Need:
    """Time and storage of `times` SPair-71k.

    A stage that computes and moves data side by side takes the longer of the two.
    """
    train, other = times * TRAIN_IMAGES, times * OTHER_IMAGES
    views, width = train * chain.views, chain.width
    of_views, of_images = 2.0 * views * chain.view_tokens * width, 2.0 * other * chain.image_tokens * width
    backbone = views * vit_operations(chain.blocks, width, chain.view_tokens)
    backbone += other * vit_operations(chain.blocks, width, chain.image_tokens)
    seen = chain.batch * chain.view_tokens  # tokens of a step
    step = step_operations(chain.batch, chain.view_tokens, FOREGROUND * seen, width)
    load = 0.0 if of_views < assumed.memory * 1e9 / 2 else 2.0 * seen * width / rates.load
    match = rates.match * chain.image_tokens * width / (PAPER.image_tokens * PAPER.width)

    def stages(backbone_rate: float, step_rate: float) -> dict[str, float]:
        return {
            # ingested once; read by the cache, training and evaluation
            "tables": (train + other) * (rates.ingest + 3 * rates.tables_time),
            "features": max(backbone / backbone_rate, (of_views + of_images) / rates.store),
            "training": chain.steps * max(step / step_rate, load),
            "evaluation": match * TEST_PAIRS * (times**2 if assumed.square else times),
        }

    gpus = assumed.gpu_tflops * 1e12 * assumed.gpus
    storage = {
        "pictures": (train + other) * PICTURE_BYTES,
        "tables": (train + other) * rates.tables_disk,
        "cache of views": of_views,
        "cache of images": of_images,
    }
    memory = (train + other) * rates.tables_memory
    return Need(train + other, stages(rates.backbone, rates.step), stages(gpus, gpus), storage, memory)


def bottleneck(need: Need, assumed: argparse.Namespace, stages: dict[str, float]) -> tuple[str, float]:
    """What exceeds its limit most: the name, and by which factor (below 1: nothing is exceeded)."""
    stage, kept = (max(of, key=lambda name, of=of: of[name]) for of in (stages, need.storage))
    shares = {
        f"time of {stage}": sum(stages.values()) / (assumed.days * DAY),
        f"disk for the {kept}": sum(need.storage.values()) / (assumed.disk * 1e9),
        "memory for the tables": need.memory / (assumed.memory * 1e9),
    }
    return max(shares.items(), key=lambda item: item[1])


def describe(rates: Rates, assumed: argparse.Namespace) -> str:
    """The projection as Markdown tables."""
    columns = {times: _cells(rates, assumed, times) for times in assumed.times}
    lines = [
        f"Measured: {rates.hardware}, {rates.cores} cores. Backbone {rates.backbone / 1e9:,.0f} GFLOP/s, "
        f"training step {rates.step / 1e9:,.0f} GFLOP/s, into the cache {rates.store / 1e9:.2f} GB/s, out of "
        f"it {rates.load / 1e9:.2f} GB/s, evaluation {rates.match * 1e3:.2f} ms per pair, tables "
        f"{rates.tables_memory / 1e3:.1f} kB of memory per image.",
        "",
        f"Assumed, not measured: a GPU of {assumed.gpu_tflops:g} TFLOP/s sustained, {assumed.gpus:g} of "
        f"them; {assumed.core_price:g} per core and hour, {assumed.gpu_price:g} per GPU and hour, "
        f"{assumed.disk_price:g} per GB and month; limits of {assumed.days:g} days, {assumed.disk:,.0f} GB "
        f"of disk and {assumed.memory:g} GB of memory; pairs grow with the "
        f"{'square of the ' if assumed.square else ''}images.",
        "",
    ]
    rows = [[name for name, _ in next(iter(columns.values()))]]
    rows += [[cell for _, cell in cells] for cells in columns.values()]
    table = ["| " + " | ".join(row) + " |" for row in zip(*rows, strict=True)]
    table[0] = table[0].replace("|  |", "| |")
    return "\n".join([*lines, table[0], "|---" * len(rows) + "|", *table[1:]])


def describe_preset(rates: Rates, assumed: argparse.Namespace) -> str:
    """What a preset takes on SPair-71k, as a Markdown table."""
    need = project(rates, assumed, 1, read_chain(assumed.preset))
    stages = {**need.on_cpu, "in all": sum(need.on_cpu.values())}
    rows = [f"| {name} | {seconds / 60:.0f} |" for name, seconds in stages.items()]
    return "\n".join([
        f"A projection, not a measurement, from the rates of {rates.hardware}, {rates.cores} cores, float32:",
        "", "| stage | minutes |", "|---|---|", *rows,
    ])  # fmt: skip


def _cells(rates: Rates, assumed: argparse.Namespace, times: int) -> list[tuple[str, str]]:
    """A column of the table: name of the row and its text."""
    need = project(rates, assumed, times)
    cells = [("", f"{times:,}× ({need.images:,.0f} images)")]
    cores, gpus = rates.cores * assumed.core_price, assumed.gpus * assumed.gpu_price
    for title, stages, price in (
        ("**this machine**", need.on_cpu, cores),
        (f"**with {assumed.gpus:g} GPU, assumed**", need.on_gpu, cores + gpus),
    ):
        seconds = sum(stages.values())
        cells += [(f"{title}, in all", _time(seconds)), *((name, _time(of)) for name, of in stages.items())]
        cells += [("cost", f"{seconds / HOUR * price:,.0f}")]
        cells += [("first bottleneck", _limit(*bottleneck(need, assumed, stages)))]
    size = sum(need.storage.values())
    cells += [("**storage**, in all", _size(size)), *((name, _size(of)) for name, of in need.storage.items())]
    cells += [("cost per month", f"{size / 1e9 * assumed.disk_price:,.0f}")]
    return [*cells, ("**memory** for the tables", _size(need.memory))]


def _limit(name: str, share: float) -> str:
    if share >= 1:
        return f"{name} ({share:,.1f}× the limit)"
    return f"none; closest: {name} ({share:.0%} of the limit)"


def _time(seconds: float) -> str:
    for unit, name in ((365.25 * DAY, "years"), (DAY, "days"), (HOUR, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.0f} s"


def _size(size: float) -> str:
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
