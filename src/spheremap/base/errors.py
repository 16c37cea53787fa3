"""Errors that a user can act on.

Every message answers four questions: what is wrong, what was expected, what came instead, and what to do.
The command line prints it without a traceback and exits with code 1.
"""

import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class SpheremapError(Exception):
    """Base of all errors that spheremap raises on purpose.

    Args:
        problem: what is wrong, as a short sentence without a full stop.
        expected: what would have been right.
        found: what came instead.
        where: the file, parameter or record concerned.
        fix: what the user can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        where: str | Path | None = None,
        fix: str | None = None,
    ) -> None:
        labelled = [("in", where), ("expected", expected), ("found", found), ("to do", fix)]
        lines = [problem, *(f"  {label}: {text}" for label, text in labelled if text is not None)]
        super().__init__("\n".join(lines))


class InputError(SpheremapError):
    """Data or parameters that cannot be used as they are."""


class ProvenanceError(SpheremapError):
    """An artifact that is damaged, incomplete or was made with other settings."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3  # a value out of a damaged file may be nested or refer to itself
_SHORT.maxlist = _SHORT.maxtuple = 8
_SHORT.maxstring = _SHORT.maxother = 200


def short(value: Any) -> str:
    """A value as text that fits into a message and any terminal."""
    try:
        text = _SHORT.repr(value).encode("ascii", "backslashreplace").decode()
    except ValueError:  # an integer of thousands of digits
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= 200 else text[:200] + "…"


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """What to do about a name that is not among those known: the nearest one if any is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise
