"""Run all benchmarks, one after the other and each in a process of its own; each prints its table."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common import RESULTS, hardware, read_options

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


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(__doc__, arguments)
    for name in NAMES:
        subprocess.run([sys.executable, str(HERE / f"{name}.py"), *arguments], check=True)
    print("\n" + ", ".join(f"{name} {value}" for name, value in hardware(options).items()))
    if options.out == RESULTS:
        print(f"tables are in {RESULTS.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
