"""The crash harness in its short form: one of each fault, at single steps."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

# fault -> the cases tried; the long form, `make crash`, tries all
SHORT = {
    "killed: spheremap": ["render", "weights", "cache images", "train", "evaluate", "report"],
    "worker killed": ["a process that renders"],
    "flipped byte": [
        "head, read by evaluate",
        "image, read by",
        "shard of images",
        "training state",
    ],
    "file cut short": ["weights"],
    "disk full": ["cache images"],
    "read-only folder": ["weights"],
    "file may not grow": ["train"],
    "two at once": ["spheremap train"],
    "NaN or infinity": ["NaN in features of images, read by evaluate"],
    "out of memory": ["GPU, train"],
    "interrupted: spheremap": ["cache images, Ctrl-C"],
}
MOUNTED = {"disk full", "read-only folder"}


@pytest.mark.slow
def test_no_fault_ends_in_a_wrong_result(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    shutil.copyfile(root / "docs" / "faults.md", page)
    wanted = [f"{fault}, {case}" for fault, cases in SHORT.items() for case in cases]
    run = subprocess.run(
        [
            sys.executable, str(root / "crash" / "run.py"), "--repeats=1", "--commands=0",
            f"--folder={tmp_path / 'laboratory'}", f"--out={tmp_path / 'trials.csv'}", f"--docs={page}",
            "--only", *wanted,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert set(trials["verdict"]) <= {"identical", "refused"}
    # without root nothing can be mounted, and the harness says so
    tried = set(trials["fault"])
    assert tried >= set(SHORT) - MOUNTED
    assert tried >= MOUNTED or (os.geteuid() != 0 or "mount" in run.stdout)
    for word in ("| killed: spheremap | 6 | 6 | 0 | 0 |", "| **all** |"):
        assert word in page.read_text()
