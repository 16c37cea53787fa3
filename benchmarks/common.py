"""What all benchmarks share: options, timing in turns, the limits of the hardware, tables."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from spheremap.base.device import choose_device
from spheremap.base.files import write_csv

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "h5py", "timm")


@dataclass(frozen=True)
class Options:
    """How a benchmark is run."""

    tiny: bool  # a size at which it only shows that it works
    threads: int
    repeats: int
    device: torch.device
    out: Path  # folder of the CSV files


def read_options(
    description: str | None, arguments: Sequence[str] | None = None, repeats: int = 9
) -> Options:
    """Parse the command line that all benchmarks have in common, and set the number of threads."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it works")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"timed runs (default: {repeats})")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    return Options(parsed.tiny, parsed.threads, parsed.repeats, choose_device(parsed.device), parsed.out)


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
            wait_for(device)
            start = time.perf_counter()
            function()
            wait_for(device)
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(of)) for name, of in seconds.items()}


def wait_for(device: torch.device | str) -> None:
    """Wait until a GPU has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


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


def allocated_peak(device: torch.device) -> float:
    """Peak memory in MiB of this process: on a GPU what tensors took there, else the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # the peak that getrusage gives is inherited from the parent process
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


# --- tables


def hardware(options: Options) -> dict[str, Any]:
    """Columns that say where and with what a row was measured."""
    on_gpu = options.device.type == "cuda"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "gpu": torch.cuda.get_device_name(options.device) if on_gpu else "none",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def write_rows(name: str, rows: Iterable[Mapping[str, Any]], options: Options) -> pd.DataFrame:
    """Write `<name>.csv` with the hardware beside every row, and print it without."""
    table = pd.DataFrame(rows)
    if "runs" in table:
        table["runs"] = table["runs"].astype("Int64")  # empty where nothing was timed
    for column in table.select_dtypes("float"):
        table[column] = [float(f"{value:.4g}") for value in table[column]]
    write_csv(
        options.out / f"{name}.csv",
        table.assign(size="tiny" if options.tiny else "full", **hardware(options)),
    )
    print(show(name, table))
    return table


def show(name: str, table: pd.DataFrame) -> str:
    """A table as text."""
    return f"\n{name}\n{table.to_string(index=False, na_rep='')}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    of = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    family = f" (family {of['cpu family']}, model {of['model']})" if "cpu family" in of else ""
    return of.get("model name", platform.machine()) + family
