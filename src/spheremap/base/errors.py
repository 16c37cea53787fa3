"""Errors that a user can act on.

Every message answers four questions: what is wrong, what was expected, what came instead, and what to do.
The command line prints it without a traceback and exits with code 1.
"""

from pathlib import Path


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
