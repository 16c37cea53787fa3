"""Every program compiles for every architecture that is named, without a GPU, and none spills registers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spheremap.kernels.programs

pytest.importorskip("triton", reason="Triton is not installed")

ARCHITECTURES = (80, 90, 100)
MAX_SHARED = 99 * 1024  # bytes per program: what every GPU from sm_80 on has
STARVED = "given too few registers"  # as in compile_kernels.py


@pytest.fixture(scope="module")
def compilers(root: Path) -> Iterator[dict[int, subprocess.Popen[str]]]:
    """One process per architecture, side by side; not in this one, where Triton may be an interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(root / "src"), environment.get("PYTHONPATH", "")])
    environment["OMP_NUM_THREADS"] = "1"
    script = str(root / "tests" / "compile_kernels.py")
    processes = {
        architecture: subprocess.Popen(
            [sys.executable, script, str(architecture)],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for architecture in ARCHITECTURES
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_programs_compile_and_do_not_spill(
    compilers: dict[int, subprocess.Popen[str]], architecture: int
) -> None:
    process = compilers[architecture]
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    rows: list[dict[str, Any]] = json.loads(output)
    control = [row for row in rows if row["variant"] == STARVED]
    assert len(control) == 1
    assert control[0]["stack"] > 0, "spills cannot be seen"

    sources = "".join(file.read_text() for file in Path(spheremap.kernels.programs.__path__[0]).glob("*.py"))
    launched = set(re.findall(r"\blaunch\(\s*(\w+),", sources))
    assert len(launched) >= 9
    assert {row["program"] for row in rows} == launched
    for row in rows:
        if row not in control:
            assert row["stack"] == row["local"] == 0, f"spills: {row}"
            assert 0 < row["registers"] <= 255
            assert row["shared"] <= MAX_SHARED, f"too much shared memory: {row}"
