"""What 10 and 1,000 times SPair-71k take in time, storage and cost, from the tables of the other benchmarks.

Nothing is timed here: rates come from the CSV files in the folder of the results, sizes and operations from
the paper's settings, and what no table says (prices, a GPU's rate, the room that a machine has) from options.
The result is printed as Markdown, and written between its marks on a page with --page.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from common import RESULTS
from floors import step_operations, vit_operations
from training_step import SMALL

BEGIN, END = "<!-- begin: written by benchmarks/projection.py -->", "<!-- end -->"
HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True)
class Chain:
    """The paper's chain on SPair-71k: ViT-B/14, 448 px views, 840 px for evaluation."""

    train_images: int = 1000
    other_images: int = 800
    test_pairs: int = 12_234
    picture_bytes: float = 227e6 / 1800  # of an image, in the archive
    width: int = 768
    blocks: int = 12
    view_tokens: int = 32**2
    image_tokens: int = 60**2
    views: int = 10  # cached per training image
    batch: int = 64
    foreground: float = 0.2  # share of the tokens
    steps: int = 33_000


PAPER = Chain()


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
class Assumptions:
    """What was not measured."""

    gpu_rate: float  # operations per second
    gpus: int
    core_price: float  # per hour
    gpu_price: float  # per hour
    disk_price: float  # per GB and month
    patience: float  # seconds
    disk: float  # bytes
    memory: float  # bytes
    square: bool  # pairs grow with the square of the images


@dataclass(frozen=True)
class Need:
    """What one size takes; times in seconds, sizes in bytes."""

    images: float
    on_cpu: dict[str, float]  # stage -> seconds on the measured machine
    on_gpu: dict[str, float]
    storage: dict[str, float]
    memory: float  # of the tables


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the benchmarks' tables")
    parser.add_argument("--page", type=Path, help="Markdown page to write the result to, between its marks")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 1000], help="of SPair-71k's images")
    parser.add_argument("--square", action="store_true", help="pairs grow with the square of the images")
    parser.add_argument("--gpu-tflops", type=float, default=100.0, help="a GPU's rate (default: 100)")
    parser.add_argument("--gpus", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--core-price", type=float, default=0.04, help="per core and hour (default: 0.04)")
    parser.add_argument("--gpu-price", type=float, default=3.0, help="per GPU and hour (default: 3)")
    parser.add_argument("--disk-price", type=float, default=0.05, help="per GB and month (default: 0.05)")
    parser.add_argument("--days", type=float, default=7.0, help="that one waits for a result (default: 7)")
    parser.add_argument("--disk", type=float, default=4000.0, help="GB that there are (default: 4000)")
    parser.add_argument("--memory", type=float, default=64.0, help="GB that there are (default: 64)")
    options = parser.parse_args(arguments)
    assumed = Assumptions(
        gpu_rate=options.gpu_tflops * 1e12,
        gpus=options.gpus,
        core_price=options.core_price,
        gpu_price=options.gpu_price,
        disk_price=options.disk_price,
        patience=options.days * DAY,
        disk=options.disk * 1e9,
        memory=options.memory * 1e9,
        square=options.square,
    )
    text = describe(read_rates(options.results), assumed, options.times)
    print(text)
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        options.page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


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
    images = PAPER.train_images + PAPER.other_images
    tokens = SMALL.side**2
    image = vit_operations(SMALL.block + 1, SMALL.dim, tokens)
    small_step = step_operations(SMALL.batch, tokens, SMALL.batch * PAPER.foreground * tokens, SMALL.dim)
    return Rates(
        hardware=machine["cpu"].item(),
        cores=int(machine["cores"].item()),
        ingest=scale.loc["ingest", "seconds"] / images,
        backbone=image * filled["images_per_s"],
        store=scale.loc["caching", "gb_per_s"] * 1e9,
        load=scale.loc["reading", "gb_per_s"] * 1e9,
        step=small_step / (step["median_ms"] / 1e3),
        match=matching.loc["evaluation, intervals included", "median_ms"] / 1e3 / PAPER.test_pairs,
        tables_time=ten["seconds"] / (10 * images),
        tables_memory=(ten["peak_mb"] - one["peak_mb"]) * 1e6 / (9 * images),
        tables_disk=ten["written_gb"] * 1e9 / (10 * images),
    )


def project(rates: Rates, assumed: Assumptions, times: float) -> Need:
    """Time and storage of `times` SPair-71k.

    A stage that computes and moves data side by side takes the longer of the two.
    """
    chain = PAPER
    train, other = times * chain.train_images, times * chain.other_images
    views = train * chain.views
    cached = {
        "views": 2.0 * views * chain.view_tokens * chain.width,
        "images": 2.0 * other * chain.image_tokens * chain.width,
    }
    backbone = views * vit_operations(chain.blocks, chain.width, chain.view_tokens)
    backbone += other * vit_operations(chain.blocks, chain.width, chain.image_tokens)
    seen = chain.batch * chain.view_tokens  # tokens of a step
    step = step_operations(chain.batch, chain.view_tokens, chain.foreground * seen, chain.width)
    load = 0.0 if cached["views"] < assumed.memory / 2 else 2.0 * seen * chain.width / rates.load

    def stages(backbone_rate: float, step_rate: float) -> dict[str, float]:
        return {
            # ingested once; read by the cache, training and evaluation
            "tables": (train + other) * (rates.ingest + 3 * rates.tables_time),
            "features": max(backbone / backbone_rate, sum(cached.values()) / rates.store),
            "training": chain.steps * max(step / step_rate, load),
            "evaluation": rates.match * chain.test_pairs * (times**2 if assumed.square else times),
        }

    gpus = assumed.gpu_rate * assumed.gpus
    return Need(
        images=train + other,
        on_cpu=stages(rates.backbone, rates.step),
        on_gpu=stages(gpus, gpus),
        storage={
            "pictures": (train + other) * chain.picture_bytes,
            "tables": (train + other) * rates.tables_disk,
            **{f"cache of {name}": size for name, size in cached.items()},
        },
        memory=(train + other) * rates.tables_memory,
    )


def bottleneck(need: Need, assumed: Assumptions, stages: dict[str, float]) -> tuple[str, float]:
    """What exceeds its limit most: the name, and by which factor (below 1: nothing is exceeded)."""
    stage = max(stages, key=lambda name: stages[name])
    kept = max(need.storage, key=lambda name: need.storage[name])
    shares = {
        f"time of {stage}": sum(stages.values()) / assumed.patience,
        f"disk for the {kept}": sum(need.storage.values()) / assumed.disk,
        "memory for the tables": need.memory / assumed.memory,
    }
    name = max(shares, key=lambda name: shares[name])
    return name, shares[name]


def describe(rates: Rates, assumed: Assumptions, factors: Sequence[int]) -> str:
    """The projection as Markdown tables."""
    needs = {times: project(rates, assumed, times) for times in factors}
    heads = [f"{times:,}× ({need.images:,.0f} images)" for times, need in needs.items()]
    lines = [
        f"Measured: {rates.hardware}, {rates.cores} cores. Backbone {rates.backbone / 1e9:,.0f} GFLOP/s, "
        f"training step {rates.step / 1e9:,.0f} GFLOP/s, into the cache {rates.store / 1e9:.2f} GB/s, out of "
        f"it {rates.load / 1e9:.2f} GB/s, evaluation {rates.match * 1e3:.2f} ms per pair, tables "
        f"{rates.tables_memory / 1e3:.1f} kB of memory per image.",
        "",
        f"Assumed, not measured: a GPU of {assumed.gpu_rate / 1e12:g} TFLOP/s sustained, {assumed.gpus} of "
        f"them; {assumed.core_price:g} per core and hour, {assumed.gpu_price:g} per GPU and hour, "
        f"{assumed.disk_price:g} per GB and month; limits of {assumed.patience / DAY:g} days, "
        f"{assumed.disk / 1e9:,.0f} GB of disk and {assumed.memory / 1e9:g} GB of memory; pairs grow with "
        f"the {'square of the ' if assumed.square else ''}images.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]

    def row(name: str, cells: Sequence[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    for title, kind in (("this machine", "on_cpu"), (f"with {assumed.gpus} GPU, assumed", "on_gpu")):
        stages = {times: getattr(need, kind) for times, need in needs.items()}
        row(f"**{title}**, in all", [_time(sum(of.values())) for of in stages.values()])
        for stage in next(iter(stages.values())):
            row(stage, [_time(of[stage]) for of in stages.values()])
        price = rates.cores * assumed.core_price + (
            assumed.gpus * assumed.gpu_price if kind == "on_gpu" else 0
        )
        row("cost", [f"{sum(of.values()) / HOUR * price:,.0f}" for of in stages.values()])
        row(
            "first bottleneck",
            [_limit(bottleneck(need, assumed, stages[times])) for times, need in needs.items()],
        )
    row("**storage**, in all", [_size(sum(need.storage.values())) for need in needs.values()])
    for name in next(iter(needs.values())).storage:
        row(name, [_size(need.storage[name]) for need in needs.values()])
    prices = [sum(need.storage.values()) / 1e9 * assumed.disk_price for need in needs.values()]
    row("cost per month", [f"{price:,.0f}" for price in prices])
    row("**memory** for the tables", [_size(need.memory) for need in needs.values()])
    return "\n".join(lines)


def _limit(found: tuple[str, float]) -> str:
    name, share = found
    return (
        f"{name} ({share:,.1f}× the limit)"
        if share >= 1
        else f"none; closest: {name} ({share:.0%} of the limit)"
    )


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
