"""Intervals of every method's gain over every other one, by the paired bootstrap.

The evaluation computes those over one method, `evaluate.baseline`. What PCK needs of the others stands in its
predictions, so that the same samples are drawn here again. KAP needs similarities, which are not kept: over
other methods its gains have no interval.
"""

import numpy as np
import pandas as pd

from spheremap.config import Evaluate as EvaluateParams
from spheremap.data.tables import Tables
from spheremap.methods.engine.queries import build_questions
from spheremap.metrics import bootstrap, pck
from spheremap.metrics.answers import DECIMALS, Answers, Floats
from spheremap.metrics.catalogue import SHOWN
from spheremap.report.inputs import Inputs

_POINT = ["source", "target", "keypoint_id"]


def gain_intervals(
    inputs: Inputs, tables: Tables, params: EvaluateParams
) -> dict[str, dict[str, list[list[float] | None]]]:
    """By baseline and method, lower and upper bound of the gain in each column of `scores.headline`.

    Those over `evaluate.baseline` are the evaluation's. None stands where none was computed.
    """
    if not params.bootstrap:
        return {}
    columns = [(metric, i) for metric in SHOWN for i in range(len(inputs.alphas))]
    found = {}
    for baseline, bounds in pck_bounds(inputs, tables, params).items():
        found[baseline] = {
            method: [bounds[metric][row, i].tolist() if metric in bounds else None for metric, i in columns]
            for row, method in enumerate(inputs.methods)
            if method != baseline
        }
    for method in found[params.baseline]:
        own = [inputs.interval(method, f"{metric}@{inputs.alphas[i]}_gain") for metric, i in columns]
        found[params.baseline][method] = [list(ends) if ends else None for ends in own]
    return found


def pck_bounds(inputs: Inputs, tables: Tables, params: EvaluateParams) -> dict[str, dict[str, Floats]]:
    """By baseline and metric, lower and upper bounds `(methods, A, 2)` of gains in PCK at A thresholds."""
    questions, methods = build_questions(tables, tables.pairs_of(params.split)), inputs.methods
    pair, ids = questions.pair[questions.common], (questions.source_id, questions.target_id)
    asked = ids[0][pair], ids[1][pair], questions.keypoint_id[questions.common]
    by_method = inputs.predictions.pivot(index=_POINT, columns="method", values="error")
    errors = by_method.loc[pd.MultiIndex.from_arrays(asked), methods].to_numpy()
    right = errors[..., np.newaxis] < sorted(params.alphas, reverse=True)  # (C, methods, A)
    unknown = np.zeros((len(right), 1), dtype=bool)  # PCK does not ask for it
    answers = Answers(
        questions.category, questions.pair, questions.common, right.reshape(len(right), -1), confused=unknown,
        nearer_to_mirror=unknown[:, 0], mirror_visible=unknown[:, 0], counted=~unknown[:, 0], positive=None,
        negative=None,
    )  # fmt: skip
    statistic, design = pck.statistic(answers), bootstrap.design_of(params.resample, tables.images, *ids)
    exact = statistic(np.ones((1, len(ids[0]))))
    samples = bootstrap.resample({"": statistic}, design, params.bootstrap, params.seed)[""]

    def bounds(metric: str, row: int) -> Floats:
        gains, deviating = (
            (own - own[:, [row]]).reshape(len(own), -1)
            for own in (of[metric].reshape(-1, *right.shape[1:]) for of in (exact, samples))
        )
        ends = bootstrap.interval(gains[0], deviating, params.confidence, design.spread)
        return np.stack(ends, axis=-1).reshape(*right.shape[1:], 2).round(DECIMALS)

    return {
        baseline: {metric: bounds(metric, row) for metric in samples} for row, baseline in enumerate(methods)
    }
