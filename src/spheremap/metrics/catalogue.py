"""All metrics, and where they stand: a new one is a function of `Answers`, and an entry here."""

from dataclasses import dataclass

from spheremap.metrics import kap, pck, repeated_parts, symmetry
from spheremap.metrics.answers import Answers, Floats, Statistic


@dataclass(frozen=True)
class Metric:
    """How a metric is shown; all have a value with an interval over all pairs and in each group.

    Attributes:
        name: of what is measured, column `metric` of the scores.
        average: what it is a mean over, column `average`.
        title: heading in the table and the report, which leave out what has none.
        thresholds: whether there is a value for each.
    """

    name: str
    average: str
    title: str = ""
    thresholds: bool = True


METRICS = {
    "pck_point": Metric("pck", "point", "PCK per point"),
    "pck_image": Metric("pck", "image", "PCK per image"),
    "pck_category": Metric("pck", "category", "PCK per category"),
    "confusion": Metric("confusion", "point"),
    "mirrored": Metric("mirrored", "point", thresholds=False),
    "kap": Metric("kap", "category", "KAP"),
    "kap_pair": Metric("kap", "pair"),
}
# each gives one metric or more
FAMILIES = (pck.statistic, repeated_parts.statistic, symmetry.statistic, kap.statistic)
SHOWN = {name: metric.title for name, metric in METRICS.items() if metric.title}


def statistic(answers: Answers) -> Statistic:
    """All metrics that these answers have, in percent, as one function of the pairs' weights."""
    families = [family(answers) for family in FAMILIES]

    def values(weights: Floats) -> dict[str, Floats]:
        found = {name: own for family in families for name, own in family(weights).items()}
        return {name: found[name] for name in METRICS if name in found}

    return values


def labels(metric: str, alphas: tuple[float, ...]) -> list[str]:
    """Labels of the thresholds that a metric has values for; one empty one if it has no thresholds."""
    return [alpha_label(alpha) for alpha in alphas] if METRICS[metric].thresholds else [""]


def alpha_label(alpha: float) -> str:
    """A threshold as it stands in the names of metrics: 0.1 is "0.10", 0.125 is "0.125"."""
    return max(f"{alpha:.2f}", f"{alpha:g}", key=len)
