"""Validators whose scores are written down, for whatever is trained."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any


class Interrupted(Exception):
    """Stands for a signal."""


def scripted(scores: Iterable[float] | None, stop_at: int | None = None) -> Callable[[Any], float] | None:
    """Gives the scores, one per call, and is interrupted at a call; no validator without either."""
    if scores is None and stop_at is None:
        return None
    left, calls = iter(itertools.repeat(0.0) if scores is None else scores), itertools.count()

    def validator(_: Any) -> float:
        if next(calls) == stop_at:
            raise Interrupted
        return next(left)

    return validator
