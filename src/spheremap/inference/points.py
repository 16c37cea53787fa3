"""Points as a user writes them."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spheremap.errors import InputError
from spheremap.files import read_json

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_POINT = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})")


def read_points(text: str) -> NDArray[np.float64]:
    """Points `(K, 2)` from a text such as "10,20 30.5,40", or from the file of that name.

    A file holds one `x,y` per line, with or without the heading `x,y`, or as .json a list of [x, y].

    Raises:
        InputError: if it is neither.
    """
    if _is_file(text):
        path = Path(text)
        if path.suffix.lower() == ".json":
            return _from_json(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("cannot read the points", where=path, found=str(error)) from error
        if re.fullmatch(r"\s*x\s*,\s*y\s*", lines[0], re.IGNORECASE):
            lines = lines[1:]
        return _parse([line.strip() for line in lines if line.strip()], path)
    # blanks around a comma belong to the point
    return _parse(re.sub(r"\s*,\s*", ",", text).replace(";", " ").split(), "--points")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with characters that none has
        return False


def _from_json(path: Path) -> NDArray[np.float64]:
    try:
        points = np.asarray(read_json(path), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            "not a list of points", where=path, expected="[[x, y], …]", found=str(error)
        ) from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError("not a list of points", where=path, expected="[[x, y], …]", found=str(points.shape))
    return points


def _parse(words: list[str], where: Path | str) -> NDArray[np.float64]:
    if not words:
        raise InputError("there are no points", where=where, expected='"x,y x,y …", or a file of x,y lines')
    points = []
    for word in words:
        match = _POINT.fullmatch(word)
        if match is None:
            raise InputError(
                "not a point", where=where, expected='"x,y x,y …", or a file of x,y lines', found=repr(word)
            )
        points.append((float(match[1]), float(match[2])))
    return np.array(points)
