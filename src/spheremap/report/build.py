"""From the results of a run to the report page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.base.files import atomic_path
from spheremap.config import ReportSlice
from spheremap.data.remarks import data_remarks, mask_remarks
from spheremap.data.tables import Tables, read_provenance, read_tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods import make_methods
from spheremap.metrics.agreement import check_agreement
from spheremap.model.head import load_head
from spheremap.report import figures, scores
from spheremap.report.choice import choose_methods
from spheremap.report.confusion import confusions
from spheremap.report.explorer import build_explorer, mixtures
from spheremap.report.figures import Drawing
from spheremap.report.gains import gain_intervals
from spheremap.report.gallery import matched_pairs, sphere_maps
from spheremap.report.inputs import Inputs, check_results, check_tables, read_inputs
from spheremap.report.keypoint_spheres import keypoint_spheres
from spheremap.report.names import notes, readable
from spheremap.report.page import render
from spheremap.report.pictures import data_uri
from spheremap.report.sphere_colours import draw_legend
from spheremap.report.sphere_figures import draw_sphere

LEGEND = 150  # px
FAR = 2  # bins
COMMONEST = 5  # mix-ups listed
LOSSES = {
    "total": "total (weighted)",
    "reconstruction": "reconstruction",
    "distance": "relative distance",
    "orientation": "orientation",
    "viewpoint": "relative viewpoint",
}
DIAGNOSTICS = {
    "resultant_length": "concentration",
    "coverage": "coverage",
    "orientation_kept": "orientation kept",
    "upright": "upright",
}


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and its caption; `by_method` if the page hides methods in it."""

    title: str
    caption: str
    drawing: Drawing
    by_method: bool = False


def build_report(
    out: Path, params: ReportSlice, *, tables: Path, images: Sequence[Path], head: Path, results: Path
) -> None:
    """Write the report page.

    Args:
        out: the HTML file.
        params: what to draw, and the parameters of the evaluation that it shows.
        tables: folder of the canonical tables.
        images: feature cache of whole images.
        head: the trained head.
        results: folder of the evaluation's files, with the training curves under `training`.

    Raises:
        InputError: if something is missing or malformed.
        ProvenanceError: if the parts do not belong together.
    """
    sphere = load_head(head)
    check_results(results, head, sphere.provenance)
    evaluate = params.evaluate
    methods = make_methods(params.methods, evaluate.methods)
    inputs = read_inputs(results, params.dataset, evaluate, params.report.compare)
    data = read_tables(tables)
    check_tables(inputs.predictions, data)
    drawn = matched_pairs(data, inputs, params)
    with FeatureCache.open(images) as cache:
        check_agreement(cache, sphere, head)
        maps = sphere_maps(data, cache, sphere, params)
        spheres = keypoint_spheres(data, cache, sphere, evaluate.split)
        explorer = None
        weights, megabytes = mixtures(methods), params.report.explorer_mb
        if drawn.records and weights and megabytes:
            explorer = build_explorer(drawn.records, cache, sphere, weights=weights, megabytes=megabytes)
        backbone = cache.provenance
    record = read_provenance(tables)
    alpha, bins = inputs.alphas[0], evaluate.viewpoint_bins
    page = {
        "dataset": params.dataset,
        "split": evaluate.split,
        "seed": sphere.provenance.get("params", {}).get("train", {}).get("seed", "unknown"),
        "notes": notes(params.methods, methods),
        "legend_entries": figures.legend(inputs.methods),
        "shown": choose_methods(inputs.methods, inputs.compared, evaluate.baseline),
        "compared": inputs.compared,
        "baseline": evaluate.baseline,
        "intervals": gain_intervals(inputs, data, evaluate),
        "alpha": alpha,
        "backbone": _backbone(backbone),
        "remarks": _remarks(data, record),
        "facts": inputs.facts,
        "tiles": scores.tiles(inputs, FAR, f"PCK@{alpha} at gaps of {FAR * 360 / bins:g}° and more"),
        "headline": scores.headline(inputs),
        "gains": scores.gains(inputs),
        "gap_charts": _gap_charts(inputs, bins),
        "gap_table": scores.by_gap(inputs, bins) if len(inputs.by_gap) else None,
        "category_charts": _category_charts(inputs),
        "category_tables": scores.by_category(inputs),
        "likes_tables": scores.by_likes(inputs),
        "mirrored": scores.nearer_to_mirror(inputs),
        "confusions": [
            (
                own.category,
                figures.confusion(own, inputs.compared),
                {row: own.commonest(row, COMMONEST) for row in inputs.compared},
            )
            for own in confusions(data, inputs.predictions, max(evaluate.alphas), inputs.compared)
        ],
        "spheres": [(own.category, draw_sphere(own), own.verdict()) for own in spheres],
        "sided": any(own.own_side()[1] for own in spheres),  # whether any part has a left and a right
        "legend": data_uri(draw_legend(LEGEND)),
        "maps": maps,
        "pairs": drawn.typical,
        "best": drawn.best,
        "worst": drawn.worst,
        "explorer": explorer,
        "training_charts": _training_charts(inputs.curves, sphere.provenance.get("best_step")),
        "provenance": {
            "data set": record,
            "features": backbone,
            "head": sphere.provenance,
            "evaluation": {
                "dataset": params.dataset,
                "evaluate": asdict(evaluate),
                "methods": params.methods,
            },
            "report": vars(params.report),
        },
    }
    with atomic_path(out) as temporary:
        temporary.write_text(render(page), encoding="utf-8")


def _remarks(tables: Tables, made: Mapping[str, Any]) -> list[str]:
    """What training lacked; without masks by choice, nothing about masks."""
    chose_none = made.get("step") == "masks" and made["params"]["source"] == "none"
    return data_remarks(tables) + ([] if chose_none else mask_remarks(tables))


def _backbone(provenance: Mapping[str, Any]) -> str:
    """The backbone in words: what the cache says of itself."""
    params = provenance.get("params", {})
    entry = params.get("backbone", {})
    name = params.get("features", {}).get("backbone", "unknown")
    details = [str(entry["model"])] if "model" in entry else []
    details += [f"{key} {entry[key]}" for key in ("block", "facet") if key in entry]
    return f"{name} ({', '.join(details)})" if details else str(name)


def _gap_charts(inputs: Inputs, bins: int) -> list[Chart]:
    if inputs.by_gap.empty:
        return []
    found = "Share of keypoints found, by how far apart the two viewpoints are. Higher is better."
    mixed = (
        "Share of keypoints predicted on another keypoint of the same object. To be read beside PCK: "
        "a guess is rarely on another keypoint."
    )
    alpha = inputs.alphas[0]
    return [
        Chart(title, caption, figures.by_gap(inputs.by_gap, f"{metric}@{alpha}", inputs.methods, bins), True)
        for metric, title, caption in (
            ("pck_point", f"PCK@{alpha} per point", found),
            ("confusion", f"Confused parts @{alpha}", mixed),
        )
    ]


def _category_charts(inputs: Inputs) -> list[Chart]:
    alpha, frame = inputs.alphas[0], inputs.by_category
    return [
        Chart(title, "In percent.", figures.by_category(frame, f"{metric}@{alpha}", inputs.methods), True)
        for metric, title in (("pck_point", f"PCK@{alpha} per point"), ("kap", f"KAP@{alpha}"))
    ]


def _training_charts(curves: Mapping[str, pd.DataFrame], kept: int | None) -> list[Chart]:
    losses, diagnostics, validation = (curves[name] for name in ("losses", "diagnostics", "validation"))
    charts = []
    if len(losses):
        caption = "Each loss without its weight, and their weighted sum."
        charts.append(Chart("Losses", caption, figures.curves(losses, _labels(LOSSES, losses))))
    if len(diagnostics):
        caption = (
            "Concentration: mean resultant length of an image's points; 1 is a collapse to one point. "
            "Coverage: share of the sphere in use. Orientation kept: share of triplets that turn the "
            "same way on the sphere as in the image; 0.5 is chance. Upright: whether the views of a category "
            "agree on what is up, of the category where they agree least; 1 is all of them."
        )
        drawing = figures.curves(
            diagnostics, _labels(DIAGNOSTICS, diagnostics.drop(columns="chirality")), upper=1.02
        )
        charts.append(Chart("Diagnostics of the sphere", caption, drawing))
        if diagnostics["chirality"].notna().any():
            caption = (
                "Correlation of longitude on the sphere and column in the image, of the category where it is "
                "lowest. Near 1 parts stay in place on the sphere as the camera moves, near -1 they slide."
            )
            drawing = figures.curves(diagnostics, {"chirality": "chirality"}, lower=-1.05, upper=1.05)
            charts.append(Chart("Chirality", caption, drawing))
    if len(validation):
        caption = "PCK per point of the fused similarity on validation pairs."
        charts.append(Chart("Validation", caption, figures.validation(validation, kept)))
    return charts


def _labels(known: Mapping[str, str], frame: pd.DataFrame) -> dict[str, str]:
    """What each curve of a table is called; one without a name of its own by its column."""
    columns = [column for column in frame.columns if column not in ("step", "epoch")]
    return {column: known.get(column, readable(column)) for column in columns}
