"""Write canonical tables as a folder in the layout of SPair-71k, for tools that read nothing else.

`spair.read` reads the folder back to equal tables, apart from the paths: what SPair-71k cannot say
(finer azimuths, instances, names of keypoints, images without a pair) goes into the extra fields that its
module describes.
"""

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spheremap.base.errors import InputError
from spheremap.base.progress import progress
from spheremap.data.adapter_tools import RESTORE, is_file_name, refusal
from spheremap.data.adapters import spair
from spheremap.data.adapters.spair import (
    AZIMUTH_BINS,
    KEYPOINT_ID,
    LAYOUT_FILES,
    UNPAIRED_FILE,
    by_number,
    split_pair,
)
from spheremap.data.images import open_picture, reading
from spheremap.data.tables import Tables, sort_tables
from spheremap.data.viewpoint_bins import azimuth_bin
from spheremap.data.voc import VOC_CLASS_IDS

SPAIR_IDS = tuple(str(number) for number in range(30))  # its own tools expect these in every annotation
POSES = ("Frontal", "Left", "Left", "Left", "Rear", "Right", "Right", "Right")  # by azimuth_id
SIDES = ("width", "height", "depth")
MASK_EACH = "give every image a grey mask, or none (`masks: {source: none}`), and export again"
SCALE_STEPS = (1.5, 2.5)  # ratio of the boxes' longer sides that makes scale_variation 1 and 2


def export_spair(tables: Tables, directory: Path) -> dict[str, int]:
    """Write the tables into an empty directory, then read it back and compare.

    Returns:
        The `class_ids` that the data set's entry in params.yaml needs: those that PASCAL VOC does not have.

    Raises:
        InputError: for what the layout cannot hold, a missing picture, or if the folder reads back otherwise.
    """
    class_ids = _class_ids(tables.images)
    images = {str(row["image_id"]): row for row in _records(tables.images.sort_values("image_id"))}
    for image_id, row in images.items():
        category, _, name = image_id.partition("/")
        if category != row["category"] or not (is_file_name(name) and is_file_name(category)):
            raise _unfit("an image_id <category>/<name>", image_id)
        if ":" in category:
            raise _unfit("category names without ':'", category)
    ids = set(tables.keypoints["keypoint_id"])
    if odd := sorted(text for text in ids if not KEYPOINT_ID.fullmatch(text)):
        raise _unfit('numbers as keypoint ids ("0", "1", …)', ", ".join(odd))

    tables = sort_tables(tables)  # so that equal tables are equal bytes, whatever the order of their rows
    keypoints: dict[str, list[dict[str, Any]]] = {image_id: [] for image_id in images}
    for point in _records(tables.keypoints):
        keypoints[point["image_id"]].append(point)
    annotations = {
        image_id: _write_image(row, keypoints[image_id], directory)
        for image_id, row in progress(images.items(), total=len(images), desc="export images", unit="images")
    }
    _write_pairs(tables, images, annotations, directory)
    _write_unpaired(tables, directory)
    _compare(tables, directory, class_ids)
    return class_ids


def _class_ids(images: pd.DataFrame) -> dict[str, int]:
    """Class ids that differ from PASCAL VOC's."""
    masks = images["mask_path"] != ""
    if masks.any() and not masks.all():
        raise _unfit(
            "masks for all images or for none", f"{int((~masks).sum())} images without a mask", MASK_EACH
        )
    values: dict[str, int] = {}
    for category, group in images.groupby("category"):
        distinct = sorted(map(int, group["mask_value"].unique()))
        if len(distinct) > 1 or not 1 <= distinct[0] <= 255:
            raise _unfit("one mask_value from 1 to 255 per category", f"{category}: {distinct}", MASK_EACH)
        values[str(category)] = distinct[0]
    return {category: value for category, value in values.items() if VOC_CLASS_IDS.get(category) != value}


def _write_image(row: Mapping[str, Any], points: list[dict[str, Any]], directory: Path) -> dict[str, Any]:
    """Copy an image and its mask and write its annotation, which is returned."""
    category, name = row["category"], row["image_id"].split("/")[1]
    picture = Path(row["path"])
    filename = name + picture.suffix
    if not picture.suffix:
        raise _unfit("image files with a suffix such as .jpg", row["path"])
    copy = directory / "JPEGImages" / category / filename
    _copy(picture, copy)
    with reading(copy, "image", RESTORE), open_picture(copy) as opened:
        depth = len(opened.getbands())
    if row["mask_path"]:
        if Path(row["mask_path"]).suffix != ".png":
            raise _unfit("masks as PNG files", row["mask_path"])
        _copy(Path(row["mask_path"]), directory / "Segmentation" / category / f"{name}.png")

    azimuth = row["azimuth"]
    azimuth_id = None if math.isnan(azimuth) else int(azimuth_bin(np.array([azimuth]), AZIMUTH_BINS)[0])
    ids = sorted({*SPAIR_IDS, *(p["keypoint_id"] for p in points)}, key=by_number)
    visible = {p["keypoint_id"]: [_plain(p["x"]), _plain(p["y"])] for p in points if p["visible"]}
    box = [_plain(row[corner]) for corner in ("x1", "y1", "x2", "y2")]
    # a box within a pixel of the border is most likely cut off by it
    truncated = min(box[:2]) <= 1 or box[2] >= row["width"] - 1 or box[3] >= row["height"] - 1
    annotation = {
        "filename": filename,
        **dict.fromkeys(("src_database", "src_annotation", "src_image"), "spheremap"),
        "image_width": row["width"],
        "image_height": row["height"],
        "image_depth": depth,
        "category": category,
        "pose": "Unspecified" if azimuth_id is None else POSES[azimuth_id],
        "truncated": int(truncated),
        "occluded": 0,
        "difficult": 0,
        "bndbox": box,
        "kps": {keypoint_id: visible.get(keypoint_id) for keypoint_id in ids},
        "azimuth_id": azimuth_id,
        "keypoint_names": {p["keypoint_id"]: p["name"] for p in points},
    }
    if azimuth_id is not None and azimuth != azimuth_id * 360 / AZIMUTH_BINS:
        annotation["azimuth"] = azimuth
    if row["instance"] != row["image_id"]:
        annotation["instance"] = row["instance"]
    _write_json(directory / "ImageAnnotation" / category / f"{name}.json", annotation)
    return annotation


def _write_pairs(
    tables: Tables, images: Iterable[str], annotations: Mapping[str, dict[str, Any]], directory: Path
) -> None:
    names: dict[str, set[str]] = {}
    for image_id in images:
        category, name = image_id.split("/")
        names.setdefault(category, set()).add(name)
    number = 0
    with progress(total=len(tables.pairs), desc="export pairs", unit="pairs") as bar:
        for split, stem in LAYOUT_FILES.items():
            (directory / "PairAnnotation" / stem).mkdir(parents=True)
            lines = []
            for pair in _records(tables.pairs_of(split)):
                category, source = pair["source"].split("/")
                target = pair["target"].split("/")[1]
                if len(split_pair(f"{source}-{target}", names[category])) != 1:
                    raise _unfit("image names that '-' can separate", f"{source!r} and {target!r}")
                number += 1
                line = f"{number:06d}-{source}-{target}:{category}"
                ends = annotations[pair["source"]], annotations[pair["target"]]
                record = {"pair_id": number, "filename": line, **_pair_annotation(*ends)}
                _write_json(directory / "PairAnnotation" / stem / f"{line}.json", record)
                lines.append(line + "\n")
                bar.update()
            _write_text(directory / "Layout" / "large" / f"{stem}.txt", "".join(lines))


def _pair_annotation(source: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """SPair-71k's record of a pair but for its number and name, from the annotations of its images.

    SPair-71k's levels of variation were set by people; these are rules of our own: viewpoint 0, 1, 2 for an
    azimuth gap of 0, 1, more bins; scale by the ratio of the boxes' longer sides; truncation and occlusion 0
    none, 1 source, 2 target, 3 both.
    """
    common = [i for i, point in source["kps"].items() if point and target["kps"].get(i)]
    ends = {"src": source, "trg": target}
    sizes = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in (source["bndbox"], target["bndbox"])]
    known = source["azimuth_id"] is not None and target["azimuth_id"] is not None
    turn = (source["azimuth_id"] - target["azimuth_id"]) % AZIMUTH_BINS if known else 0
    return {
        **{f"{end}_imname": record["filename"] for end, record in ends.items()},
        **{f"{end}_imsize": [record[f"image_{side}"] for side in SIDES] for end, record in ends.items()},
        **{f"{end}_bndbox": record["bndbox"] for end, record in ends.items()},
        "category": source["category"],
        **{f"{end}_pose": record["pose"] for end, record in ends.items()},
        **{f"{end}_kps": [record["kps"][i] for i in common] for end, record in ends.items()},
        "kps_ids": common,
        "mirror": 0,
        "viewpoint_variation": min(turn, AZIMUTH_BINS - turn, 2),
        "scale_variation": sum(max(sizes) / min(sizes) >= step for step in SCALE_STEPS),
        "truncation": source["truncated"] + 2 * target["truncated"],
        "occlusion": source["occluded"] + 2 * target["occluded"],
    }


def _write_unpaired(tables: Tables, directory: Path) -> None:
    paired = {
        (split, image_id)
        for column in ("source", "target")
        for split, image_id in zip(tables.pairs["split"], tables.pairs[column], strict=True)
    }
    lines = [
        f"{split}:{image_id}\n"
        for image_id, splits in zip(tables.images["image_id"], tables.images["split"], strict=True)
        for split in splits.split("+")
        if (split, image_id) not in paired
    ]
    if lines:
        _write_text(directory / "Layout" / "large" / UNPAIRED_FILE, "".join(lines))


def _compare(tables: Tables, directory: Path, class_ids: dict[str, int]) -> None:
    back = spair.read_folder(directory, class_ids).tables
    for name in ("images", "keypoints", "pairs"):
        paths = ["path", "mask_path"]
        before, after = (getattr(t, name).drop(columns=paths, errors="ignore") for t in (tables, back))
        if len(before) != len(after):
            raise _unfit(f"{len(before)} rows of {name} when read back", f"{len(after)} rows")
        same = (before.to_numpy() == after.to_numpy()) | (before.isna() & after.isna()).to_numpy()
        if not same.all():
            row, column = (int(index[0]) for index in (~same).nonzero())
            want, have = (repr(frame.iat[row, column]) for frame in (before, after))
            label = f"{before.columns[column]} of row {row + 1} of {name}"
            raise _unfit(f"{label} = {want} when read back", have)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _unfit(
    expected: str, found: str, fix: str = "change the tables' source, or leave the data set in its own layout"
) -> InputError:
    problem = "the tables do not fit the layout of SPair-71k"
    return InputError(problem, expected=expected, found=found, fix=fix)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        fix = "run the command in the project's root, since paths in the tables are relative to it"
        raise refusal("cannot copy a picture", source, "a file", error.strerror or str(error), fix) from error


def _plain(value: float) -> int | float:
    """Whole numbers without the decimal point, as in SPair-71k."""
    return int(value) if float(value).is_integer() else float(value)


def _write_json(path: Path, record: dict[str, Any]) -> None:
    # on one line and in SPair-71k's order of fields; the caller publishes the whole directory at once
    _write_text(path, json.dumps(record, ensure_ascii=False))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
