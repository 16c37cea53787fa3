"""All metrics, and where they stand: a new one is a function of `Answers`, and an entry here."""

from dataclasses import dataclass

from spheremap.metrics import kap, pck, repeated_parts
from spheremap.metrics.answers import Answers, Floats, Statistic

DECIMALS = 6  # of percentages and pixels


@dataclass(frozen=True)
class Metric:
    """How a metric is shown; all have a value over all pairs, with an interval.

    Attributes:
        title: heading in the table and the report, which leave out what has none.
        by_category: whether it stands in the table by category.
        by_gap: whether it stands in the tables by category and by azimuth gap.
    """

    title: str = ""
    by_category: bool = False
    by_gap: bool = False


METRICS = {
    "pck_point": Metric("PCK per point", by_gap=True),
    "pck_image": Metric("PCK per image", by_category=True),
    "pck_category": Metric("PCK per category"),
    "confusion": Metric(by_gap=True),
    "kap": Metric("KAP", by_category=True),
    "kap_pair": Metric(),
}
# each gives one metric or more
FAMILIES = (pck.statistic, repeated_parts.statistic, kap.statistic)
SHOWN = {name: metric.title for name, metric in METRICS.items() if metric.title}
BY_GAP = [name for name, metric in METRICS.items() if metric.by_gap]
BY_CATEGORY = [*BY_GAP, *(name for name, metric in METRICS.items() if metric.by_category)]


def statistic(answers: Answers) -> Statistic:
    """All metrics, in percent, as one function of the pairs' weights."""
    families = [family(answers) for family in FAMILIES]

    def values(weights: Floats) -> dict[str, Floats]:
        found = {name: own for family in families for name, own in family(weights).items()}
        return {name: found[name] for name in METRICS}

    return values


def alpha_label(alpha: float) -> str:
    """A threshold as it stands in the names of metrics: 0.1 is "0.10", 0.125 is "0.125"."""
    return max(f"{alpha:.2f}", f"{alpha:g}", key=len)
