"""Data sets by adapter: each layout on disk has one module that reads it into the canonical tables.

Nothing downstream knows any data set by name. A new layout is one dataclass for its entry in params.yaml, one
function that returns `Ingested`, and one line in `ADAPTERS`.
"""

import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spheremap.datasets.common import Ingested
from spheremap.datasets.spair import SPairParams, read_spair
from spheremap.errors import InputError
from spheremap.files import read_json
from spheremap.params import parse
from spheremap.provenance import provenance
from spheremap.tables import Tables


@dataclass(frozen=True)
class Adapter:
    """How a layout is read: the type of its entry in params.yaml, and a function of such an entry."""

    params: type
    read: Callable[[Any], Ingested]


ADAPTERS: dict[str, Adapter] = {"spair": Adapter(SPairParams, read_spair)}


def ingest(params: Path) -> tuple[Tables, dict[str, Any]]:
    """Read the data set that an entry of params.yaml's `datasets` describes.

    Args:
        params: JSON file with that entry.

    Returns:
        The canonical tables and their provenance.

    Raises:
        InputError: if the entry or the data set is malformed.
    """
    entry = read_json(params)
    layout = entry.get("layout") if isinstance(entry, dict) else None
    adapter = ADAPTERS.get(layout) if isinstance(layout, str) else None
    if adapter is None:
        near = difflib.get_close_matches(str(layout), ADAPTERS, n=1)
        raise InputError(
            "the data set's layout cannot be ingested",
            where=params,
            expected="layout: one of " + ", ".join(ADAPTERS),
            found=f"layout: {layout!r}",
            fix=(
                "make it with `spheremap render`"
                if layout == "shapes"
                else f"did you mean {near[0]!r}?"
                if near
                else "correct the entry in params.yaml"
            ),
        )
    spec = parse(entry, adapter.params, where=params)
    ingested = adapter.read(spec)
    return ingested.tables, provenance("ingest", dataclasses.asdict(spec), ingested.inputs)
