"""From the results of a run to the report page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.base.files import atomic_path
from spheremap.data.remarks import data_remarks, mask_remarks
from spheremap.data.tables import Tables, read_provenance, read_tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.metrics.evaluation import check_agreement
from spheremap.model.head import load_head
from spheremap.report import figures, scores
from spheremap.report.confusion import confusions
from spheremap.report.gallery import explorer_of, matched_pairs, sphere_maps
from spheremap.report.inputs import COMPARED, Inputs, check_results, read_inputs
from spheremap.report.keypoint_spheres import KeypointSphere, keypoint_spheres
from spheremap.report.names import readable
from spheremap.report.page import Chart, ConfusionGroup, Page, SphereGroup, render
from spheremap.report.params import ReportSlice
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
HEALTH = {
    "resultant_length": "concentration",
    "coverage": "coverage",
    "orientation_kept": "orientation kept",
}


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
    check_results(Path(results), head, sphere.provenance)
    inputs = read_inputs(Path(results), params.dataset, params.evaluate)
    data = read_tables(tables)
    with FeatureCache.open(images) as cache:
        check_agreement(cache, sphere, head)
        maps = sphere_maps(data, cache, sphere, params)
        spheres = keypoint_spheres(data, cache, sphere, params.evaluate.split)
        drawn = matched_pairs(data, inputs, params)
        explorer = explorer_of(drawn, data, inputs, cache, sphere, params)
        backbone = cache.provenance
    record = read_provenance(tables)
    bins = params.evaluate.viewpoint_bins
    page = Page(
        dataset=params.dataset,
        split=params.evaluate.split,
        seed=params.evaluate.seed,
        sphere_weight=params.evaluate.sphere_weight,
        alpha=inputs.alphas[0],
        backbone=_backbone(backbone),
        remarks=_remarks(data, record),
        metrics=inputs.metrics,
        tiles=scores.tiles(inputs, FAR, f"PCK@{inputs.alphas[0]} at gaps of {FAR * 360 / bins:g}° and more"),
        headline=scores.headline(inputs),
        gap_charts=_gap_charts(inputs, bins),
        gap_table=scores.by_gap(inputs, bins) if len(inputs.by_gap) else None,
        category_charts=_category_charts(inputs),
        category_table=scores.by_category(inputs),
        confusions=_confusions(data, inputs, max(params.evaluate.alphas)),
        spheres=[SphereGroup(own.category, draw_sphere(own), _verdict(own)) for own in spheres],
        sided=any(own.own_side()[1] for own in spheres),
        legend=data_uri(draw_legend(LEGEND)),
        maps=maps,
        pairs=drawn.typical,
        best=drawn.best,
        worst=drawn.worst,
        explorer=explorer,
        training_charts=_training_charts(inputs.curves),
        provenance={
            "data set": record,
            "features": backbone,
            "head": sphere.provenance,
            "evaluation": {"dataset": params.dataset, "evaluate": asdict(params.evaluate)},
            "report": vars(params.report),
        },
    )
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


def _confusions(tables: Tables, inputs: Inputs, alpha: float) -> list[ConfusionGroup]:
    return [
        ConfusionGroup(
            own.category,
            figures.confusion(own, COMPARED),
            {row: own.commonest(row, COMMONEST) for row in COMPARED},
        )
        for own in confusions(tables, inputs.predictions, alpha, COMPARED)
    ]


def _verdict(sphere: KeypointSphere) -> str:
    percent, count = sphere.own_side()
    if not count:
        return f"{len(sphere.points):,} keypoints"
    return f"{percent:.0f} % of {count:,} left and right keypoints on their own side"


def _gap_charts(inputs: Inputs, bins: int) -> list[Chart]:
    if inputs.by_gap.empty:
        return []
    alpha = inputs.alphas[0]
    titles = {
        "pck_point": (
            f"PCK@{alpha} per point",
            "Share of keypoints found, by how far apart the two viewpoints are. Higher is better.",
        ),
        "confusion": (
            f"Confused parts @{alpha}",
            "Share of keypoints predicted on another keypoint of the same object. Lower is better.",
        ),
    }
    return [
        Chart(title, caption, figures.by_gap(inputs.by_gap, f"{metric}@{alpha}", inputs.rows, bins))
        for metric, (title, caption) in titles.items()
    ]


def _category_charts(inputs: Inputs) -> list[Chart]:
    titles = {"pck_point": "PCK@{} per point", "kap": "KAP@{}"}
    return [
        Chart(
            title.format(inputs.alphas[0]),
            "Features against fused, in percent.",
            figures.by_category(inputs.by_category, f"{metric}@{inputs.alphas[0]}", COMPARED),
        )
        for metric, title in titles.items()
    ]


def _training_charts(curves: Mapping[str, pd.DataFrame]) -> list[Chart]:
    charts = []
    if len(curves["losses"]):
        charts.append(
            Chart(
                "Losses",
                "Each loss without its weight, and their weighted sum.",
                figures.curves("losses", curves["losses"], _labels(LOSSES, curves["losses"])),
            )
        )
    if len(curves["health"]):
        charts.append(
            Chart(
                "Health of the sphere",
                "Concentration: mean resultant length of an image's points; 1 is a collapse to one point. "
                "Coverage: share of the sphere in use. Orientation kept: share of triplets that turn the "
                "same way on the sphere as in the image; 0.5 is chance.",
                figures.curves("health", curves["health"], _labels(HEALTH, curves["health"]), upper=1.02),
            )
        )
    if len(curves["validation"]):
        charts.append(
            Chart(
                "Validation",
                "PCK per point of the fused similarity on validation pairs; the best head is kept.",
                figures.validation(curves["validation"]),
            )
        )
    return charts


def _labels(known: Mapping[str, str], frame: pd.DataFrame) -> dict[str, str]:
    """What each curve of a table is called; one without a name of its own by its column."""
    columns = [column for column in frame.columns if column not in ("step", "epoch")]
    return {column: known.get(column, readable(column)) for column in columns}
