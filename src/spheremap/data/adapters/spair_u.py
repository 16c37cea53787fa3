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

import re
from collections.abc import Mapping
from pathlib import Path

from spheremap.config.data_sets import SPairU as Params
from spheremap.data.adapter_tools import (
    FileDigest,
    Ingested,
    Point,
    ingested,
    ingesting,
    keypoint_rows,
    read_annotation,
    refusal,
    require_folders,
    tell_left_out,
)
from spheremap.data.adapters import spair
from spheremap.data.tables import in_split

KEYPOINT_ID = re.compile(r"0|[1-9][0-9]{0,2}")


def read(params: Params) -> Ingested:
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
        expected = "the annotations of SPair-U, which are files of the same names"
        fix = "unpack SPair-U elsewhere and correct `root` in params.yaml"
        raise refusal("the folder of SPair-U is that of SPair-71k", root, expected, "those of SPair-71k", fix)
    spair_71k = spair.read_folder(spair_root, {})
    images = in_split(spair_71k.tables.images, "test")
    sizes = dict(zip(images["image_id"], zip(images["width"], images["height"], strict=True), strict=True))

    digests = {kind: FileDigest() for kind in ("annotations", "pairs")}
    pairs = _read_pairs(pair_folder, sizes, digests["pairs"])
    named = sorted({image_id for pair in pairs for image_id in pair})
    points = {
        image_id: _read_points(image_folder, image_id, sizes[image_id], digests["annotations"])
        for image_id in ingesting(named)
    }
    annotated = sum(1 for path in image_folder.glob("*/*.json") if path.name[0] != ".")
    tell_left_out(annotated - len(points), "images left out that no pair names")
    images = images[images["image_id"].isin(named)].assign(split="test")
    own = ingested(
        images.to_dict("records"),  # type: ignore[arg-type]
        keypoint_rows(points),
        [("test", source, target) for source, target in pairs],
        digests,
    )
    return Ingested(own.tables, {f"spair_71k_{k}": v for k, v in spair_71k.inputs.items()} | own.inputs)


def _read_pairs(
    folder: Path, sizes: Mapping[str, tuple[int, int]], digest: FileDigest
) -> list[tuple[str, str]]:
    """The pairs (source, target) in the order of their numbers, of images that have a size."""
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    if not paths:
        raise refusal("no pairs", folder, "files such as 000006-<source>-<target>:cat.json", "none")
    pairs = []
    for path in ingesting(paths, "pairs"):
        fields = read_annotation(path, digest, what="pair annotation")
        source, target, category = (fields.text(key) for key in ("src_imname", "trg_imname", "category"))
        stems = [name.removesuffix(".jpg") for name in (source, target)]
        if path.stem.partition("-")[2] != f"{stems[0]}-{stems[1]}:{category}":
            problem = "the pair annotation is not the pair that its name says"
            raise refusal(problem, path, path.stem, f"{source}, {target}, {category}")
        pair = (f"{category}/{stems[0]}", f"{category}/{stems[1]}")
        for image_id in pair:
            if image_id not in sizes:
                fix = "check that `spair` in params.yaml is the folder of the whole of SPair-71k"
                expected = "images of SPair-71k's test split"
                raise refusal("pair of an unknown image", path, expected, image_id, fix)
        pairs.append(pair)
    return pairs


def _read_points(folder: Path, image_id: str, size: tuple[int, int], digest: FileDigest) -> dict[int, Point]:
    """An image's visible keypoints by number."""
    annotation = read_annotation(folder / f"{image_id}.json", digest, image_id)
    return {int(k): point for k, point in spair.read_points(annotation, size, KEYPOINT_ID).items()}
