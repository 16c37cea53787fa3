"""The picture sections of the page: sphere maps and matches."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from spheremap.config import ReportSlice
from spheremap.data.images import load_mask, load_rgb
from spheremap.data.tables import Tables
from spheremap.data.viewpoint_bins import UNKNOWN, azimuth_bin
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.descriptors import row_weights
from spheremap.metrics.breakdown import azimuth_gap
from spheremap.model.head import Head, sphere_points
from spheremap.report.choice import choose_extremes, choose_pairs, choose_views
from spheremap.report.explorer import Explorer, build_explorer
from spheremap.report.inputs import COMPARED, Inputs
from spheremap.report.matches import draw_source, draw_target, read_match
from spheremap.report.names import readable
from spheremap.report.page import MapGroup, Pair, Picture
from spheremap.report.pictures import Crop, box_corners, data_uri
from spheremap.report.sphere_colours import draw_map

PANEL, MAP = 400, 300  # px


def sphere_maps(tables: Tables, cache: FeatureCache, head: Head, params: ReportSlice) -> list[MapGroup]:
    """Pictures of the evaluated split in sphere colours, by category."""
    pairs = tables.pairs_of(params.evaluate.split)
    shown = tables.images[tables.images["image_id"].isin(set(pairs["source"]) | set(pairs["target"]))]
    groups = []
    for category, images in shown.groupby("category"):
        chosen = choose_views(images, params.report.maps, params.report.seed)
        if not chosen:
            continue
        records = [cache.index(image_id) for image_id in chosen]
        points = sphere_points(head, cache.tokens(records)).cpu().numpy()
        rows = images.set_index("image_id").loc[chosen].to_dict("index").items()
        pictures = [
            _map(str(image_id), row, tables.pictures, cache, record, own)
            for (image_id, row), record, own in zip(rows, records, points, strict=True)
        ]
        groups.append(MapGroup(str(category), pictures))
    return groups


def _map(
    image_id: str,
    row: dict[Any, Any],
    digests: Mapping[str, str],
    cache: FeatureCache,
    record: int,
    points: NDArray[np.float32],
) -> Picture:
    """The photograph above, its sphere map below."""
    photograph = Image.fromarray(load_rgb(Path(row["path"]), digests.get(row["path"])))
    size, mask_path = photograph.size, row["mask_path"]
    mask = load_mask(Path(mask_path), row["mask_value"], size, digests.get(mask_path)) if mask_path else None
    crop = Crop.around(box_corners([row[side] for side in ("x1", "y1", "x2", "y2")]), size, margin=0.12)
    both = Image.new("RGB", (MAP, 2 * MAP))
    both.paste(crop.cut(photograph, MAP), (0, 0))
    both.paste(draw_map(photograph, mask, points, cache.grid, cache.boxes[record], crop, MAP), (0, MAP))
    view = "unknown viewpoint" if np.isnan(row["azimuth"]) else f"azimuth {row['azimuth']:g}°"
    return Picture(
        uri=data_uri(both),
        alt=f"{row['category']}, {view}: photograph above, below it coloured by position on the sphere",
        caption=view,
        title=image_id,
        width=MAP,
        height=2 * MAP,
    )


@dataclass(frozen=True)
class Drawn:
    """All pairs drawn on the page; `records` are the distinct ones: (title, source, target)."""

    typical: list[Pair]
    best: list[Pair]
    worst: list[Pair]
    records: list[tuple[str, str, str]]


def matched_pairs(tables: Tables, inputs: Inputs, params: ReportSlice) -> Drawn:
    """Matches of features and fused on pairs chosen by rule, and on the best and worst pairs of fused."""
    alpha = max(params.evaluate.alphas)
    bins = params.evaluate.viewpoint_bins
    pairs = _with_gaps(inputs.predictions[["source", "target"]].drop_duplicates(), tables, bins)
    of_fused = inputs.predictions[inputs.predictions["row"] == COMPARED[1]]
    best, worst = choose_extremes(of_fused, params.report.extremes, alpha)
    lists = {
        "by rule": choose_pairs(pairs, params.report.pairs, params.report.seed),
        "best": best.merge(pairs, on=["source", "target"]),
        "worst": worst.merge(pairs, on=["source", "target"]),
    }
    numbers: dict[tuple[str, str], int] = {}
    records: list[tuple[str, str, str]] = []
    drawn: dict[str, list[Pair]] = {}
    for name, chosen in lists.items():
        drawn[name] = []
        for record in chosen.to_dict("records"):
            ids = record["source"], record["target"]
            if ids not in numbers:
                numbers[ids] = len(records)
                records.append((f"{record['category']}, {_gap(record['gap'], bins)} ({name})", *ids))
            drawn[name].append(_pair(tables, inputs, alpha, record, bins, numbers[ids]))
    return Drawn(drawn["by rule"], drawn["best"], drawn["worst"], records)


def explorer_of(
    drawn: Drawn, tables: Tables, inputs: Inputs, cache: FeatureCache, head: Head, params: ReportSlice
) -> Explorer | None:
    """The explorer of all drawn pairs, if it is wanted and there are any."""
    if not drawn.records or params.report.explorer_mb == 0:
        return None
    weight, alpha = params.evaluate.sphere_weight, max(params.evaluate.alphas)
    rows = list(row_weights(weight))
    matches = [
        (title, source, target, read_match(tables, inputs.predictions, source, target, alpha, rows))
        for title, source, target in drawn.records
    ]
    return build_explorer(matches, cache, head, sphere_weight=weight, megabytes=params.report.explorer_mb)


def _with_gaps(pairs: pd.DataFrame, tables: Tables, bins: int) -> pd.DataFrame:
    images = tables.images.set_index("image_id")
    of_source, of_target = (
        azimuth_bin(pairs[column].map(images["azimuth"]).to_numpy(dtype=np.float64), bins)
        for column in ("source", "target")
    )
    return pairs.assign(
        # a pair that the tables do not know stays, for `read_match` to complain about
        category=pairs["source"].map(images["category"]).fillna(""),
        gap=azimuth_gap(of_source, of_target, bins),
    )


def _gap(gap: int, bins: int) -> str:
    return "unknown azimuth gap" if gap == UNKNOWN else f"azimuth gap {gap * 360 / bins:g}°"


def _pair(
    tables: Tables, inputs: Inputs, alpha: float, record: dict[Any, Any], bins: int, number: int
) -> Pair:
    source, target = record["source"], record["target"]
    match = read_match(tables, inputs.predictions, source, target, alpha)
    count = len(match.names)
    panels = [_panel(draw_source(match, PANEL), source, "source", f"source with {count} numbered keypoints")]
    for row in COMPARED:
        score = f"{row}: {match.right[row].sum()} of {count} right"
        panels.append(
            _panel(draw_target(match, row, PANEL), target, score, f"target, keypoints found with {score}")
        )
    before, after = (match.right[row].tolist() for row in COMPARED)
    names = map(readable, match.names)
    return Pair(
        category=record["category"],
        gap=_gap(record["gap"], bins),
        panels=panels,
        points=list(zip(range(1, count + 1), names, before, after, strict=True)),
        number=number,
    )


def _panel(drawn: Image.Image, image_id: str, caption: str, alt: str) -> Picture:
    return Picture(data_uri(drawn), f"{image_id}: {alt}", caption, image_id, PANEL, PANEL)
