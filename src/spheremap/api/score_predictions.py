"""Scoring predictions that another program made, under any protocol (docs/score.md)."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.api.predictions import ending, name_of, read_predictions
from spheremap.api.project import PARAMS, make_tables
from spheremap.api.score_bundle import RESULTS, check_known, check_out
from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file
from spheremap.base.provenance import provenance
from spheremap.config import Evaluate, Params, check_params, load_params
from spheremap.config.fields import Split
from spheremap.config.presets import apply_to, preset_names
from spheremap.config.slices import read_params
from spheremap.data.keypoint_groups import read_keypoint_groups
from spheremap.data.tables import Tables, read_tables, tables_digest
from spheremap.features.cache.views import whole_box
from spheremap.methods.engine.queries import build_questions, with_common_keypoint
from spheremap.metrics.evaluate import facts
from spheremap.metrics.given import Given, check, measure_given, outside
from spheremap.metrics.results import Results, write_results
from spheremap.metrics.scores import Scores
from spheremap.metrics.thresholds import make_thresholds

PRESETS = Path("presets")
PREFIX = "protocol-"
ALL = "all"
CONFIGURED = "params"  # the protocol of params.yaml


def score_predictions(
    path: Path,
    dataset: str,
    out: Path | None = None,
    *,
    split: Split | None = None,
    protocol: str | None = None,
    seed: int | None = None,
    allow_missing: bool = False,
    threads: int = 1,
) -> list[Path]:
    """Score predictions on the pairs of a split, in the project whose top folder is the current one.

    Args:
        path: the predictions.
        dataset: an entry of `datasets` in params.yaml.
        out: folder for the results, or for a folder of each protocol where there are several; None:
            results/NAME-on-DATASET, by the name of the file.
        split: "train", "val" or "test"; None: that of params.yaml.
        protocol: a preset's name, with or without "protocol-", or "all"; None: that of params.yaml.
        seed: whose predictions are scored, where the file has those of several.
        allow_missing: whether points without a prediction are left out.
        threads: of the workflow that makes the tables.

    Returns:
        The folders written.

    Raises:
        InputError: if predictions, parameters or data set cannot be used.
    """
    ending(path)  # before minutes of making tables, not after
    out = out or RESULTS / f"{name_of(path)}-on-{dataset}"
    check_out(out)
    protocols = read_protocols(protocol)
    params = load_params(PARAMS)
    check_known(dataset, params)
    folder = make_tables(dataset, threads)
    tables, digests = read_tables(folder), tables_digest(folder)
    given = read_predictions(path, tables, seed)
    groups = read_keypoint_groups(params.datasets[dataset].keypoint_groups, tables)
    written = []
    for name, chosen in protocols.items():
        evaluate = settings(chosen.evaluate, list(given), split)
        results = score_given(
            given, tables, evaluate, boxes_of(tables, chosen), dataset, allow_missing, groups
        )
        to = out / name if len(protocols) > 1 else out
        told = {"dataset": dataset, "evaluate": dataclasses.asdict(evaluate), "allow_missing": allow_missing}
        told |= {} if seed is None else {"seed": seed}
        inputs = {**digests, "predictions": sha256_file(path)}
        write_results(to, results, provenance("score", told | {"fit": chosen.features.fit}, inputs))
        written.append(to)
    return written


def read_protocols(name: str | None) -> dict[str, Params]:
    """The parameters under each protocol asked for, by name.

    Raises:
        InputError: if there is no such preset.
    """
    if name is None:
        return {CONFIGURED: load_params(PARAMS)}
    names = [preset for preset in preset_names(PRESETS) if preset.startswith(PREFIX)]
    chosen = names if name == ALL else [preset for preset in names if preset in (name, PREFIX + name)]
    if not chosen:
        raise InputError(
            f"no protocol is called {name!r}",
            where=PRESETS,
            expected=", ".join([ALL, *(preset.removeprefix(PREFIX) for preset in names)]),
        )
    told = read_params(PARAMS)
    return {
        preset.removeprefix(PREFIX): check_params(apply_to(told, PRESETS / f"{preset}.yaml"))
        for preset in chosen
    }


def settings(evaluate: Evaluate, methods: Sequence[str], split: Split | None) -> Evaluate:
    """The section `evaluate` for given methods: gains are over its baseline, or the first one."""
    baseline = evaluate.baseline if evaluate.baseline in methods else methods[0]
    return dataclasses.replace(
        evaluate, methods=tuple(methods), baseline=baseline, split=split or evaluate.split
    )


def boxes_of(tables: Tables, params: Params) -> pd.DataFrame:
    """The region of each picture that the network is shown, by image id: columns x0, y0, x1, y1."""
    side = params.backbones[params.features.backbone].image_size.eval
    sizes = tables.images[["image_id", "width", "height"]].itertuples(index=False)
    boxes = {
        name: whole_box((width, height), params.features.fit, side, (1, 1), name)
        for name, width, height in sizes
    }
    return pd.DataFrame.from_dict(boxes, orient="index", columns=["x0", "y0", "x1", "y1"])


def score_given(
    given: dict[str, Given],
    tables: Tables,
    params: Evaluate,
    boxes: pd.DataFrame,
    dataset: str,
    allow_missing: bool = False,
    groups: Any = None,
) -> Results:
    """Score predictions by method, as `spheremap evaluate` would have scored them.

    Args:
        boxes: see `boxes_of`.
        groups: which keypoints are alike, where that is known.

    Raises:
        InputError: if they do not answer the questions of the split.
    """
    pairs = tables.pairs_of(params.split)
    with_common_keypoint(tables, pairs, where=f"split {params.split!r} of data set {dataset!r}")
    questions = build_questions(tables, pairs)
    own = boxes.loc[questions.target_id.tolist()].to_numpy()
    thresholds = make_thresholds(tables, questions, own, params.threshold, params.frame)
    measured = {}
    for name, each in given.items():
        check(each, tables, pairs, boxes)
        if far := outside(each, tables):
            print(f"{name}: {far:,} predictions lie outside their target", file=sys.stderr)
        measured[name] = measure_given(
            each,
            questions,
            thresholds,
            own,
            params.alphas,
            params.kap_labels,
            params.candidates,
            allow_missing,
        )
    scores = Scores.of(questions, measured, thresholds, params.alphas, tables, groups)
    told = facts(scores, pairs, params, dataset)
    told["protocol"] = f"given predictions; {params.scoring_protocol}"
    lacking = {name: int((~answers.counted).sum()) for name, answers in scores.answers.items()}
    table = scores.table(params)
    if any(lacking.values()):
        shares = (f"{name} {count:,}" for name, count in lacking.items() if count)
        told["missing"] = f"not scored, of {told['n_points']:,} points: {', '.join(shares)}"
        table["missing"] = table["method"].map(lacking)
        print(told["missing"], file=sys.stderr)
    predictions = pd.concat([scores.predictions(name) for name in measured], ignore_index=True)
    return Results(told, table, predictions, None)
