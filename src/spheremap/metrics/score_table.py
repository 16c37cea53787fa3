"""The table of scores, with one line per method, metric, threshold and group, and ways to read it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spheremap.metrics.catalogue import METRICS
from spheremap.metrics.groups import ALL

KEY = ("method", "metric", "average", "threshold", "group_by", "group")
COUNTS = ("n_pairs", "n_points")
ENDINGS = {"value": "", "low": "_low", "high": "_high"}
ENDINGS |= {"gain": "_gain", "gain_low": "_gain_low", "gain_high": "_gain_high"}
COLUMNS = (*KEY, *COUNTS, *ENDINGS)
_NUMBERS = {column: [""] for column in (*COUNTS, *ENDINGS)}  # that may be missing
_NAMES = {(metric.name, metric.average): name for name, metric in METRICS.items()}


def read_scores(path: Path) -> pd.DataFrame:
    """Read scores.csv.

    Raises:
        ValueError: if it is no table of scores.
    """
    scores = pd.read_csv(path, dtype=dict.fromkeys(KEY, str), keep_default_na=False, na_values=_NUMBERS)
    if missing := set(COLUMNS) - set(scores.columns):
        raise ValueError(f"no columns {', '.join(sorted(missing))}")
    return scores


def name_of(metric: str, average: str, threshold: str) -> str:
    """What a score is called in short, such as pck_point@0.10."""
    return _NAMES[metric, average] + (f"@{threshold}" if threshold else "")


def leaves(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """By method, the scores of all pairs under their short names, with the endings of `ENDINGS`."""
    result: dict[str, dict[str, float]] = {str(name): {} for name in scores["method"].unique()}
    for line in scores[scores["group_by"] == ALL].to_dict("records"):
        name = name_of(line["metric"], line["average"], line["threshold"])
        for column, ending in ENDINGS.items():
            if not np.isnan(line[column]):
                result[line["method"]][name + ending] = float(line[column])
    return result


def by_group(scores: pd.DataFrame, by: str) -> pd.DataFrame:
    """One line per method and group: method, group, n_pairs, n_points, and a column per score."""
    own = scores[scores["group_by"] == by]
    names = [name_of(*key) for key in own[["metric", "average", "threshold"]].itertuples(index=False)]
    keys = ["method", "group"]
    wide = own.assign(name=names).pivot(index=keys, columns="name", values="value")
    counts = own.groupby(keys)[list(COUNTS)].max()
    order = own[keys].drop_duplicates()
    wide = counts.join(wide).reset_index()
    return order.merge(wide, on=keys)


def alphas_of(names: Iterable[str]) -> list[str]:
    """Labels of the thresholds in short names, the largest first."""
    start = "pck_point@"
    labels = {name.removeprefix(start).partition("_")[0] for name in names if name.startswith(start)}
    return sorted(labels, key=float, reverse=True)


def headline(facts: dict[str, Any], scores: pd.DataFrame) -> dict[str, Any]:
    """What a person wants to know first: the facts of a run and, by method, six scores at the largest
    threshold.

    Per method PCK in three averages, PCK per point where the viewpoints are 90° apart or more, KAP, and the
    gain in PCK per point over the baseline with its interval.
    """
    far = by_group(scores, "viewpoint")
    far = far[far["group"] == "far"].set_index("method")
    result = dict(facts)
    for method, own in leaves(scores).items():
        alpha = alphas_of(own)[0]
        names = {key: f"{name}@{alpha}" for key, name in _HEADLINE.items()}
        result[method] = {key: round(own[name], 2) for key, name in names.items() if name in own}
        if method in far.index:
            result[method]["far"] = round(float(far[f"pck_point@{alpha}"][method]), 2)
        if "missing" in scores:
            result[method]["missing"] = int(scores.loc[scores["method"] == method, "missing"].iloc[0])
        if text := gain_text(own, f"pck_point@{alpha}"):
            result[method]["gain"] = text
    return result


_HEADLINE = {"point": "pck_point", "image": "pck_image", "category": "pck_category", "kap": "kap"}


def gain_text(leaves: dict[str, float], name: str) -> str:
    """A gain with its interval, such as "+7.1 [6.1, 8.1]"; empty for the baseline."""
    if f"{name}_gain" not in leaves:
        return ""
    text = f"{leaves[f'{name}_gain']:+.1f}"
    if f"{name}_gain_low" in leaves:
        text += f" [{leaves[f'{name}_gain_low']:.1f}, {leaves[f'{name}_gain_high']:.1f}]"
    return text
