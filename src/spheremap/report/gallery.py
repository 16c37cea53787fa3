"""The picture sections of the page: sphere maps and matches."""

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
from spheremap.data.viewpoint_bins import UNKNOWN, azimuth_bin, azimuth_gap
from spheremap.features.cache.reader import FeatureCache
from spheremap.model.head import Head, sphere_points
from spheremap.report.choice import choose_extremes, choose_pairs, choose_views
from spheremap.report.inputs import Inputs
from spheremap.report.matches import Match, draw_source, draw_target, read_match
from spheremap.report.names import readable
from spheremap.report.page import Pair, Picture
from spheremap.report.pictures import Crop, box_corners, data_uri
from spheremap.report.sphere_colours import draw_map

PANEL, MAP = 400, 300  # px


def sphere_maps(
    tables: Tables, cache: FeatureCache, head: Head, params: ReportSlice
) -> dict[str, list[Picture]]:
    """Pictures of the evaluated split in sphere colours, by category."""
    pairs = tables.pairs_of(params.evaluate.split)
    shown = tables.images[tables.images["image_id"].isin({*pairs["source"], *pairs["target"]})]
    maps = {}
    for category, images in shown.groupby("category"):
        chosen = choose_views(images, params.report.maps, params.report.seed)
        if not chosen:
            continue
        records = [cache.index(image_id) for image_id in chosen]
        points = sphere_points(head, cache.tokens(records)).cpu().numpy()
        rows = images.set_index("image_id", drop=False).loc[chosen].to_dict("records")
        maps[str(category)] = [
            _map(row, tables, cache, record, own)
            for row, record, own in zip(rows, records, points, strict=True)
        ]
    return maps


def _map(
    row: dict[Any, Any], tables: Tables, cache: FeatureCache, record: int, points: NDArray[np.float32]
) -> Picture:
    """The photograph above, its sphere map below."""
    digests, mask_path = tables.pictures, row["mask_path"]
    photograph = Image.fromarray(load_rgb(Path(row["path"]), digests.get(row["path"])))
    size, mask = photograph.size, None
    if mask_path:
        mask = load_mask(Path(mask_path), row["mask_value"], size, digests.get(mask_path))
    crop = Crop.around(box_corners([row[side] for side in ("x1", "y1", "x2", "y2")]), size, margin=0.12)
    both = Image.new("RGB", (MAP, 2 * MAP))
    both.paste(crop.cut(photograph, MAP), (0, 0))
    both.paste(draw_map(photograph, mask, points, cache.grid, cache.boxes[record], crop, MAP), (0, MAP))
    view = "unknown viewpoint" if np.isnan(row["azimuth"]) else f"azimuth {row['azimuth']:g}°"
    alt = f"{row['category']}, {view}: photograph above, below it coloured by position on the sphere"
    return Picture(data_uri(both), alt, view, row["image_id"], MAP, 2 * MAP)


@dataclass(frozen=True)
class Drawn:
    """All pairs drawn on the page; `records` are the distinct ones: (title, source, target, match)."""

    typical: list[Pair]
    best: list[Pair]
    worst: list[Pair]
    records: list[tuple[str, str, str, Match]]


def matched_pairs(tables: Tables, inputs: Inputs, params: ReportSlice) -> Drawn:
    """Matches of the compared methods on pairs chosen by rule, and on the second's best and worst pairs; the
    records have those of all methods.
    """
    alpha, bins = max(params.evaluate.alphas), params.evaluate.viewpoint_bins
    pairs = _with_gaps(inputs.predictions[["source", "target"]].drop_duplicates(), tables, bins)
    of_second = inputs.predictions[inputs.predictions["method"] == inputs.compared[1]]
    best, worst = choose_extremes(of_second, params.report.extremes, alpha)
    lists = {
        "by rule": choose_pairs(pairs, params.report.pairs, params.report.seed),
        "best": best.merge(pairs, on=["source", "target"]),
        "worst": worst.merge(pairs, on=["source", "target"]),
    }
    found: dict[tuple[str, str], Pair] = {}
    records: list[tuple[str, str, str, Match]] = []
    drawn: dict[str, list[Pair]] = {name: [] for name in lists}
    for name, chosen in lists.items():
        for category, source, target, gap in chosen[["category", "source", "target", "gap"]].to_numpy():
            if (source, target) not in found:
                match = read_match(tables, inputs.predictions, source, target, alpha, inputs.methods)
                angle = "unknown azimuth gap" if gap == UNKNOWN else f"azimuth gap {gap * 360 / bins:g}°"
                panels = _panels(match, source, target, inputs.compared)
                found[source, target] = Pair(
                    category, angle, panels, _points(match, inputs.compared), len(records)
                )
                records.append((f"{category}, {angle} ({name})", source, target, match))
            drawn[name].append(found[source, target])
    return Drawn(drawn["by rule"], drawn["best"], drawn["worst"], records)


def _with_gaps(pairs: pd.DataFrame, tables: Tables, bins: int) -> pd.DataFrame:
    images = tables.images.set_index("image_id")
    of_source, of_target = (
        azimuth_bin(pairs[column].map(images["azimuth"]).to_numpy(dtype=np.float64), bins)
        for column in ("source", "target")
    )
    category = pairs["source"].map(images["category"])
    return pairs.assign(category=category, gap=azimuth_gap(of_source, of_target, bins))


def _panels(match: Match, source: str, target: str, compared: tuple[str, str]) -> list[Picture]:
    count = len(match.names)
    alt = f"{source}: source with {count} numbered keypoints"
    panels = [Picture(data_uri(draw_source(match, PANEL)), alt, "source", source, PANEL, PANEL)]
    for method in compared:
        score = f"{method}: {match.right[method].sum()} of {count} right"
        alt = f"{target}: target, keypoints found with {score}"
        panels.append(
            Picture(data_uri(draw_target(match, method, PANEL, compared)), alt, score, target, PANEL, PANEL)
        )
    return panels


def _points(match: Match, compared: tuple[str, str]) -> list[tuple[int, str, bool, bool]]:
    before, after = (match.right[method].tolist() for method in compared)
    numbers = range(1, len(match.names) + 1)
    return list(zip(numbers, map(readable, match.names), before, after, strict=True))
