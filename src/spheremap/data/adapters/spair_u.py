"""Adapter for SPair-U (Mariotti et al. 2025, *Jamais Vu*, arXiv 2506.08220): other keypoints on
SPair-71k's test images.

SPair-U.zip holds annotations only, below `datasets/SPair-U`, which is `root`:

    ImageAnnotation/<category>/<image>.json
        kps {"0": [x, y] or null, …}: the new keypoints
    PairAnnotation/test/<number>-<source>-<target>:<category>.json
        src_imname, trg_imname, category

The authors' code (repository VICO-UoE/JamaisVu) reads the same files as ExtraImageAnnotation and
ExtraPairAnnotation beside SPair-71k's own; folders of these names are taken where they exist. Pictures,
masks, boxes, sizes and azimuths are SPair-71k's, below `spair`, and are read by its adapter.

As in the authors' evaluation, a pair's keypoints are those set in both images' `kps`; the points that the
pair annotations repeat are not read. A keypoint is kept for a category if it is set in any of its images.

The table holds the test split alone: SPair-U is for evaluation, of methods trained on SPair-71k. Image
annotations that no pair names are left out, and counted on standard error.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from spheremap.base.errors import InputError
from spheremap.base.progress import progress
from spheremap.data.adapters.common import (
    FileDigest,
    Ingested,
    frame,
    is_number,
    is_text,
    parse_json_object,
    read_bytes,
    require_folders,
    short,
    tell_left_out,
)
from spheremap.data.adapters.spair import SPairParams, read_spair
from spheremap.data.tables import KEYPOINTS, PAIRS, Tables


@dataclass(frozen=True)
class SPairUParams:
    """Entry of params.yaml's `datasets`: the folders of SPair-U's annotations and of SPair-71k."""

    layout: Literal["spair_u"]
    root: str
    spair: str


def read_spair_u(params: SPairUParams) -> Ingested:
    """Read SPair-U into the canonical tables.

    Images come sorted by image_id, keypoints likewise and by number, pairs by their number.

    Raises:
        InputError: naming the file that is missing or malformed.
    """
    root, spair_root = Path(params.root), Path(params.spair)
    prefix = "Extra" if (root / "ExtraImageAnnotation").is_dir() else ""
    image_folder, pair_folder = root / f"{prefix}ImageAnnotation", root / f"{prefix}PairAnnotation" / "test"
    require_folders(root, (image_folder.name, f"{prefix}PairAnnotation/test"), "SPair-U")
    if not prefix and spair_root.is_dir() and root.samefile(spair_root):
        raise InputError(
            "the folder of SPair-U is that of SPair-71k",
            where=root,
            expected="the annotations of SPair-U, which are files of the same names",
            fix="unpack SPair-U elsewhere and correct `root` in params.yaml",
        )
    spair = read_spair(SPairParams("spair", params.spair, {}))
    tested = spair.tables.images[spair.tables.images["split"].str.split("+").map(lambda s: "test" in s)]
    sizes = {
        str(image_id): (int(width), int(height))
        for image_id, width, height in zip(tested["image_id"], tested["width"], tested["height"], strict=True)
    }

    digests = {kind: FileDigest() for kind in ("annotations", "pairs")}
    pairs = _read_pairs(pair_folder, sizes, digests["pairs"])
    named_in = {image_id: path for path, *pair in reversed(pairs) for image_id in pair}
    points = {
        image_id: _read_points(image_folder, image_id, sizes[image_id], path, digests["annotations"])
        for image_id, path in progress(
            sorted(named_in.items()), total=len(named_in), desc="ingest", unit="images"
        )
    }
    annotated = sum(1 for path in image_folder.glob("*/*.json") if path.name[0] != ".")
    tell_left_out(annotated - len(points), "left out as images that no pair names")

    images = tested[tested["image_id"].isin(points)].assign(split="test").reset_index(drop=True)
    tables = Tables(
        images=images,
        keypoints=_keypoints(points),
        pairs=frame([{"split": "test", "source": s, "target": t} for _, s, t in pairs], PAIRS),
    )
    inputs = {f"spair_71k_{kind}": digest for kind, digest in spair.inputs.items()}
    return Ingested(tables, inputs | {kind: digest.hexdigest() for kind, digest in digests.items()})


def _read_pairs(
    folder: Path, known: Mapping[str, tuple[int, int]], digest: FileDigest
) -> list[tuple[Path, str, str]]:
    """The pairs as (file, source, target), in the order of their numbers."""
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    if not paths:
        raise InputError("no pairs", where=folder, expected="files such as 000006-<source>-<target>:cat.json")
    pairs = []
    for path in progress(paths, total=len(paths), desc="ingest", unit="pairs"):
        content = read_bytes(path, "pair annotation", fix="restore it")
        digest.add(path.name, content)
        values = parse_json_object(content, path)
        texts = [values.get(field) for field in ("src_imname", "trg_imname", "category")]
        if not all(map(is_text, texts)):
            raise InputError(
                "malformed pair annotation",
                where=path,
                expected="the fields src_imname, trg_imname and category, each a text",
                found=short(texts),
                fix="restore or correct the file",
            )
        source, target, category = map(str, texts)
        source_stem, target_stem = (name.removesuffix(".jpg") for name in (source, target))
        _, _, rest = path.stem.partition("-")
        if rest != f"{source_stem}-{target_stem}:{category}":
            raise InputError(
                "the pair annotation is not the pair that its name says",
                where=path,
                expected=rest,
                found=f"{source}, {target}, {category}",
                fix="restore the file",
            )
        pair = (f"{category}/{source_stem}", f"{category}/{target_stem}")
        for image_id in pair:
            if image_id not in known:
                raise InputError(
                    "pair of an unknown image",
                    where=path,
                    expected="images of SPair-71k's test split",
                    found=image_id,
                    fix="check that `spair` in params.yaml is the folder of the whole of SPair-71k",
                )
        pairs.append((path, *pair))
    return pairs


def _read_points(
    folder: Path, image_id: str, size: tuple[int, int], named_in: Path, digest: FileDigest
) -> dict[str, tuple[float, float] | None]:
    """An image's keypoints by number; None where one is not visible."""
    path = folder / f"{image_id}.json"
    content = read_bytes(path, f"annotation of an image named in {named_in}", fix="restore it")
    digest.add(image_id, content)
    kps = parse_json_object(content, path).get("kps")
    if not isinstance(kps, dict) or not all(re.fullmatch(r"0|[1-9][0-9]{0,2}", key) for key in kps):
        raise InputError(
            "malformed annotation: field 'kps'",
            where=path,
            expected='an object with keys "0", "1", …, each a point or null',
            found=short(kps),
            fix="restore or correct the file",
        )
    width, height = size
    points: dict[str, tuple[float, float] | None] = {}
    for keypoint_id, point in kps.items():
        if point is None:
            points[keypoint_id] = None
            continue
        if not (
            isinstance(point, list)
            and len(point) == 2
            and is_number(point[0], 0, width)
            and is_number(point[1], 0, height)
        ):
            raise InputError(
                f"malformed annotation: keypoint {keypoint_id!r} of field 'kps'",
                where=path,
                expected=f"null or [x, y] with 0 <= x <= {width}, 0 <= y <= {height}",
                found=short(point),
                fix="correct the point, or set it to null if it cannot be seen",
            )
        points[keypoint_id] = (float(point[0]), float(point[1]))
    return points


def _keypoints(points: Mapping[str, Mapping[str, tuple[float, float] | None]]) -> pd.DataFrame:
    """The rows of all keypoints that an image can have, set or not."""
    kept: dict[str, set[str]] = {}  # category -> ids
    for image_id, of_image in points.items():
        seen = {keypoint_id for keypoint_id, point in of_image.items() if point is not None}
        kept.setdefault(image_id.split("/")[0], set()).update(seen)
    rows: list[dict[str, Any]] = []
    for image_id, of_image in points.items():
        for keypoint_id in sorted(kept[image_id.split("/")[0]], key=int):
            point = of_image.get(keypoint_id)
            x, y = point if point is not None else (math.nan, math.nan)
            rows.append(
                {
                    "image_id": image_id,
                    "keypoint_id": keypoint_id,
                    "name": keypoint_id,
                    "x": x,
                    "y": y,
                    "visible": int(point is not None),
                }
            )
    return frame(rows, KEYPOINTS)
