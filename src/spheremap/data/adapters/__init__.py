"""Data sets by adapter: each layout on disk has one module here that reads it into the canonical tables.

Nothing downstream knows any data set by name. A layout is the name of its module, which has `Params`, what an
entry of params.yaml says, and `read`, which takes that and returns `Ingested`.
"""

import dataclasses
import importlib
import pkgutil
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass as strict

from spheremap.base.errors import did_you_mean
from spheremap.base.files import read_json
from spheremap.base.provenance import provenance
from spheremap.config.fields import STRICT, Split
from spheremap.config.slices import parse
from spheremap.data.adapter_tools import Ingested, refusal
from spheremap.data.merge_splits import merge_splits
from spheremap.data.tables import Tables

# keys of an entry that are not the adapter's concern
_NOT_THE_ADAPTERS = ("download", "masks", "terms", "borrow", "keypoint_groups")


@strict(frozen=True, config=STRICT)
class _Borrow:
    """An entry's `borrow`: splits to take from another data set, whose own entry it holds."""

    entry: dict[str, Any]
    splits: list[Split]
    categories: list[str] | None


def ingest(params: Path) -> tuple[Tables, dict[str, Any]]:
    """Read the data set that an entry of params.yaml's `datasets` describes.

    Args:
        params: JSON file with that entry: layout, root and what the layout's adapter asks for; perhaps
            `borrow`, with the splits to take from another data set, whose entry it holds.

    Returns:
        The canonical tables and their provenance.

    Raises:
        InputError: if the entry or the data set is malformed.
    """
    entry = read_json(params)
    if not isinstance(entry, dict):
        raise refusal("not an entry of `datasets` in params.yaml", params, "a mapping", repr(entry))
    spec, own = read_entry(entry, params)
    if entry.get("borrow") is None:
        return own.tables, provenance("ingest", spec, own.inputs)
    borrow = parse(entry["borrow"], _Borrow, where=params, key="borrow")
    other_spec, other = read_entry(borrow.entry, f"{params}, the data set to borrow from")
    tables = merge_splits(own.tables, other.tables, borrow.splits, borrow.categories, where=str(params))
    inputs = own.inputs | {f"borrowed {kind}": digest for kind, digest in other.inputs.items()}
    record = {**spec, "borrow": {**dataclasses.asdict(borrow), "entry": other_spec}}
    return tables, provenance("ingest", record, inputs)


def layouts() -> list[str]:
    """The names of all layouts: of the modules here."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def read_entry(entry: dict[str, Any], where: Path | str) -> tuple[dict[str, Any], Ingested]:
    """Read one entry by the adapter of its layout; returns it as parsed, and the data set."""
    layout = entry.get("layout")
    if layout not in layouts():
        fix = did_you_mean(str(layout), layouts(), "correct the entry in params.yaml")
        if layout == "shapes":
            fix = "make it with `spheremap render`"
        expected = "layout: one of " + ", ".join(layouts())
        raise refusal("the data set's layout cannot be ingested", where, expected, f"layout: {layout!r}", fix)
    adapter = importlib.import_module(f"{__name__}.{layout}")
    given = {key: value for key, value in entry.items() if key != "files"}  # a digest, for the workflow
    params = parse({"masks": {"source": "own"}, **given}, adapter.Params, where=where)
    record = {key: value for key, value in dataclasses.asdict(params).items() if key not in _NOT_THE_ADAPTERS}
    return record, adapter.read(params)
