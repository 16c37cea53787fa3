"""Points as a user writes them."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.base.files import read_json

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_POINT = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})")
_FILE_NAME = re.compile(r"/|\.[A-Za-z]\w*$")  # of a text that is meant as a path, not as points


def read_points(text: str) -> NDArray[np.float64]:
    """Points `(K, 2)` from a text such as "10,20 30.5,40", or from the file of that name.

    A file holds one `x,y` per line, with or without the heading `x,y`, or as .json a list of [x, y].

    Raises:
        InputError: if it is neither.
    """
    path = points_file(text)
    if path is not None:
        if path.suffix.lower() == ".json":
            return _from_json(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                "cannot read the points",
                where=path,
                expected="a text file in UTF-8",
                found=(error.strerror if isinstance(error, OSError) else None) or str(error),
            ) from error
        if re.fullmatch(r"\s*x\s*,\s*y\s*", lines[0], re.IGNORECASE):
            lines = lines[1:]
        return _parse([line.strip() for line in lines if line.strip()], path)
    # blanks around a comma belong to the point
    words = re.sub(r"\s*,\s*", ",", text).replace(";", " ").split()
    if _FILE_NAME.search(text) and not all(map(_POINT.fullmatch, words)):
        raise InputError(
            "there is no such file of points",
            where=text,
            expected='a file of x,y lines (or .json), or the points as a text "x,y x,y …"',
            fix="correct the path after --points",
        )
    return _parse(words, "--points")


def points_file(text: str | None) -> Path | None:
    """The file that --points names, if it names what exists; None where it is a text or not given.

    What exists may also be a folder or a pipe.
    """
    try:
        path = Path(text).expanduser() if text else None
        return path if path and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name, or with characters that none has
        return None


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
