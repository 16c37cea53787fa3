"""Sections `evaluate` and `report`: how matches are read and scored, and how much of it is drawn."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from spheremap.config.fields import (
    STRICT,
    Count,
    Distinct,
    Natural,
    NotNegative,
    Positive,
    Seed,
    Share,
    Some,
    Split,
    Text,
    need,
)

Threshold = Literal["box", "image"]
Frame = Literal["original", "input"]
Sampling = Literal["patch", "bilinear"]
ReadoutKind = Literal["argmax", "window"]
KapLabels = Literal["centre", "corner"]
FurtherRow = Literal["subpatch", "mutual", "viewpoint"]


def _odd(value: int) -> int:
    need(value % 2 == 1, "expected an odd number")
    return value


def _told_apart(alphas: Any) -> Any:
    need(len({f"{alpha:g}" for alpha in alphas}) == len(alphas), "expected numbers that differ in six digits")
    return alphas


Odd = Annotated[Count, AfterValidator(_odd), Field(json_schema_extra={"not": {"multipleOf": 2}})]


@dataclass(frozen=True, config=STRICT)
class MutualFilter:
    """The row fused_mutual: patches that match another part of the source better count less."""

    radius: NotNegative = Field(description="Patches by which a match may miss its start on the way back.")
    penalty: NotNegative = Field(description="Loss of similarity of patches that match another part better.")


@dataclass(frozen=True, config=STRICT)
class ViewpointMix:
    """The row fused_viewpoint: the sphere counts by how far apart two viewpoints seem to be."""

    near: Share = Field(description="Weight of the sphere at equal viewpoints.")
    far: Share = Field(description="Weight of the sphere at opposite viewpoints.")


@dataclass(frozen=True, config=STRICT)
class Further:
    """Rows beyond the paper."""

    rows: Distinct[FurtherRow] = Field(description="Which of them are scored.")
    mutual: MutualFilter = Field(description="Of the row fused_mutual.")
    viewpoint: ViewpointMix = Field(description="Of the row fused_viewpoint.")


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """How to match and score; docs/protocols.md says which published tables used which settings."""

    split: Split = Field(description="Whose pairs are scored.")
    sphere_weight: Share = Field(description="Of the sphere in the fused similarity.")
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
        description="How a place is read from similarities: the best patch, or a soft-argmax in a window."
    )
    window: Odd = Field(description="Side of that window in patches, odd.")
    temperature: Positive = Field(description="Of that soft-argmax.")
    kap_labels: KapLabels = Field(
        description="Where KAP takes a patch to be: its centre, or its upper left corner (the authors' code)."
    )
    viewpoint_bins: Count = Field(description="Azimuth bins of the breakdown by azimuth gap.")
    bootstrap: Natural = Field(description="Samples of the intervals; 0: none.")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(description="Of the intervals.")
    baseline: Text = Field(description="Row of the table that the others' gains are measured against.")
    further: Further = Field(description="Rows beyond the paper (docs/further-rows.md).")
    sweep: Distinct[Share] = Field(description="Weights of the sphere tried on validation.")
    seed: Seed = Field(description="Of the row chance and of the bootstrap.")

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


@dataclass(frozen=True, config=STRICT)
class Report:
    """How much to draw."""

    pairs: Natural = Field(description="Pairs with drawn matches, chosen by rule.")
    extremes: Natural = Field(description="Best pairs drawn, and as many of the worst.")
    maps: Natural = Field(description="Pictures per category with drawn sphere maps.")
    explorer_mb: NotNegative = Field(
        description="Megabytes of the page that the explorer's descriptors may take; 0: no explorer."
    )
    seed: Seed = Field(description="Of the choice among pairs and pictures that suit equally well.")
