"""What all benchmarks share: options, sizes, timing in turns, limits of the hardware, tables."""

import argparse
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from spheremap.base.device import choose_device, deterministic
from spheremap.base.files import write_csv

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "h5py", "timm")

Row = dict[str, Any]  # of a table


@dataclass(frozen=True)
class Options:
    """How a benchmark is run."""

    tiny: bool  # a size at which it only shows that it works
    threads: int
    repeats: int
    device: torch.device
    out: Path  # folder of the CSV files

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def read_options(doc: str | None, arguments: Sequence[str] | None = None, repeats: int = 9) -> Options:
    """Parse the command line that all benchmarks have in common, and set the number of threads."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it works")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"timed runs (default: {repeats})")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    return Options(parsed.tiny, parsed.threads, parsed.repeats, choose_device(parsed.device), parsed.out)


def run(
    name: str,
    doc: str | None,
    measure: Callable[[Options], Iterable[Row]],
    arguments: Sequence[str] | None = None,
    repeats: int = 9,
) -> None:
    """Measure; write `<name>.csv` with the hardware beside every row, and print it without."""
    options = read_options(doc, arguments, repeats)
    with deterministic():  # as the workflow's steps run
        table = pd.DataFrame(measure(options))
    if "runs" in table:
        table["runs"] = table["runs"].astype("Int64")  # empty where nothing was timed
    for column in table.select_dtypes("float"):
        table[column] = [float(f"{value:.4g}") for value in table[column]]
    size = "tiny" if options.tiny else "full"
    write_csv(options.out / f"{name}.csv", table.assign(size=size, **hardware(options)))
    print(f"\n{name}\n{table.to_string(index=False, na_rep='')}", flush=True)


def hardware(options: Options) -> Row:
    """Columns that say where and with what a row was measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "gpu": torch.cuda.get_device_name(options.device) if options.on_gpu else "none",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    of = dict(re.findall(r"^(\S.*?)\s*:\s*(.*)$", text, re.MULTILINE))
    family = f" (family {of['cpu family']}, model {of['model']})" if "cpu family" in of else ""
    return of.get("model name", platform.machine()) + family


@dataclass(frozen=True)
class Workload:
    """Size of a training step."""

    model: str  # backbone, of timm
    block: int  # its last block
    patch: int  # its patch size
    dim: int
    batch: int
    side: int  # patches per row and column
    categories: int
    records: int  # in the cache


TINY = Workload("vit_tiny_patch16_224", 0, 16, 192, batch=3, side=5, categories=2, records=8)
SMALL = Workload("vit_small_patch14_dinov2", 9, 14, 384, batch=16, side=32, categories=18, records=64)
PAPER = Workload("vit_base_patch14_dinov2", 11, 14, 768, batch=64, side=32, categories=18, records=512)


def choose(options: Options, tiny: Any, on_cpu: Any, on_gpu: Any) -> Any:
    """One of three sizes."""
    return tiny if options.tiny else on_gpu if options.on_gpu else on_cpu


# --- timing


@dataclass(frozen=True)
class Timing:
    """Seconds of several runs."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    def columns(self) -> dict[str, float | int]:
        """Median, 20th and 80th percentile in milliseconds, and the number of runs."""
        p20, p50, p80 = np.quantile(self.seconds, [0.2, 0.5, 0.8]) * 1e3
        return {"median_ms": p50, "p20_ms": p20, "p80_ms": p80, "runs": len(self.seconds)}


def alternate(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    device: torch.device | str = "cpu",
    warm_up: int = 1,
) -> dict[str, Timing]:
    """Time functions in turns, so that whatever else the machine does falls on all of them.

    Args:
        functions: by name.
        repeats: timed runs of each.
        device: waited for before and after each run.
        warm_up: runs of each that are not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + repeats):
        for name, function in functions.items():
            passed = seconds_of(function, device)
            if turn >= warm_up:
                seconds[name].append(passed)
    return {name: Timing(tuple(of)) for name, of in seconds.items()}


def seconds_of(function: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Seconds of one call, the work of a GPU included."""
    wait_for(device)
    start = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device | str) -> None:
    """Wait until a GPU has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_process(options: Options, function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Call a function in a process of its own; returns its result, its seconds and its peak memory in MB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, options, function, arguments).result()


def _measured(options: Options, function: Callable[..., Any], arguments: Any) -> tuple[Any, float, float]:
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    result = function(*arguments)
    wait_for(options.device)
    return result, time.perf_counter() - start, peak_memory(options.device)


def peak_memory(device: torch.device) -> float:
    """Peak memory in MB of this process: on a GPU what tensors took there, else the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    # the peak that getrusage gives is inherited from the parent process
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


# --- limits of the hardware


@cache
def matmul_rate(device: torch.device, precision: torch.dtype, tiny: bool = False) -> float:
    """Floating-point operations per second of the fastest matrix product at hand, measured.

    On a CPU in float32 the better of PyTorch's two libraries, MKL and oneDNN.
    """
    side = 256 if tiny else (2048 if device.type == "cpu" else 8192)
    a, b = (torch.randn(side, side, device=device, dtype=precision) for _ in range(2))
    functions: dict[str, Callable[[], object]] = {"matmul": lambda: a @ b}
    if device.type == "cpu" and precision == torch.float32 and torch.backends.mkldnn.is_available():
        in_layout = a.to_mkldnn()
        functions["onednn"] = lambda: torch.nn.functional.linear(in_layout, b)
    timings = alternate(functions, repeats=7, device=device, warm_up=2)
    return 2 * side**3 / min(timing.median for timing in timings.values())


@cache
def copy_bandwidth(device: torch.device, tiny: bool = False) -> float:
    """Bytes read and written per second by the copy of a tensor far larger than any cache, measured."""
    source = torch.ones((1 if tiny else 128 if device.type == "cpu" else 1024) * 2**20, device=device)
    target = torch.empty_like(source)
    timing = alternate({"copy": lambda: target.copy_(source)}, repeats=7, device=device, warm_up=2)
    return 2 * source.nbytes / timing["copy"].median
