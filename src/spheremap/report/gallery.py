"""The picture sections of the page: sphere maps and matches."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spheremap.cache.reader import FeatureCache
from spheremap.head import Head, sphere_points
from spheremap.images import load_mask, load_rgb
from spheremap.metrics.breakdown import UNKNOWN, azimuth_bin, azimuth_gap
from spheremap.report.choice import choose_pairs, choose_views
from spheremap.report.inputs import COMPARED, Inputs
from spheremap.report.matches import draw_source, draw_target, read_match
from spheremap.report.page import MapGroup, Pair, Picture
from spheremap.report.params import ReportSlice
from spheremap.report.pictures import Crop, box_corners, data_uri
from spheremap.report.sphere_colours import draw_map
from spheremap.tables import Tables

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
            _map(str(image_id), row, cache, record, own)
            for (image_id, row), record, own in zip(rows, records, points, strict=True)
        ]
        groups.append(MapGroup(str(category), pictures))
    return groups


def _map(
    image_id: str, row: dict[Any, Any], cache: FeatureCache, record: int, points: NDArray[np.float32]
) -> Picture:
    """The photograph above, its sphere map below."""
    photograph = Image.fromarray(load_rgb(Path(row["path"])))
    size = photograph.size
    mask = load_mask(Path(row["mask_path"]), row["mask_value"], size) if row["mask_path"] else None
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


def matched_pairs(tables: Tables, inputs: Inputs, params: ReportSlice) -> list[Pair]:
    """Matches of features and fused on pairs chosen by rule."""
    images = tables.images.set_index("image_id")
    pairs = inputs.predictions[["source", "target"]].drop_duplicates()
    bins = params.evaluate.viewpoint_bins
    of_source, of_target = (
        azimuth_bin(pairs[column].map(images["azimuth"]).to_numpy(dtype=np.float64), bins)
        for column in ("source", "target")
    )
    pairs = pairs.assign(
        # a pair that the tables do not know stays, for `read_match` to complain about
        category=pairs["source"].map(images["category"]).fillna(""),
        gap=azimuth_gap(of_source, of_target, bins),
    )
    chosen = choose_pairs(pairs, params.report.pairs, params.report.seed)
    alpha = max(params.evaluate.alphas)
    return [_pair(tables, inputs, alpha, record, bins) for record in chosen.to_dict("records")]


def _pair(tables: Tables, inputs: Inputs, alpha: float, record: dict[Any, Any], bins: int) -> Pair:
    source, target, gap = record["source"], record["target"], record["gap"]
    match = read_match(tables, inputs.predictions, source, target, alpha)
    count = len(match.names)
    panels = [_panel(draw_source(match, PANEL), source, "source", f"source with {count} numbered keypoints")]
    for row in COMPARED:
        score = f"{row}: {match.right[row].sum()} of {count} right"
        panels.append(
            _panel(draw_target(match, row, PANEL), target, score, f"target, keypoints found with {score}")
        )
    before, after = (match.right[row].tolist() for row in COMPARED)
    names = (name.replace("_", " ") for name in match.names)
    return Pair(
        category=record["category"],
        gap="unknown azimuth gap" if gap == UNKNOWN else f"azimuth gap {gap * 360 / bins:g}°",
        panels=panels,
        points=list(zip(range(1, count + 1), names, before, after, strict=True)),
    )


def _panel(drawn: Image.Image, image_id: str, caption: str, alt: str) -> Picture:
    return Picture(data_uri(drawn), f"{image_id}: {alt}", caption, image_id, PANEL, PANEL)
