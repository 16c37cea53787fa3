"""Parameters of the evaluation, as they stand in the `evaluate` section of params.yaml."""

from dataclasses import dataclass
from typing import Literal

from spheremap.errors import InputError

KapLabels = Literal["centre", "corner"]


@dataclass(frozen=True)
class EvaluateParams:
    """How to match and score.

    Attributes:
        split: which pairs, "train", "val" or "test".
        sphere_weight: share of the sphere in the row `fused`, in [0, 1].
        alphas: thresholds as shares of the longer side of the target's box.
        kap_labels: where KAP takes a patch to be: its "centre", or its upper left "corner" as the authors do.
        viewpoint_bins: azimuth bins of the breakdown by gap.
        seed: of the row `chance`.
    """

    split: Literal["train", "val", "test"]
    sphere_weight: float
    alphas: tuple[float, ...]
    kap_labels: KapLabels
    viewpoint_bins: int
    seed: int

    def __post_init__(self) -> None:
        _require(0 <= self.sphere_weight <= 1, "sphere_weight", "a share in [0, 1]", self.sphere_weight)
        distinct = len(set(map(alpha_label, self.alphas))) == len(self.alphas)
        positive = len(self.alphas) > 0 and all(0 < alpha < float("inf") for alpha in self.alphas)
        _require(distinct and positive, "alphas", "one or more different positive numbers", list(self.alphas))
        _require(self.viewpoint_bins >= 1, "viewpoint_bins", "1 or more", self.viewpoint_bins)


@dataclass(frozen=True)
class EvaluateSlice:
    """What the command `evaluate` may know of params.yaml."""

    evaluate: EvaluateParams
    dataset: str


def alpha_label(alpha: float) -> str:
    """A threshold as it stands in the names of metrics: 0.1 is "0.10", 0.125 is "0.125"."""
    return max(f"{alpha:.2f}", f"{alpha:g}", key=len)


def _require(condition: bool, name: str, expected: str, found: object) -> None:
    if not condition:
        raise InputError(f"bad value for evaluate.{name}", expected=expected, found=str(found))
