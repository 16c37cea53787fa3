"""The notebook runs from its first cell to its last, and shows what it says."""

import ast
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studio import Studio

import spheremap


def cells(root: Path) -> list[dict[str, Any]]:
    notebook = json.loads((root / "docs/notebooks/first_run.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_it_is_stored_without_outputs(root: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(root))


@pytest.mark.slow
def test_its_cells_run(root: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a random backbone, whose weights need not be fetched."""
    matcher = spheremap.load(studio.bundle, device="cpu")
    monkeypatch.setattr(spheremap, "load", lambda: matcher, raising=False)
    install, *others = ("".join(cell["source"]) for cell in cells(root))
    assert "%pip install" in install  # no plain Python
    names: dict[str, Any] = {}
    shown = []
    for number, source in enumerate(others, 2):
        *statements, last = ast.parse(source).body
        exec(compile(ast.Module(statements, []), f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names))
        else:
            exec(compile(ast.Module([last], []), f"cell {number}", "exec"), names)
    pictures = [value for value in shown if hasattr(value, "_repr_png_")]
    assert [type(value).__name__ for value in pictures] == [
        "Image", "Image", "Matches", "SphereMap", "SphereMap"
    ]  # fmt: skip
    assert all(value._repr_png_().startswith(b"\x89PNG") for value in pictures)
    (table,) = [value for value in shown if isinstance(value, pd.DataFrame)]
    assert len(table) == len(names["points"])
