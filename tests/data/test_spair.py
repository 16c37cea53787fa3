"""The adapter for SPair-71k's layout, and the export into it."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from damage import mutant
from PIL import Image
from small_sets import DataSet

from spheremap.base.errors import InputError
from spheremap.cli import main
from spheremap.data.adapters import ingest, spair
from spheremap.data.adapters.spair import split_pair
from spheremap.data.adapters.spair_export import export_spair
from spheremap.data.adapters.voc import VOC_CLASS_IDS
from spheremap.data.tables import (
    IMAGES,
    KEYPOINTS,
    PAIRS,
    Tables,
    read_provenance,
    read_tables,
    sort_tables,
    write_tables,
)

# the fields of SPair-71k's own files
ANNOTATION_FIELDS = [
    *(
        "filename",
        "src_database",
        "src_annotation",
        "src_image",
        "image_width",
        "image_height",
        "image_depth",
    ),
    *("category", "pose", "truncated", "occluded", "difficult", "bndbox", "kps", "azimuth_id"),
]
PAIR_FIELDS = [
    *("pair_id", "filename", "src_imname", "trg_imname", "src_imsize", "trg_imsize", "src_bndbox"),
    *("trg_bndbox", "category", "src_pose", "trg_pose", "src_kps", "trg_kps", "kps_ids", "mirror"),
    *("viewpoint_variation", "scale_variation", "truncation", "occlusion"),
]


def annotation(name: str, category: str = "car", **changes: Any) -> dict[str, Any]:
    """An annotation of a 40 x 30 picture with two visible keypoints."""
    points = {"0": [3, 4], "2": [40, 30]}
    return {
        "filename": f"{name}.jpg",
        "image_width": 40,
        "image_height": 30,
        "category": category,
        "bndbox": [1, 2, 30, 29],
        "kps": {str(i): points.get(str(i)) for i in range(30)},
        "azimuth_id": 2,
        **changes,
    }


def write_image(root: Path, record: dict[str, Any], *, mask: bool = True) -> None:
    name, category = Path(record["filename"]).stem, record["category"]
    for folder in ("ImageAnnotation", "JPEGImages", "Segmentation"):
        (root / folder / category).mkdir(parents=True, exist_ok=True)
    (root / f"ImageAnnotation/{category}/{name}.json").write_text(json.dumps(record))
    Image.new("RGB", (40, 30), (90, 120, 200)).save(root / f"JPEGImages/{category}/{name}.jpg")
    if mask:
        picture = np.zeros((30, 40), np.uint8)
        picture[5:20, 5:30] = VOC_CLASS_IDS.get(category, 21)
        Image.fromarray(picture).save(root / f"Segmentation/{category}/{name}.png")


def write_layout(root: Path, trn: list[str], val: list[str] = (), test: list[str] = ()) -> None:  # type: ignore[assignment]
    folder = root / "Layout" / "large"
    folder.mkdir(parents=True, exist_ok=True)
    for stem, lines in (("trn", trn), ("val", val), ("test", test)):
        (folder / f"{stem}.txt").write_text("".join(line + "\n" for line in lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cars: a and b in the train split, b and c in the test split."""
    root = tmp_path / "spair"
    write_image(root, annotation("a"))
    kps = {str(i): [7.5, 8] if i == 5 else None for i in range(30)}
    write_image(root, annotation("b", azimuth_id=7, kps=kps))
    write_image(root, annotation("c", azimuth_id=0))
    write_layout(root, ["000001-b-a:car", "000002-a-b:car"], [], ["000003-b-c:car"])
    return root


def read(root: Path, **class_ids: int) -> Tables:
    return spair.read_folder(root, class_ids).tables


def refused(root: Path, *parts: str) -> str:
    return data_set(root).refused(*parts)


def edit(root: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    data_set(root).edit(f"ImageAnnotation/car/{name}.json", change)


def data_set(root: Path) -> DataSet:
    return DataSet(root, {"layout": "spair", "root": str(root), "class_ids": {}})


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(folder: Path) -> None:
    tables = read(folder)
    rows = [
        [
            *(f"car/{n}", f"{folder}/JPEGImages/car/{n}.jpg", f"{folder}/Segmentation/car/{n}.png", 7, "car"),
            *(azimuth, 1.0, 2.0, 30.0, 29.0, 40, 30, split, f"car/{n}"),
        ]
        for n, azimuth, split in (("a", 90.0, "train"), ("b", 315.0, "train+test"), ("c", 0.0, "test"))
    ]
    images = pd.DataFrame(rows, columns=list(IMAGES))
    pd.testing.assert_frame_equal(tables.images, images)
    pairs = [["train", "car/b", "car/a"], ["train", "car/a", "car/b"], ["test", "car/b", "car/c"]]
    pd.testing.assert_frame_equal(tables.pairs, pd.DataFrame(pairs, columns=list(PAIRS)))
    # 0 and 2 are set in a and c, 5 in b: all three images have rows of all three
    nan = math.nan
    rows = [
        *[["car/a", "0", "0", 3, 4, 1], ["car/a", "2", "2", 40, 30, 1], ["car/a", "5", "5", nan, nan, 0]],
        *[["car/b", "0", "0", nan, nan, 0], ["car/b", "2", "2", nan, nan, 0], ["car/b", "5", "5", 7.5, 8, 1]],
        *[["car/c", "0", "0", 3, 4, 1], ["car/c", "2", "2", 40, 30, 1], ["car/c", "5", "5", nan, nan, 0]],
    ]
    keypoints = pd.DataFrame(rows, columns=list(KEYPOINTS))
    pd.testing.assert_frame_equal(tables.keypoints, keypoints, check_dtype=False)


def test_extra_fields(folder: Path) -> None:
    names = {"0": "nose", "2": "tail"}
    edit(folder, "a", lambda r: r.update(azimuth=91.5, instance="taxi", keypoint_names=names))
    edit(folder, "b", lambda r: r.update(azimuth_id=None))
    edit(folder, "c", lambda r: r.update(azimuth_id=None, azimuth=12, keypoint_names=names | {"29": "hat"}))
    tables = read(folder)
    np.testing.assert_array_equal(tables.images["azimuth"], [91.5, math.nan, 12.0])
    assert list(tables.images["instance"]) == ["taxi", "car/b", "car/c"]
    ids = tables.keypoints.groupby("image_id")["keypoint_id"].agg(list)
    # an image that names its keypoints has exactly these, the others all of the category
    assert dict(ids) == {"car/a": ["0", "2"], "car/b": ["0", "2", "5", "29"], "car/c": ["0", "2", "29"]}
    names = dict(zip(tables.keypoints["keypoint_id"], tables.keypoints["name"], strict=True))
    assert names == {"0": "nose", "2": "tail", "5": "5", "29": "hat"}


def test_images_without_a_pair_are_left_out_unless_listed(folder: Path) -> None:
    write_image(folder, annotation("d"))
    assert "car/d" not in set(read(folder).images["image_id"])
    (folder / "Layout/large/unpaired.txt").write_text("val:car/d\nval:car/a\n")
    images = read(folder).images.set_index("image_id")
    assert images.loc["car/d", "split"] == "val"
    assert images.loc["car/a", "split"] == "train+val"


@pytest.mark.parametrize(("stem", "split"), [("trn", "train"), ("val", "val"), ("test", "test")])
def test_a_split_without_pairs_needs_no_file(folder: Path, stem: str, split: str) -> None:
    write_layout(folder, ["000001-b-a:car"], ["000002-a-c:car"], ["000003-b-c:car"])
    before = read(folder).pairs
    (folder / f"Layout/large/{stem}.txt").unlink()
    after = read(folder).pairs
    pd.testing.assert_frame_equal(after, before[before["split"] != split].reset_index(drop=True))


@pytest.mark.parametrize("count", [1, 12, 45])
@pytest.mark.parametrize("named", [False, True])
def test_any_number_of_keypoints(folder: Path, tmp_path: Path, count: int, named: bool) -> None:
    ids = [str(i) for i in range(count)]
    for name in "abc":
        kps = {i: [int(i) % 40, len(name)] for i in ids}
        names = {"keypoint_names": {i: f"part {i}" for i in ids}} if named else {}
        write_image(folder, annotation(name, kps=kps, **names))
    tables = read(folder)
    for _, own in tables.keypoints.groupby("image_id"):
        assert own["keypoint_id"].tolist() == ids
        assert own["name"].tolist() == ([f"part {i}" for i in ids] if named else ids)
        assert own["x"].tolist() == [int(i) % 40 for i in ids]
        assert own["visible"].all()
    out = tmp_path / "out"
    out.mkdir()
    export_spair(tables, out)
    assert_equal_but_paths(read(out), tables)
    record = json.loads((out / "ImageAnnotation/car/a.json").read_text())
    assert list(record["kps"]) == [str(i) for i in range(max(count, 30))]
    pair = json.loads((out / "PairAnnotation/test/000003-b-c:car.json").read_text())
    assert pair["kps_ids"] == ids


def test_images_may_list_other_keypoints(folder: Path) -> None:
    """Each has those set in any image of its category; what its own file does not list is not visible."""
    for name, kps in {"a": {"7": [1, 2], "31": None}, "b": {"100": [3, 4], "07": [5, 6]}, "c": {}}.items():
        edit(folder, name, lambda r, kps=kps: r.update(kps=kps))
    write_image(folder, annotation("d", "dog", kps={"0": [1, 1]}))
    write_layout(folder, ["000001-b-a:car", "000002-b-c:car", "000003-d-d:dog"])
    tables = read(folder)
    for image_id, visible in {"car/a": [0, 1, 0], "car/b": [1, 0, 1], "car/c": [0, 0, 0]}.items():
        own = tables.keypoints[tables.keypoints["image_id"] == image_id]
        assert own["keypoint_id"].tolist() == ["07", "7", "100"]
        assert own["visible"].tolist() == visible
        assert own["x"].isna().tolist() == [not seen for seen in visible]
    assert tables.keypoints[tables.keypoints["image_id"] == "dog/d"]["keypoint_id"].tolist() == ["0"]


def test_without_segmentation_no_image_has_a_mask(folder: Path) -> None:
    (folder / "Segmentation").rename(folder / "elsewhere")
    assert list(read(folder).images["mask_path"]) == ["", "", ""]


def test_own_category_needs_a_class_id(folder: Path) -> None:
    write_image(folder, annotation("q", "quadruped"))
    with (folder / "Layout/large/val.txt").open("a") as file:
        file.write("000004-q-q:quadruped\n")
    refused(folder, "'quadruped' has no class id", "val.txt, line 1", "class_ids")
    images = read(folder, quadruped=21).images.set_index("image_id")
    assert images.loc["quadruped/q", "mask_value"] == 21


def test_class_ids_are_those_of_voc() -> None:
    some = {"aeroplane": 1, "car": 7, "cat": 8, "dog": 12, "person": 15, "sheep": 17, "tvmonitor": 20}
    assert some.items() <= VOC_CLASS_IDS.items()
    assert sorted(VOC_CLASS_IDS.values()) == list(range(1, 21))


def test_names_with_hyphens_are_told_apart_by_the_annotations(folder: Path) -> None:
    write_image(folder, annotation("x-1"))
    write_image(folder, annotation("y"))
    write_layout(folder, ["000001-x-1-y:car", "000002-y-x-1:car"])
    assert read(folder).pairs[["source", "target"]].to_numpy().tolist() == [
        ["car/x-1", "car/y"],
        ["car/y", "car/x-1"],
    ]
    write_image(folder, annotation("x"))
    write_image(folder, annotation("1-y"))
    refused(folder, "ambiguous pair", "trn.txt, line 1", "('x', '1-y')", "('x-1', 'y')")
    write_layout(folder, ["000001-x-1-z:car"])
    refused(folder, "unknown images", "trn.txt, line 1")


def test_split_pair() -> None:
    assert split_pair("a-b", set()) == [("a", "b")]
    assert split_pair("a", set()) == []
    assert split_pair("a-b-c", {"a", "b-c"}) == [("a", "b-c")]
    assert split_pair("a-b-c", {"a", "b-c", "a-b", "c"}) == [("a", "b-c"), ("a-b", "c")]


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "Layout/large", "params.yaml")
    for part, fix in [
        ("Segmentation/car/c.png", "restore the mask"),
        ("JPEGImages/car/b.jpg", "restore the image"),
        ("ImageAnnotation/car/a.json", "trn.txt, line 1"),
        ("JPEGImages", "SPair-71k"),
    ]:
        (folder / part).rename(tmp_path / "aside")
        refused(folder, str(folder), part, fix)
        (tmp_path / "aside").rename(folder / part)
    write_layout(folder, [])
    refused(folder, "no pairs", "Layout/large")
    (folder / "Layout/large/val.txt").unlink()
    (folder / "Layout/large/val.txt").symlink_to("gone.txt")  # not the same as no file
    refused(folder, "cannot read the layout file", "val.txt")
    for stem in ("trn", "val", "test"):
        (folder / f"Layout/large/{stem}.txt").unlink()
    (folder / "Layout/large/unpaired.txt").write_text("val:car/a\n")
    refused(folder, "no layout file", "trn.txt, val.txt, test.txt", "unpaired.txt")


PAIR_LINES = (
    "a-b:car",
    "000001-a-b",
    "000001-a:car",
    "x-a-b:car",
    "000001-a/b-c:car",
    "000001-a-b:../car",
    "-",
)


@pytest.mark.parametrize("line", PAIR_LINES)
def test_malformed_pair_lines(folder: Path, line: str) -> None:
    write_layout(folder, ["000001-b-a:car", "", line])
    refused(folder, "trn.txt, line 3", "expected", repr(line))


@pytest.mark.parametrize("line", ["car/a", "valid:car/a", "val:a", "val:car/", "val:car/../a", "val:/a"])
def test_malformed_unpaired_lines(folder: Path, line: str) -> None:
    (folder / "Layout/large/unpaired.txt").write_text(line)
    refused(folder, "unpaired.txt, line 1", "<split>:<category>/<image>", repr(line))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"image_width": 41}, "41 x 30 pixels"),
        ({"image_height": True}, "'image_height'"),
        ({"filename": "other.jpg"}, "'filename'"),
        ({"filename": "../a.jpg"}, "'filename'"),
        ({"filename": "a.png"}, "a.png"),
        ({"category": "dog"}, "'car' as its folder says"),
        ({"azimuth_id": 8}, "from 0 to 7"),
        ({"azimuth": 360}, "[0, 360)"),
        ({"azimuth": math.nan}, "[0, 360)"),
        ({"bndbox": [5, 2, 5, 20]}, "'bndbox'"),
        ({"bndbox": [1, 2, 30, 10**400]}, "y2 <= 30"),
        ({"kps": [[1, 2]]}, "'kps'"),
        ({"kps": {"-1": [1, 2]}}, "'kps'"),
        ({"kps": {"١": [1, 2]}}, "'kps'"),
        ({"kps": {"123456789": [1, 2]}}, "'kps'"),
        ({"kps": {"44": [41, 2]}}, "'44'"),
        ({"instance": "a\nb"}, "'instance'"),
        ({"keypoint_names": {"30": "x"}}, "a name for each point"),
        ({"keypoint_names": ["x"]}, "'keypoint_names'"),
    ],
)
def test_malformed_fields(folder: Path, change: dict[str, Any], part: str) -> None:
    edit(folder, "a", lambda r: r.update(change))
    refused(folder, "ImageAnnotation/car/a.json", part, "expected", "found")


@pytest.mark.parametrize("field", ["filename", "image_width", "category", "azimuth_id", "bndbox", "kps"])
def test_missing_fields(folder: Path, field: str) -> None:
    edit(folder, "a", lambda r: r.pop(field))
    refused(folder, "ImageAnnotation/car/a.json", repr(field), "no such field")


@pytest.mark.parametrize("point", [[40.5, 3], [3, -1], [math.nan, 1], [1], "12", [1, None], [True, 2]])
def test_malformed_keypoints(folder: Path, point: Any) -> None:
    edit(folder, "a", lambda r: r["kps"].update({"4": point}))
    message = refused(folder, "ImageAnnotation/car/a.json", "'4'")
    outside = point in ([40.5, 3], [3, -1])
    assert ("outside the image" in message) == outside


NO_OBJECTS = (b"", b"[]", b"null", b"\xff", b'{"a": 1, "a": 2}', b"[" * 10**5, b"9" * 5000, b'{"a": \x00}')


@pytest.mark.parametrize("content", NO_OBJECTS)
def test_annotations_that_are_not_json_objects(folder: Path, content: bytes) -> None:
    (folder / "ImageAnnotation/car/b.json").write_bytes(content)
    refused(folder, "ImageAnnotation/car/b.json", "JSON object")


def test_keypoint_with_two_names(folder: Path) -> None:
    edit(folder, "a", lambda r: r.update(keypoint_names={"0": "nose", "2": "tail"}))
    edit(folder, "c", lambda r: r.update(keypoint_names={"0": "nose", "2": "hind end"}))
    refused(folder, "'2' has two names", "c.json", "a.json", "'tail'", "'hind end'")


def test_bad_masks(folder: Path) -> None:
    mask = folder / "Segmentation/car/a.png"
    Image.new("L", (40, 31)).save(mask)
    refused(folder, "mask of another size", "a.png", "40 x 31")
    Image.new("RGB", (40, 30)).save(mask)
    refused(folder, "several channels", "a.png", "RGB")
    mask.unlink()
    mask.mkdir()
    refused(folder, "cannot read the mask", "a.png")


# --- mutated files ------------------------------------------------------------------------------------------

SPECIAL = {"keypoint_names": {"0": "nose", "2": "tail", "9": "ear"}, "azimuth": 33.25, "instance": "taxi"}
RECORDS = {"a": annotation("a"), "b": annotation("b", **SPECIAL), "c": annotation("c", azimuth_id=None)}


@pytest.fixture(scope="module")
def mutable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mutable")
    for record in RECORDS.values():
        write_image(root, record)
    write_layout(root, ["000001-a-b:car"], ["000002-b-c:car"], [])
    return root


def test_damaged_annotations_are_read_rightly_or_refused(mutable: Path) -> None:
    rng, outcomes = random.Random(0), {"read": 0, "refused": 0}
    for _ in range(120):
        name = rng.choice("abc")
        path = mutable / f"ImageAnnotation/car/{name}.json"
        good = path.read_bytes()
        content = mutant(path, good, rng)
        path.write_bytes(content)
        try:
            tables = read(mutable)
        except InputError as error:
            outcomes["refused"] += 1
            message = str(error)
            assert str(path) in message
        else:
            outcomes["read"] += 1
            check_against_files(tables, RECORDS | {name: json.loads(content)})
        path.write_bytes(good)
    assert min(outcomes.values()) > 10


def check_against_files(tables: Tables, records: dict[str, Any]) -> None:
    """Compare with what a plain reading of the files says, worked out apart from the adapter."""
    assert list(tables.images["image_id"]) == ["car/a", "car/b", "car/c"]
    assert len(tables.pairs) == 2
    for row in tables.images.to_dict("records"):
        record = records[row["image_id"][-1]]
        assert [row["x1"], row["y1"], row["x2"], row["y2"]] == record["bndbox"]
        coarse = math.nan if record["azimuth_id"] is None else record["azimuth_id"] * 45
        np.testing.assert_equal(row["azimuth"], float(record.get("azimuth", coarse)))
        assert row["instance"] == record.get("instance", row["image_id"])
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    found = {(row.image_id, row.keypoint_id): [row.x, row.y] for row in visible.itertuples()}
    points = {(f"car/{n}", k): xy for n, r in records.items() for k, xy in r["kps"].items() if xy is not None}
    assert found == points


# --- export -------------------------------------------------------------------------------------------------


def make_tables(root: Path) -> Tables:
    """Tables with everything that SPair-71k itself cannot say, in no particular order."""
    (root / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(5)
    images, keypoints = [], []
    for category, value in (("quadruped", 21), ("car", 7)):
        for i in range(4):
            image_id = f"{category}/{category}_{3 - i}"
            stem = root / "pictures" / f"{category}{i}"
            width, height = 40 + i, 30
            Image.new("RGB", (width, height), (10 * i, 50, 90)).save(stem.with_suffix(".jpg"))
            Image.new("L", (width, height), value).save(stem.with_suffix(".png"))
            azimuth = [0.0, 135.0, 359.75, math.nan][i]
            split = ["train", "train+val", "test", "val"][i]
            box = [float(rng.uniform(1, 9)), 2.5, 39.0, 28.0]
            instance = f"{category} no. {i % 2}"
            paths = [str(stem.with_suffix(".jpg")), str(stem.with_suffix(".png"))]
            images.append([image_id, *paths, value, category, azimuth, *box, width, height, split, instance])
            for k in (29, 3, 10)[: 3 - i % 2]:
                xy = [math.nan] * 2 if k == i else [float(rng.uniform(0, side)) for side in (width, height)]
                keypoints.append([image_id, str(k), f"{category}_part_{k}", *xy, int(k != i)])
    pairs = [
        ["train", "quadruped/quadruped_3", "quadruped/quadruped_2"],
        ["train", "car/car_2", "car/car_3"],
        ["train", "car/car_3", "car/car_2"],
        ["val", "car/car_2", "car/car_0"],
        ["test", "quadruped/quadruped_1", "quadruped/quadruped_1"],
    ]
    frames = (
        pd.DataFrame(rows, columns=list(schema)).astype(schema)
        for rows, schema in ((images, IMAGES), (keypoints, KEYPOINTS), (pairs, PAIRS))
    )
    return Tables(*frames)


def assert_equal_but_paths(left: Tables, right: Tables) -> None:
    columns = [column for column in IMAGES if column not in ("path", "mask_path")]
    pd.testing.assert_frame_equal(left.images[columns], right.images[columns])
    pd.testing.assert_frame_equal(left.keypoints, right.keypoints)
    pd.testing.assert_frame_equal(left.pairs, right.pairs)


def test_export_reads_back_identically(tmp_path: Path) -> None:
    tables = make_tables(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    class_ids = export_spair(tables, out)
    assert class_ids == {"quadruped": 21}
    back = read(out, **class_ids)
    assert_equal_but_paths(back, sort_tables(tables))
    before = tables.images.set_index("image_id")
    for row in back.images.itertuples():
        for path in ("path", "mask_path"):
            assert Path(getattr(row, path)).read_bytes() == Path(before.loc[row.image_id, path]).read_bytes()
    # once more from what was read: the layout is a fixed point
    again = tmp_path / "again"
    again.mkdir()
    export_spair(back, again)
    for path in out.rglob("*.*"):
        if path.is_file():
            assert (again / path.relative_to(out)).read_bytes() == path.read_bytes()


def test_exported_files_are_those_of_spair(tmp_path: Path) -> None:
    tables = make_tables(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    export_spair(tables, out)
    assert (out / "Layout/large/trn.txt").read_text().splitlines() == [
        "000001-quadruped_3-quadruped_2:quadruped",
        "000002-car_2-car_3:car",
        "000003-car_3-car_2:car",
    ]
    assert (out / "Layout/large/val.txt").read_text() == "000004-car_2-car_0:car\n"
    assert (out / "Layout/large/test.txt").read_text() == "000005-quadruped_1-quadruped_1:quadruped\n"
    record = json.loads((out / "ImageAnnotation/car/car_1.json").read_text())
    assert list(record)[: len(ANNOTATION_FIELDS)] == ANNOTATION_FIELDS
    assert list(record["kps"]) == [str(i) for i in range(30)]
    assert record["azimuth_id"] == 0  # 359.75 degrees, nearer to 360 than to 315
    assert record["azimuth"] == 359.75
    assert record["pose"] == "Frontal"
    assert record["bndbox"][1:] == [2.5, 39, 28]
    assert isinstance(record["bndbox"][2], int)
    assert "azimuth" not in json.loads((out / "ImageAnnotation/car/car_2.json").read_text())
    unknown = json.loads((out / "ImageAnnotation/car/car_0.json").read_text())
    assert (unknown["azimuth_id"], unknown["pose"]) == (None, "Unspecified")

    pair = json.loads((out / "PairAnnotation/trn/000003-car_3-car_2:car.json").read_text())
    assert list(pair) == PAIR_FIELDS
    source, target = (json.loads((out / f"ImageAnnotation/car/car_{i}.json").read_text()) for i in (3, 2))
    assert pair["kps_ids"] == ["3", "29"]  # car_2 lacks 10
    assert pair["src_kps"] == [source["kps"]["3"], source["kps"]["29"]]
    assert pair["trg_kps"] == [target["kps"]["3"], target["kps"]["29"]]
    assert pair["src_imsize"] == [40, 30, 3]
    assert pair["trg_imsize"] == [41, 30, 3]
    assert pair["viewpoint_variation"] == 2  # 0 against 135 degrees: three bins
    assert pair["truncation"] == 1  # the source's box ends a pixel before its border, the target's two
    assert len(list((out / "PairAnnotation").rglob("*.json"))) == 5


@pytest.mark.parametrize(
    ("name", "column", "value", "parts"),
    [
        ("images", "mask_path", "", ["masks for all images or for none"]),
        ("images", "mask_value", 22, ["one mask_value", "quadruped: [21, 22]"]),
        ("images", "image_id", "odd", ["<category>/<name>", "odd"]),
        ("keypoints", "keypoint_id", "nose", ["keypoint ids", "nose"]),
        ("images", "path", "no.jpg", ["no.jpg", "copy"]),
        ("images", "width", 50, ["another size"]),
        ("keypoints", "name", "two\nlines", ["keypoint_names"]),
    ],
)
def test_what_the_layout_cannot_hold_is_refused(
    tmp_path: Path, name: str, column: str, value: Any, parts: list[str]
) -> None:
    tables = make_tables(tmp_path)
    getattr(tables, name).loc[0, column] = value
    refuse_export(tables, tmp_path / "out", *parts)


def test_names_that_hyphens_cannot_separate_are_refused(tmp_path: Path) -> None:
    names = {"car/car_2": "car/x-1", "car/car_3": "car/y", "car/car_1": "car/x", "car/car_0": "car/1-y"}
    tables = make_tables(tmp_path)
    frames = (frame.replace(names) for frame in (tables.images, tables.keypoints, tables.pairs))
    refuse_export(Tables(*frames), tmp_path / "out", "'-'", "'x-1' and 'y'")


def refuse_export(tables: Tables, out: Path, *parts: str) -> None:
    out.mkdir()
    with pytest.raises(InputError) as caught:
        export_spair(tables, out)
    for part in parts:
        assert part in str(caught.value)


# --- commands -----------------------------------------------------------------------------------------------


def test_commands_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = make_tables(tmp_path)
    write_tables(tmp_path / "tables", tables, {"step": "test"})
    out = tmp_path / "out"
    arguments = ["export-spair", "--tables", str(tmp_path / "tables"), "--out", str(out)]
    assert main(arguments) == 0
    assert 'class_ids: {"quadruped": 21}' in capsys.readouterr().out
    assert json.loads((out / "provenance.json").read_text())["step"] == "export-spair"

    params = tmp_path / "params.json"
    params.write_text(json.dumps({"layout": "spair", "root": str(out), "class_ids": {"quadruped": 21}}))
    ingested = tmp_path / "ingested"
    assert main(["ingest", "--params", str(params), "--out", str(ingested)]) == 0
    assert "8 images of 2 categories, pairs: 3 train, 1 val, 1 test" in capsys.readouterr().out
    assert_equal_but_paths(read_tables(ingested), sort_tables(tables))
    record = read_provenance(ingested)
    assert record["step"] == "ingest"
    assert set(record["inputs"]) == {"layout", "annotations", "images", "masks"}
    # an earlier export may be replaced
    assert main(arguments) == 0


def test_export_replaces_nothing_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = make_tables(tmp_path)
    write_tables(tmp_path / "tables", tables, {"step": "test"})
    export = ["export-spair", "--tables", str(tmp_path / "tables"), "--out"]
    before = (tmp_path / "tables/images.csv").read_bytes()
    assert main([*export, str(tmp_path / "tables")]) == 1
    assert "not an earlier export" in capsys.readouterr().err
    assert (tmp_path / "tables/images.csv").read_bytes() == before
    Path(tables.images.loc[5, "path"]).unlink()
    there = sorted(tmp_path.iterdir())
    assert main([*export, str(tmp_path / "out")]) == 1
    assert sorted(tmp_path.iterdir()) == there
    assert tables.images.loc[5, "path"] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ({"layout": "spiar", "root": "x", "class_ids": {}}, ["'spiar'", "did you mean 'spair'"]),
        ({"layout": "shapes", "seed": 0}, ["'shapes'", "spheremap render"]),
        ({"root": "x"}, ["layout: None"]),
        ([], ["an entry of `datasets`", "a mapping"]),
        ({"layout": "spair", "root": "x", "class_id": {}}, ["'class_id'", "'class_ids'"]),
        ({"layout": "spair", "root": "x"}, ["class_ids: missing"]),
    ],
)
def test_malformed_entries(tmp_path: Path, entry: Any, parts: list[str]) -> None:
    params = tmp_path / "params.json"
    params.write_text(json.dumps(entry))
    with pytest.raises(InputError) as caught:
        ingest(params)
    for part in [str(params), *parts]:
        assert part in str(caught.value)


# --- real files ---------------------------------------------------------------------------------------------


def test_real_dogs(real: Path, tmp_path: Path) -> None:
    root = real / "dogs"
    tables = read(root)
    assert len(tables.images) == 25
    assert tables.pairs["split"].value_counts().to_dict() == {"train": 156, "test": 56, "val": 12}
    assert tables.images["split"].value_counts().to_dict() == {"train": 13, "test": 8, "val": 4}
    assert set(tables.images["mask_value"]) == {12}
    visible = tables.keypoints[tables.keypoints["visible"] == 1].set_index(["image_id", "keypoint_id"])
    count = 0
    for path in (root / "ImageAnnotation" / "dog").iterdir():
        record = json.loads(path.read_text())
        for keypoint_id, point in record["kps"].items():
            if point is not None:
                assert visible.loc[(f"dog/{path.stem}", keypoint_id), ["x", "y"]].tolist() == point
                count += 1
    assert count == len(visible)
    # every keypoint of every pair annotation is found through the tables
    for path in (root / "PairAnnotation" / "test").iterdir():
        pair = json.loads(path.read_text())
        for side in ("src", "trg"):
            image_id = "dog/" + Path(pair[f"{side}_imname"]).stem
            points = [visible.loc[(image_id, k), ["x", "y"]].tolist() for k in pair["kps_ids"]]
            assert points == pair[f"{side}_kps"]
    # exported again, the pair files hold what the originals hold, but for the levels that people set
    out = tmp_path / "out"
    out.mkdir()
    export_spair(tables, out)
    free = {"viewpoint_variation", "scale_variation", "truncation", "occlusion"}
    for path in (root / "PairAnnotation").rglob("*.json"):
        ours, theirs = (json.loads((base / path.relative_to(root)).read_text()) for base in (out, root))
        assert ours | dict.fromkeys(free) == theirs | dict.fromkeys(free)


def test_real_annotations_are_accepted(real: Path, tmp_path: Path) -> None:
    lines = []
    for i, path in enumerate(sorted((real / "spair_annotations/ImageAnnotation").rglob("*.json"))):
        record = json.loads(path.read_text())
        assert list(record) == ANNOTATION_FIELDS
        write_image(tmp_path, record, mask=False)
        picture = tmp_path / "JPEGImages" / record["category"] / record["filename"]
        Image.new("RGB", (record["image_width"], record["image_height"])).save(picture)
        lines.append(f"{i:06d}-{path.stem}-{path.stem}:{record['category']}")
    (tmp_path / "Segmentation").rename(tmp_path / "empty")
    write_layout(tmp_path, lines)
    images = read(tmp_path).images.set_index("image_id")
    assert images["azimuth"].to_list() == [90, 90, 270]
    assert images.loc["dog/2010_000608", ["x1", "y1", "x2", "y2"]].tolist() == [31, 11, 458, 412]
