"""Section `methods`: what is compared, by the files of `spheremap.methods`.

An entry names its `kind`, which is such a file, and the fields of the class there. Names are checked here,
without loading the file and PyTorch with it; values where the method is made.
"""

import ast
import difflib
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from spheremap.config.fields import Named, need

_FOLDER = Path(__file__).parents[1] / "methods"


def kinds() -> list[str]:
    """The kinds of methods there are."""
    return sorted(path.stem for path in _FOLDER.glob("[!_]*.py"))


def fields_of(kind: str) -> list[str]:
    """The parameters of a kind: the annotated fields of the dataclass in its file."""
    tree = ast.parse((_FOLDER / f"{kind}.py").read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    (found,) = (c for c in classes if {"Method", "Variant"} & {ast.unparse(base) for base in c.bases})
    fields = (node.target for node in found.body if isinstance(node, ast.AnnAssign))
    return [field.id for field in fields if isinstance(field, ast.Name)]


def _check(entry: dict[str, Any]) -> dict[str, Any]:
    need(entry.get("kind") in kinds(), f"kind: expected one of {', '.join(kinds())}")
    known = ["kind", *fields_of(entry["kind"])]
    for key in entry:
        near = difflib.get_close_matches(key, known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"
        need(key in known, f"unknown parameter {key!r}; {advice}")
    for key, value in entry.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        need(finite, f"{key}: expected a finite number, found {value}")
    missing = [key for key in known if key not in entry]
    need(not missing, f"missing: {', '.join(missing)}")
    return entry


Methods = Named[Annotated[dict[str, Any], AfterValidator(_check)]]
