"""Sections `evaluate` and `report`: how matches are read and scored, and how much of it is drawn."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from spheremap.base.choices import ReadoutKind, Sampling
from spheremap.config.fields import (
    STRICT,
    Count,
    Distinct,
    Name,
    Natural,
    NotNegative,
    Positive,
    Seed,
    Some,
    Split,
    need,
)

Threshold = Literal["box", "image"]
Frame = Literal["original", "input"]
KapLabels = Literal["centre", "corner"]
Candidates = Literal["all", "inside"]
Resample = Literal["clusters", "pairs"]


def _odd(value: int) -> int:
    need(value % 2 == 1, "expected an odd number")
    return value


def _told_apart(alphas: Any) -> Any:
    need(len({f"{alpha:g}" for alpha in alphas}) == len(alphas), "expected numbers that differ in six digits")
    return alphas


Odd = Annotated[Count, AfterValidator(_odd), Field(json_schema_extra={"not": {"multipleOf": 2}})]


@dataclass(frozen=True, config=STRICT)
class Sweep:
    """A parameter of a method that is tried out on the validation pairs."""

    method: Name = Field(description="Which method, an entry of `methods`.")
    parameter: Name = Field(description="Which of its parameters.")
    values: Distinct[float] = Field(description="Values to be tried; may be empty.")

    @property
    def numbers(self) -> list[float]:
        """The values in order; whole ones as whole numbers, which a parameter of either kind takes."""
        return sorted(int(value) if value.is_integer() else value for value in self.values)


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """How to match and score; docs/protocols.md says which published tables used which settings."""

    split: Split = Field(description="Whose pairs are scored.")
    methods: Some[Name] = Field(description="Entries of `methods` that are scored, in the order shown.")
    alphas: Annotated[Some[Positive], AfterValidator(_told_apart)] = Field(
        description="PCK radii, as shares of a longer side."
    )
    threshold: Threshold = Field(description="Whose longer side: that of the target's box, or of its image.")
    frame: Frame = Field(
        description="Pixels in which distances are measured: the original's, or those of the square input."
    )
    source: Sampling = Field(
        description="Tokens that describe a keypoint: the patch it falls in, or the four about it."
    )
    readout: ReadoutKind = Field(
        description="How a place is read: the best patch, a soft-argmax in a window about it, "
        "or one of all patches under a Gaussian about it."
    )
    candidates: Candidates = Field(
        description="Patches that a keypoint may be found in: all, or those inside the photograph, "
        "not its padding."
    )
    window: Odd = Field(description="Side of that window in patches, odd.")
    sigma: Positive = Field(description="Standard deviation of that Gaussian in patches.")
    temperature: Positive = Field(description="Of either soft-argmax.")
    kap_labels: KapLabels = Field(
        description="Where KAP takes a patch to be: its centre, or its upper left corner (the authors' code)."
    )
    viewpoint_bins: Count = Field(description="Azimuth bins of the breakdown by azimuth gap.")
    bootstrap: Natural = Field(description="Samples of the intervals; 0: none.")
    resample: Resample = Field(
        description="What they draw: clusters (objects or pictures, on both sides of a pair), or pairs."
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(description="Of the intervals.")
    baseline: Name = Field(description="The method that the others' gains are measured against.")
    sweep: Sweep = Field(description="What is tried on the validation pairs.")
    seed: Seed = Field(description="Of the bootstrap.")

    @model_validator(mode="after")
    def _check(self) -> "Evaluate":
        need(self.baseline in self.methods, f"baseline: expected one of methods, {', '.join(self.methods)}")
        return self

    @property
    def protocol(self) -> str:
        """The settings that scores depend on beside the similarities, in one line."""
        readout: str = self.readout
        if readout == "window":
            readout += f" {self.window}×{self.window}, temperature {self.temperature:g}"
        if readout == "kernel":
            readout += f" of {self.sigma:g} patches, temperature {self.temperature:g}"
        return (
            f"read-out {readout}; candidates {self.candidates}; source {self.source}; {self.scoring_protocol}"
        )

    @property
    def scoring_protocol(self) -> str:
        """Those of them that scores of given predictions depend on."""
        return f"thresholds of the {self.threshold}; {self.frame} pixels; KAP at patch {self.kap_labels}s"


@dataclass(frozen=True, config=STRICT)
class Report:
    """How much to draw."""

    compare: tuple[Name, Name] = Field(description="The two methods that are set side by side.")
    pairs: Natural = Field(description="Pairs with drawn matches, chosen by rule.")
    extremes: Natural = Field(description="Best pairs drawn, and as many of the worst.")
    maps: Natural = Field(description="Pictures per category with drawn sphere maps.")
    explorer_mb: NotNegative = Field(
        description="Megabytes of the page that the explorer's descriptors may take; 0: no explorer."
    )
    seed: Seed = Field(description="Of the choice among pairs and pictures that suit equally well.")
