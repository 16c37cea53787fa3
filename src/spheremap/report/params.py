"""Parameters of the report, as they stand in the `report` section of params.yaml."""

from dataclasses import dataclass
from typing import Any

from spheremap.base.errors import InputError
from spheremap.metrics.settings import EvaluateParams


@dataclass(frozen=True)
class ReportParams:
    """How much to draw.

    Attributes:
        compare: the two methods that are set side by side.
        pairs: pairs with drawn matches, chosen by rule.
        extremes: pairs drawn of the best, and as many of the worst.
        maps: pictures per category with drawn sphere maps.
        explorer_mb: megabytes of the page for the explorer's descriptors; it offers all drawn pairs. 0 leaves
            the explorer out.
        seed: of the choice among pairs and pictures that suit equally well.
    """

    compare: tuple[str, str]
    pairs: int
    extremes: int
    maps: int
    explorer_mb: float
    seed: int

    def __post_init__(self) -> None:
        """Reject negative numbers.

        Raises:
            InputError: naming the parameter.
        """
        for name in ("pairs", "extremes", "maps", "explorer_mb", "seed"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"bad value for report.{name}", expected="0 or more", found=str(getattr(self, name))
                )


@dataclass(frozen=True)
class ReportSlice:
    """What the command `report` may know of params.yaml."""

    dataset: str
    report: ReportParams
    evaluate: EvaluateParams
    methods: dict[str, dict[str, Any]]
