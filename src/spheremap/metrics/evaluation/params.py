"""Parameters of the evaluation, as they stand in the `evaluate` section of params.yaml."""

from dataclasses import dataclass
from typing import Literal

from spheremap.base.errors import InputError
from spheremap.methods.readout import Readout, ReadoutKind
from spheremap.methods.rows import FurtherRows
from spheremap.methods.sampling import Sampling
from spheremap.metrics.evaluation.ruler import Frame, Threshold

KapLabels = Literal["centre", "corner"]


@dataclass(frozen=True)
class EvaluateParams:
    """How to match and score; docs/protocols.md says which published tables used which settings.

    Attributes:
        split: which pairs, "train", "val" or "test".
        sphere_weight: share of the sphere in the row `fused`, in [0, 1].
        alphas: thresholds as shares of a side, see `threshold`.
        threshold: whose longer side: the target's "box" or the whole "image".
        frame: coordinates in which distances and sides are measured, "original" pixels or the network's
            "input"; they differ for images that were stretched to a square.
        source: which tokens describe a keypoint of the source, its "patch" or a "bilinear" mixture of four.
        readout: how a place is read from a similarity map, "argmax" or the soft-argmax in a "window".
        window: odd side of that window, in patches.
        temperature: of that soft-argmax.
        kap_labels: where KAP takes a patch to be: its "centre", or its upper left "corner" as the authors do.
        viewpoint_bins: azimuth bins of the breakdown by gap.
        bootstrap: samples of the intervals, 0 for none.
        confidence: share of the samples inside an interval.
        baseline: row of the table that the others' gains are measured against.
        further: rows of the table beyond the paper's.
        sweep: sphere weights that are tried on the validation pairs, in [0, 1]; may be empty.
        seed: of the row `chance` and of the bootstrap.
    """

    split: Literal["train", "val", "test"]
    sphere_weight: float
    alphas: tuple[float, ...]
    threshold: Threshold
    frame: Frame
    source: Sampling
    readout: ReadoutKind
    window: int
    temperature: float
    kap_labels: KapLabels
    viewpoint_bins: int
    bootstrap: int
    confidence: float
    baseline: str
    further: FurtherRows
    sweep: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        _require(0 <= self.sphere_weight <= 1, "sphere_weight", "a share in [0, 1]", self.sphere_weight)
        distinct = len(set(map(alpha_label, self.alphas))) == len(self.alphas)
        positive = len(self.alphas) > 0 and all(0 < alpha < float("inf") for alpha in self.alphas)
        _require(distinct and positive, "alphas", "one or more different positive numbers", list(self.alphas))
        odd = self.window >= 1 and self.window % 2 == 1
        _require(odd, "window", "1, 3, 5, …", self.window)
        _require(0 < self.temperature < float("inf"), "temperature", "a number above 0", self.temperature)
        _require(self.viewpoint_bins >= 1, "viewpoint_bins", "1 or more", self.viewpoint_bins)
        _require(self.bootstrap >= 0, "bootstrap", "0 or more samples", self.bootstrap)
        _require(0 < self.confidence < 1, "confidence", "a share between 0 and 1", self.confidence)
        shares = all(0 <= weight <= 1 for weight in self.sweep)
        different = len(set(self.sweep)) == len(self.sweep)
        _require(shares and different, "sweep", "different shares in [0, 1]", list(self.sweep))

    def make_readout(self) -> Readout:
        """The read-out that these parameters describe."""
        return Readout(self.readout, self.window, self.temperature)

    @property
    def protocol(self) -> str:
        """The settings that scores depend on beside the similarities, in one line."""
        readout: str = self.readout
        if readout == "window":
            readout += f" {self.window}×{self.window}, temperature {self.temperature:g}"
        return (
            f"read-out {readout}; source {self.source}; thresholds of the {self.threshold}; "
            f"{self.frame} pixels; KAP at patch {self.kap_labels}s"
        )


@dataclass(frozen=True)
class EvaluateSlice:
    """What the command `evaluate` may know of params.yaml."""

    evaluate: EvaluateParams
    dataset: str
    adapted: bool = False  # whether the rows of a feature adapter are scored


def alpha_label(alpha: float) -> str:
    """A threshold as it stands in the names of metrics: 0.1 is "0.10", 0.125 is "0.125"."""
    return max(f"{alpha:.2f}", f"{alpha:g}", key=len)


def _require(condition: bool, name: str, expected: str, found: object) -> None:
    if not condition:
        raise InputError(f"bad value for evaluate.{name}", expected=expected, found=str(found))
