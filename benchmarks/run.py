"""Run all benchmarks, one after the other and each in a process of its own, and print their tables last."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from common import RESULTS, hardware, read_options, show

HERE = Path(__file__).parent
NAMES = (
    "training_step",
    "kernels",
    "feature_cache",
    "cache_reading",
    "matching",
    "memory",
    "scale",
    "photographs",
)
SHOWN = (
    *("case", "what", "order", "variant", "seconds", "median_ms", "p20_ms", "p80_ms", "runs", "times_ours"),
    *("share_of_floor", "share_with_launches", "share_of_bare", "share_of_raw", "cache_mb", "peak_mb"),
    *("above_backbone_mb", "gb_per_s", "note"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(__doc__, arguments)
    for name in NAMES:
        print(f"--- {name}", flush=True)
        subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), *arguments], check=True, stdout=subprocess.DEVNULL
        )
    for name in NAMES:
        table = pd.read_csv(options.out / f"{name}.csv", dtype={"runs": "Int64"}, keep_default_na=True)
        print(show(name, table[[column for column in SHOWN if column in table]].fillna({"note": ""})))
    print("\n" + ", ".join(f"{name} {value}" for name, value in hardware(options).items()))
    if options.out == RESULTS:
        print(f"tables are in {RESULTS.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
