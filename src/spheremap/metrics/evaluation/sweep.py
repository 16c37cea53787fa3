"""How much of the sphere the fused similarity should hold: mixing weights tried on the validation pairs."""

import numpy as np
import pandas as pd
import torch

from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.matcher import SphereMap
from spheremap.methods.rows import paper_rows
from spheremap.metrics.evaluation.params import alpha_label
from spheremap.metrics.evaluation.scores import METRICS, score

SPLIT = "val"  # never the pairs that are reported


def sweep(
    cache: FeatureCache,
    tables: Tables,
    sphere: SphereMap,
    params: EvaluateParams,
    *,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Score the row `fused` on the validation pairs at every weight of `params.sweep`, in one pass.

    Returns:
        One line per weight, increasing: sphere_weight, n_points and the metrics of `results.Results`. No line
        if there is nothing to try or to score.
    """
    columns = [f"{metric}@{alpha_label(alpha)}" for metric in METRICS for alpha in params.alphas]
    pairs = tables.pairs_of(SPLIT)
    rows = {f"{weight:g}": paper_rows(weight)["fused"] for weight in sorted(params.sweep)}
    lines = []
    if rows and _shares_a_keypoint(tables, pairs):
        scores = score(cache, tables, pairs, rows, sphere, params, chance=False, device=device)
        points = int(scores.queries.common.sum())
        lines = [
            {"sphere_weight": row.weights[1], "n_points": points, **scores.overall(name)}
            for name, row in rows.items()
        ]
    return pd.DataFrame(lines, columns=["sphere_weight", "n_points", *columns])


def _shares_a_keypoint(tables: Tables, pairs: pd.DataFrame) -> bool:
    """Whether any pair has a keypoint visible in both images."""
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    of = {image: set(own["keypoint_id"]) for image, own in visible.groupby("image_id")}
    return any(
        not of.get(source, set()).isdisjoint(of.get(target, set()))
        for source, target in np.asarray(pairs[["source", "target"]]).tolist()
    )
