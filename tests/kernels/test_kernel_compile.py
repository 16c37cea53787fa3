"""Every program compiles for every architecture that is named, without a GPU, and none spills registers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import spheremap.kernels

pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.slow

ARCHITECTURES = (80, 90, 100)
MAX_SHARED = 99 * 1024  # bytes per program: what every GPU from sm_80 on has
STARVED = "given too few registers"  # as in compile_kernels.py


@pytest.fixture(scope="module")
def compiled(root: Path) -> list[dict[str, Any]]:
    """What the compiled objects say; from a process of its own, since here Triton may be an interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(root / "src"), environment.get("PYTHONPATH", "")])
    script = [
        sys.executable,
        str(root / "tests" / "support" / "compile_kernels.py"),
        *map(str, ARCHITECTURES),
    ]
    result = subprocess.run(script, env=environment, text=True, capture_output=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_programs_compile_and_do_not_spill(compiled: list[dict[str, Any]], architecture: int) -> None:
    rows = [row for row in compiled if row["capability"] == architecture]
    sources = "".join(file.read_text() for file in Path(spheremap.kernels.__path__[0]).glob("*.py"))
    launched = set(re.findall(r"\blaunch\(\s*(\w+),", sources))
    assert len(launched) >= 6
    assert {row["program"] for row in rows} == launched
    for row in rows:
        if row["variant"] == STARVED:
            assert row["stack"] > 0, "spills cannot be seen"
            continue
        assert row["stack"] == row["local"] == 0, f"spills: {row}"
        assert 0 < row["registers"] <= 255
        assert row["shared"] <= MAX_SHARED, f"too much shared memory: {row}"
    assert sum(row["variant"] == STARVED for row in rows) == 1
