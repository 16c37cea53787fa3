"""Parameters of the evaluation, as they stand in the `evaluate` section of params.yaml."""

from dataclasses import dataclass
from typing import Any, Literal

from spheremap.base.errors import InputError
from spheremap.methods.engine.readout import Readout, ReadoutKind
from spheremap.methods.engine.sampling import Sampling
from spheremap.metrics.catalogue import alpha_label
from spheremap.metrics.ruler import Frame, Threshold

KapLabels = Literal["centre", "corner"]


@dataclass(frozen=True)
class Sweep:
    """A parameter of a method that is tried out on the validation pairs.

    Attributes:
        method: name of the method, an entry of `methods`.
        parameter: one of its parameters.
        values: to be tried; may be empty.
    """

    method: str
    parameter: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        different = len(set(self.values)) == len(self.values)
        _require(different, "sweep.values", "different values", list(self.values))


@dataclass(frozen=True)
class EvaluateParams:
    """How to match and score; docs/protocols.md says which published tables used which settings.

    Attributes:
        split: which pairs, "train", "val" or "test".
        methods: which entries of `methods` are scored, in the order in which they are shown.
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
        baseline: the method that the others' gains are measured against.
        sweep: what is tried on the validation pairs.
        seed: of the bootstrap.
    """

    split: Literal["train", "val", "test"]
    methods: tuple[str, ...]
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
    sweep: Sweep
    seed: int

    def __post_init__(self) -> None:
        once = 0 < len(self.methods) == len(set(self.methods))
        _require(once, "methods", "one or more different names", ", ".join(self.methods) or "none")
        known = self.baseline in self.methods
        _require(known, "baseline", f"one of evaluate.methods: {', '.join(self.methods)}", self.baseline)
        distinct = len(set(map(alpha_label, self.alphas))) == len(self.alphas)
        positive = len(self.alphas) > 0 and all(0 < alpha < float("inf") for alpha in self.alphas)
        _require(distinct and positive, "alphas", "one or more different positive numbers", list(self.alphas))
        odd = self.window >= 1 and self.window % 2 == 1
        _require(odd, "window", "1, 3, 5, …", self.window)
        _require(0 < self.temperature < float("inf"), "temperature", "a number above 0", self.temperature)
        _require(self.viewpoint_bins >= 1, "viewpoint_bins", "1 or more", self.viewpoint_bins)
        _require(self.bootstrap >= 0, "bootstrap", "0 or more samples", self.bootstrap)
        _require(0 < self.confidence < 1, "confidence", "a share between 0 and 1", self.confidence)

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
    """What the command `evaluate` may know of params.yaml; for `methods` see `spheremap.methods`."""

    evaluate: EvaluateParams
    methods: dict[str, dict[str, Any]]
    dataset: str


def _require(condition: bool, name: str, expected: str, found: object) -> None:
    if not condition:
        raise InputError(f"bad value for evaluate.{name}", expected=expected, found=str(found))
