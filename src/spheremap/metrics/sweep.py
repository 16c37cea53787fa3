"""The best value in a sweep: the table of a method's scores on validation by one of its parameters."""

from dataclasses import dataclass

import pandas as pd
from pydantic.dataclasses import dataclass as strict

from spheremap.config.fields import STRICT
from spheremap.metrics.score_table import alphas_of


@strict(frozen=True, config=STRICT)
class Gain:
    """What a value gains over 0, in percentage points of PCK per point.

    Attributes:
        alpha: the threshold.
        points: the gain.
        low: lower end of its interval; None: no samples were drawn.
        high: upper end.
    """

    alpha: float
    points: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        ends = "" if self.low is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.points:+.1f}{ends}"


@dataclass(frozen=True)
class Best:
    """A value, and what it gains; None: 0 was not tried."""

    value: float
    gain: Gain | None


def best_of(sweep: pd.DataFrame) -> Best:
    """The value with the highest PCK per point at the largest threshold; the first of equals.

    Args:
        sweep: one line or more, see `spheremap.metrics.results.Results`.
    """
    parameter, alpha = sweep.columns[0], alphas_of(sweep.columns)[0]
    name = f"pck_point@{alpha}"
    best = sweep.iloc[int(sweep[name].argmax())]
    zero = sweep[name][sweep[parameter] == 0]
    if zero.empty:
        return Best(float(best[parameter]), None)
    ends = [float(best[end]) for end in (f"{name}_gain_low", f"{name}_gain_high") if end in sweep]
    return Best(float(best[parameter]), Gain(float(alpha), float(best[name] - zero.iloc[0]), *ends))
