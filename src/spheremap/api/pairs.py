"""Many pairs of photographs: a table of them, or one photograph and a folder."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.data.images import photograph_formats

_COLUMNS = (["source", "target"], ["source", "target", "x", "y"])


@dataclass(frozen=True)
class Pair:
    """Two photographs, and the points `(K, 2)` of the source that are looked for; None: those of --points."""

    source: Path
    target: Path
    points: NDArray[np.float64] | None = None


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of a CSV table with the columns source and target, or source, target, x and y.

    Photographs are named relative to the table's folder. With x and y a line is a point; lines that follow
    each other with the same photographs are one pair.

    Raises:
        InputError: if it is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns, *lines = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError("cannot read the table of pairs", where=path, found=found) from error
    if columns not in _COLUMNS or not lines:
        raise InputError(
            "not a table of pairs",
            where=path,
            expected=" or ".join(",".join(names) for names in _COLUMNS)
            + ", and a line for each pair or point",
            found=",".join(columns) if lines else "no lines",
        )
    pairs: list[Pair] = []
    for number, line in enumerate(lines, 1):
        source, target, points = _read_line(line, len(columns), path, number)
        if points is not None and pairs and (pairs[-1].source, pairs[-1].target) == (source, target):
            points = np.concatenate([pairs.pop().points, points])
        pairs.append(Pair(source, target, points))
    return pairs


def _read_line(
    line: list[str], columns: int, path: Path, number: int
) -> tuple[Path, Path, NDArray[np.float64] | None]:
    """Source, target and point `(1, 2)` of a line."""
    try:
        if len(line) != columns:
            raise ValueError(f"{len(line)} values")
        point = np.array([[float(text) for text in line[2:]]]) if columns > 2 else None
    except ValueError as error:
        raise InputError(
            f"pair {number} cannot be read",
            where=path,
            expected=f"{columns} values, x and y numbers",
            found=str(error),
        ) from error
    source, target = (path.parent / Path(text).expanduser() for text in line[:2])
    return source, target, point


def pairs_with(source: Path, folder: Path) -> list[Pair]:
    """A photograph with every other one in a folder, by name; hidden files are left out.

    Raises:
        InputError: if there is none.
    """
    formats, known = photograph_formats(), Image.registered_extensions()
    pairs = [
        Pair(source, path)
        for path in sorted(folder.iterdir())
        if known.get(path.suffix.lower()) in formats
        and not path.name.startswith(".")
        and path.resolve() != source.resolve()
    ]
    if not pairs:
        raise InputError(
            "no photographs to find the points in", where=folder, expected="JPEG, PNG and the like"
        )
    return pairs
