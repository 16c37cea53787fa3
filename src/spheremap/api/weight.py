"""The weight that the sphere has in a bundle: the best one on validation, and what it gains over features."""

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic.dataclasses import dataclass

from spheremap.base.files import sha256_file
from spheremap.config.fields import STRICT, Share
from spheremap.metrics.record import check_files, read_record
from spheremap.metrics.results import PROVENANCE, WEIGHT_SWEEP
from spheremap.metrics.sweep import Gain, best_of

Source = Literal["validation", "params", "option", "authors", "bundle", "call"]
_WHY = {
    "params": "that of params.yaml, not chosen on validation",
    "option": "chosen by hand when the bundle was made",
    "authors": "that of the head's authors",
    "bundle": "the bundle's",
    "call": "as asked for",
}


@dataclass(frozen=True, config=STRICT)
class SphereWeight:
    """A weight and where it comes from.

    Attributes:
        value: share of the sphere in the fused similarity.
        source: validation, the constant of params.yaml, the option of `spheremap bundle`, the authors of a
            published head, a bundle that does not say, or the call at hand.
        gain: over features alone on validation; None of other sources.
    """

    value: Share
    source: Source
    gain: Gain | None = None

    def __str__(self) -> str:
        if self.gain is None:
            return f"sphere weight {self.value:g}, {_WHY[self.source]}"
        if self.value == 0:
            return "sphere weight 0: validation found no gain, features alone are used"
        over = f"{self.gain} points of PCK@{self.gain.alpha:.2f} over features"
        return f"sphere weight {self.value:g}, chosen on validation: {over}"


def validated_weight(results: Path, head: Path) -> SphereWeight | str:
    """The weight that was best on validation, by the evaluation of a head; or why there is none, in words.

    Args:
        results: folder of the evaluation.
        head: the head's file.

    Raises:
        ProvenanceError: if the results are not as they were written.
    """
    if not (results / PROVENANCE).exists():
        return f"there is no evaluation in {results}"
    record = read_record(results)
    if record["inputs"].get("head") != sha256_file(head):
        return f"the evaluation in {results} is of another head"
    sweep = record["params"]["evaluate"]["sweep"]
    method = {**record["params"]["methods"][sweep["method"]], "sphere_weight": None}
    fused = {"kind": "fused", "of": ["features", "sphere"], "sphere_weight": None}
    if (method, sweep["parameter"]) != (fused, "sphere_weight"):
        return f"evaluate.sweep tried {sweep['parameter']} of {sweep['method']}"
    check_files({results / WEIGHT_SWEEP: record["files"][WEIGHT_SWEEP]})
    scores = pd.read_csv(results / WEIGHT_SWEEP)
    if scores.empty:
        return "there are no validation pairs, or evaluate.sweep.values is empty"
    best = best_of(scores)
    return SphereWeight(best.value, "validation", best.gain) if best.gain else "the weight 0 was not tried"
