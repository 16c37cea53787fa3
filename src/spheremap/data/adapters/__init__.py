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

from spheremap.base.errors import InputError
from spheremap.base.files import read_json
from spheremap.base.provenance import provenance
from spheremap.config.slices import parse
from spheremap.data.adapters.ap10k import Ap10kParams, read_ap10k
from spheremap.data.adapters.awa_pose import AwaPoseParams, read_awa_pose
from spheremap.data.adapters.borrow import Loan, Split, borrow
from spheremap.data.adapters.common import Ingested
from spheremap.data.adapters.folder import FolderParams, read_folder
from spheremap.data.adapters.freiburg_cars import FreiburgCarsParams, read_freiburg_cars
from spheremap.data.adapters.pf_pascal import PFPascalParams, read_pf_pascal
from spheremap.data.adapters.spair import SPairParams, read_spair
from spheremap.data.adapters.spair_u import SPairUParams, read_spair_u
from spheremap.data.tables import Tables


@dataclass(frozen=True)
class Adapter:
    """How a layout is read: the type of its entry in params.yaml, and a function of such an entry."""

    params: type
    read: Callable[[Any], Ingested]


ADAPTERS: dict[str, Adapter] = {
    "spair": Adapter(SPairParams, read_spair),
    "spair_u": Adapter(SPairUParams, read_spair_u),
    "freiburg_cars": Adapter(FreiburgCarsParams, read_freiburg_cars),
    "awa_pose": Adapter(AwaPoseParams, read_awa_pose),
    "ap10k": Adapter(Ap10kParams, read_ap10k),
    "folder": Adapter(FolderParams, read_folder),
    "pf_pascal": Adapter(PFPascalParams, read_pf_pascal),
}


_OF_OTHERS = ("download", "masks", "borrow", "files")  # keys of an entry that are not the adapter's concern


@dataclass(frozen=True)
class _Borrow:
    """What `ingest` reads of an entry's `borrow`: the loan, and the lender's own entry."""

    entry: dict[str, Any]
    splits: list[Split]
    categories: list[str] | None = None


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
        raise InputError(
            "not an entry of `datasets` in params.yaml", where=params, expected="a mapping", found=repr(entry)
        )
    spec, ingested = _read(entry, params)
    if entry.get("borrow") is None:
        return ingested.tables, provenance("ingest", spec, ingested.inputs)
    loan = parse(entry["borrow"], _Borrow, where=params, key="borrow")
    lender_spec, lender = _read(loan.entry, f"{params}, the data set to borrow from")
    tables = borrow(ingested.tables, lender.tables, Loan(loan.splits, loan.categories), str(params))
    inputs = {**ingested.inputs, **{f"borrowed {kind}": of for kind, of in lender.inputs.items()}}
    record = {**spec, "borrow": {**dataclasses.asdict(loan), "entry": lender_spec}}
    return tables, provenance("ingest", record, inputs)


def _read(entry: dict[str, Any], where: Path | str) -> tuple[dict[str, Any], Ingested]:
    """Read one entry by the adapter of its layout; returns the parsed entry as well."""
    layout = entry.get("layout")
    adapter = ADAPTERS.get(layout) if isinstance(layout, str) else None
    if adapter is None:
        near = difflib.get_close_matches(str(layout), ADAPTERS, n=1)
        raise InputError(
            "the data set's layout cannot be ingested",
            where=where,
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
    own = {key: value for key, value in entry.items() if key not in _OF_OTHERS}
    spec = parse(own, adapter.params, where=where)
    return dataclasses.asdict(spec), adapter.read(spec)
