"""The adapter for SPair-71k's layout, and the export into it."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from damage import mutant
from data_checks import assert_same, refusal, tables_of
from PIL import Image
from small_sets import DataSet

from spheremap.base.errors import InputError
from spheremap.cli import main
from spheremap.data.adapters import ingest, spair
from spheremap.data.spair_export import export_spair
from spheremap.data.tables import Tables, read_provenance, read_tables, sort_tables, write_tables
from spheremap.data.voc import VOC_CLASS_IDS

NAN = math.nan
# the fields of SPair-71k's own files
ANNOTATION_FIELDS = [
    "filename", "src_database", "src_annotation", "src_image", "image_width", "image_height", "image_depth",
    "category", "pose", "truncated", "occluded", "difficult", "bndbox", "kps", "azimuth_id",
]  # fmt: skip
PAIR_FIELDS = [
    "pair_id", "filename", "src_imname", "trg_imname", "src_imsize", "trg_imsize", "src_bndbox", "trg_bndbox",
    "category", "src_pose", "trg_pose", "src_kps", "trg_kps", "kps_ids", "mirror", "viewpoint_variation",
    "scale_variation", "truncation", "occlusion",
]  # fmt: skip


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


def write_layout(root: Path, trn: Sequence[str], val: Sequence[str] = (), test: Sequence[str] = ()) -> None:
    folder = root / "Layout/large"
    folder.mkdir(parents=True, exist_ok=True)
    for stem, lines in (("trn", trn), ("val", val), ("test", test)):
        (folder / f"{stem}.txt").write_text("".join(line + "\n" for line in lines))


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Three cars: a and b in the train split, b and c in the test split."""
    root = tmp_path / "spair"
    write_image(root, annotation("a"))
    kps = {str(i): [7.5, 8] if i == 5 else None for i in range(30)}
    write_image(root, annotation("b", azimuth_id=7, kps=kps))
    write_image(root, annotation("c", azimuth_id=0))
    write_layout(root, ["000001-b-a:car", "000002-a-b:car"], [], ["000003-b-c:car"])
    return DataSet(root, {"layout": "spair", "root": str(root), "class_ids": {}})


@pytest.fixture
def folder(data: DataSet) -> Path:
    return data.folder


@pytest.fixture
def edit(data: DataSet) -> Callable[[str, Callable[[dict[str, Any]], Any]], None]:
    """Change the annotation of a car."""
    return lambda name, change: data.edit(f"ImageAnnotation/car/{name}.json", change)


Edit = Callable[[str, Callable[[dict[str, Any]], Any]], None]


def read(root: Path, **class_ids: int) -> Tables:
    return spair.read_folder(root, class_ids).tables


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(folder: Path) -> None:
    rows = [
        [
            *(f"car/{n}", f"{folder}/JPEGImages/car/{n}.jpg", f"{folder}/Segmentation/car/{n}.png", 7, "car"),
            *(azimuth, 1.0, 2.0, 30.0, 29.0, 40, 30, split, f"car/{n}"),
        ]
        for n, azimuth, split in (("a", 90.0, "train"), ("b", 315.0, "train+test"), ("c", 0.0, "test"))
    ]
    # 0 and 2 are set in a and c, 5 in b: all three images have rows of all three
    points = {"a": {0: (3, 4), 2: (40, 30)}, "b": {5: (7.5, 8)}, "c": {0: (3, 4), 2: (40, 30)}}
    keypoints = [
        [f"car/{n}", str(k), str(k), *points[n].get(k, (NAN, NAN)), int(k in points[n])]
        for n in "abc"
        for k in (0, 2, 5)
    ]
    pairs = [["train", "car/b", "car/a"], ["train", "car/a", "car/b"], ["test", "car/b", "car/c"]]
    assert_same(read(folder), tables_of(rows, keypoints, pairs))


def test_extra_fields(folder: Path, edit: Edit) -> None:
    names = {"0": "nose", "2": "tail"}
    edit("a", lambda r: r.update(azimuth=91.5, instance="taxi", keypoint_names=names))
    edit("b", lambda r: r.update(azimuth_id=None))
    edit("c", lambda r: r.update(azimuth_id=None, azimuth=12, keypoint_names=names | {"29": "hat"}))
    tables = read(folder)
    np.testing.assert_array_equal(tables.images["azimuth"], [91.5, NAN, 12.0])
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
    before = read(folder).pairs.to_numpy().tolist()
    (folder / f"Layout/large/{stem}.txt").unlink()
    assert read(folder).pairs.to_numpy().tolist() == [pair for pair in before if pair[0] != split]


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
    out = exported(tables, tmp_path / "out")
    assert_same(read(out), tables, *PATHS)
    assert list(load(out / "ImageAnnotation/car/a.json")["kps"]) == [str(i) for i in range(max(count, 30))]
    assert load(out / "PairAnnotation/test/000003-b-c:car.json")["kps_ids"] == ids


def test_images_may_list_other_keypoints(folder: Path, edit: Edit) -> None:
    """Each has those set in any image of its category; what its own file does not list is not visible."""
    for name, kps in {"a": {"7": [1, 2], "31": None}, "b": {"100": [3, 4], "07": [5, 6]}, "c": {}}.items():
        edit(name, lambda r, kps=kps: r.update(kps=kps))
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


def test_own_category_needs_a_class_id(folder: Path, data: DataSet) -> None:
    write_image(folder, annotation("q", "quadruped"))
    (folder / "Layout/large/val.txt").write_text("000004-q-q:quadruped\n")
    data.refused("'quadruped' has no class id", "val.txt, line 1", "class_ids")
    images = read(folder, quadruped=21).images.set_index("image_id")
    assert images.loc["quadruped/q", "mask_value"] == 21


def test_class_ids_are_those_of_voc() -> None:
    some = {"aeroplane": 1, "car": 7, "cat": 8, "dog": 12, "person": 15, "sheep": 17, "tvmonitor": 20}
    assert some.items() <= VOC_CLASS_IDS.items()
    assert sorted(VOC_CLASS_IDS.values()) == list(range(1, 21))


def test_names_with_hyphens_are_told_apart_by_the_annotations(folder: Path, data: DataSet) -> None:
    write_image(folder, annotation("x-1"))
    write_image(folder, annotation("y"))
    write_layout(folder, ["000001-x-1-y:car", "000002-y-x-1:car"])
    pairs = [["train", "car/x-1", "car/y"], ["train", "car/y", "car/x-1"]]
    assert read(folder).pairs.to_numpy().tolist() == pairs
    write_image(folder, annotation("x"))
    write_image(folder, annotation("1-y"))
    data.refused("ambiguous pair", "trn.txt, line 1", "('x', '1-y')", "('x-1', 'y')")
    write_layout(folder, ["000001-x-1-z:car"])
    data.refused("unknown images", "trn.txt, line 1")


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(data: DataSet, folder: Path) -> None:
    data.refused("nowhere", "Layout/large", "params.yaml", root="nowhere")
    for part, fix in [
        ("Segmentation/car/c.png", "restore the mask"),
        ("JPEGImages/car/b.jpg", "restore the image"),
        ("ImageAnnotation/car/a.json", "trn.txt, line 1"),
        ("JPEGImages", "SPair-71k"),
    ]:
        with data.without(part):
            data.refused(folder, part, fix)
    write_layout(folder, [])
    data.refused("no pairs", "Layout/large")
    (folder / "Layout/large/val.txt").unlink()
    (folder / "Layout/large/val.txt").symlink_to("gone.txt")  # not the same as no file
    data.refused("cannot read the layout file", "val.txt")
    for stem in ("trn", "val", "test"):
        (folder / f"Layout/large/{stem}.txt").unlink()
    (folder / "Layout/large/unpaired.txt").write_text("val:car/a\n")
    data.refused("no layout file", "trn.txt, val.txt, test.txt", "unpaired.txt")


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
def test_malformed_pair_lines(data: DataSet, line: str) -> None:
    write_layout(data.folder, ["000001-b-a:car", "", line])
    data.refused("trn.txt, line 3", "expected", repr(line))


@pytest.mark.parametrize("line", ["car/a", "valid:car/a", "val:a", "val:car/", "val:car/../a", "val:/a"])
def test_malformed_unpaired_lines(data: DataSet, line: str) -> None:
    (data.folder / "Layout/large/unpaired.txt").write_text(line)
    data.refused("unpaired.txt, line 1", "<split>:<category>/<image>", repr(line))


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
def test_malformed_fields(data: DataSet, edit: Edit, change: dict[str, Any], part: str) -> None:
    edit("a", lambda r: r.update(change))
    data.refused("ImageAnnotation/car/a.json", part, "expected", "found")


@pytest.mark.parametrize("field", ["filename", "image_width", "category", "azimuth_id", "bndbox", "kps"])
def test_missing_fields(data: DataSet, edit: Edit, field: str) -> None:
    edit("a", lambda r: r.pop(field))
    data.refused("ImageAnnotation/car/a.json", repr(field), "no such field")


OUTSIDE = "outside the image"


@pytest.mark.parametrize(
    ("point", "part"),
    [
        ([40.5, 3], OUTSIDE),
        ([3, -1], OUTSIDE),
        *((p, "") for p in ([NAN, 1], [1], "12", [1, None], [True, 2])),
    ],
)
def test_malformed_keypoints(data: DataSet, edit: Edit, point: Any, part: str) -> None:
    edit("a", lambda r: r["kps"].update({"4": point}))
    data.refused("ImageAnnotation/car/a.json", "'4'", part)


NO_OBJECTS = (b"", b"[]", b"null", b"\xff", b'{"a": 1, "a": 2}', b"[" * 10**5, b"9" * 5000, b'{"a": \x00}')


@pytest.mark.parametrize("content", NO_OBJECTS)
def test_annotations_that_are_not_json_objects(data: DataSet, content: bytes) -> None:
    (data.folder / "ImageAnnotation/car/b.json").write_bytes(content)
    data.refused("ImageAnnotation/car/b.json", "JSON object")


def test_keypoint_with_two_names(data: DataSet, edit: Edit) -> None:
    edit("a", lambda r: r.update(keypoint_names={"0": "nose", "2": "tail"}))
    edit("c", lambda r: r.update(keypoint_names={"0": "nose", "2": "hind end"}))
    data.refused("'2' has two names", "c.json", "a.json", "'tail'", "'hind end'")


def test_bad_masks(data: DataSet) -> None:
    mask = data.folder / "Segmentation/car/a.png"
    Image.new("L", (40, 31)).save(mask)
    data.refused("mask of another size", "a.png", "40 x 31")
    Image.new("RGB", (40, 30)).save(mask)
    data.refused("several channels", "a.png", "RGB")
    mask.unlink()
    mask.mkdir()
    data.refused("cannot read the mask", "a.png")


# --- mutated files ------------------------------------------------------------------------------------------

SPECIAL = {"keypoint_names": {"0": "nose", "2": "tail", "9": "ear"}, "azimuth": 33.25, "instance": "taxi"}
RECORDS = {"a": annotation("a"), "b": annotation("b", **SPECIAL), "c": annotation("c", azimuth_id=None)}


def test_damaged_annotations_are_read_rightly_or_refused(folder: Path) -> None:
    for record in RECORDS.values():
        write_image(folder, record)
    write_layout(folder, ["000001-a-b:car"], ["000002-b-c:car"])
    rng, outcomes = random.Random(0), {"read": 0, "refused": 0}
    for _ in range(120):
        name = rng.choice("abc")
        path = folder / f"ImageAnnotation/car/{name}.json"
        good = path.read_bytes()
        content = mutant(path, good, rng)
        path.write_bytes(content)
        try:
            tables = read(folder)
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
        coarse = NAN if record["azimuth_id"] is None else record["azimuth_id"] * 45
        np.testing.assert_equal(row["azimuth"], float(record.get("azimuth", coarse)))
        assert row["instance"] == record.get("instance", row["image_id"])
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    found = {(row.image_id, row.keypoint_id): [row.x, row.y] for row in visible.itertuples()}
    points = {(f"car/{n}", k): xy for n, r in records.items() for k, xy in r["kps"].items() if xy is not None}
    assert found == points


# --- export -------------------------------------------------------------------------------------------------


PATHS = ("path", "mask_path")


def make_tables(root: Path) -> Tables:
    """Tables with everything that SPair-71k itself cannot say, in no particular order."""
    (root / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(5)
    images, keypoints = [], []
    for category, value in (("quadruped", 21), ("car", 7)):
        for i, (azimuth, split) in enumerate(
            ((0.0, "train"), (135.0, "train+val"), (359.75, "test"), (NAN, "val"))
        ):
            image_id = f"{category}/{category}_{3 - i}"
            paths = [str(root / f"pictures/{category}{i}.{suffix}") for suffix in ("jpg", "png")]
            width, height = 40 + i, 30
            Image.new("RGB", (width, height), (10 * i, 50, 90)).save(paths[0])
            Image.new("L", (width, height), value).save(paths[1])
            box = [float(rng.uniform(1, 9)), 2.5, 39.0, 28.0]
            instance = f"{category} no. {i % 2}"
            images.append([image_id, *paths, value, category, azimuth, *box, width, height, split, instance])
            for k in (29, 3, 10)[: 3 - i % 2]:
                xy = [NAN] * 2 if k == i else [float(rng.uniform(0, side)) for side in (width, height)]
                keypoints.append([image_id, str(k), f"{category}_part_{k}", *xy, int(k != i)])
    pairs = [
        ["train", "quadruped/quadruped_3", "quadruped/quadruped_2"],
        ["train", "car/car_2", "car/car_3"],
        ["train", "car/car_3", "car/car_2"],
        ["val", "car/car_2", "car/car_0"],
        ["test", "quadruped/quadruped_1", "quadruped/quadruped_1"],
    ]
    return tables_of(images, keypoints, pairs)


def exported(tables: Tables, out: Path) -> Path:
    out.mkdir()
    export_spair(tables, out)
    return out


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_export_reads_back_identically(tmp_path: Path) -> None:
    tables = make_tables(tmp_path)
    out = exported(tables, tmp_path / "out")
    back = read(out, quadruped=21)
    assert_same(back, sort_tables(tables), *PATHS)
    before = tables.images.set_index("image_id")
    for row in back.images.itertuples():
        for path in PATHS:
            assert Path(getattr(row, path)).read_bytes() == Path(before.loc[row.image_id, path]).read_bytes()
    # once more from what was read: the layout is a fixed point
    again = exported(back, tmp_path / "again")
    for path in out.rglob("*.*"):
        assert path.is_dir() or (again / path.relative_to(out)).read_bytes() == path.read_bytes()


def test_exported_files_are_those_of_spair(tmp_path: Path) -> None:
    out = exported(make_tables(tmp_path), tmp_path / "out")
    assert (out / "Layout/large/trn.txt").read_text().splitlines() == [
        "000001-quadruped_3-quadruped_2:quadruped",
        "000002-car_2-car_3:car",
        "000003-car_3-car_2:car",
    ]
    assert (out / "Layout/large/val.txt").read_text() == "000004-car_2-car_0:car\n"
    assert (out / "Layout/large/test.txt").read_text() == "000005-quadruped_1-quadruped_1:quadruped\n"
    unknown, record, target, source = (load(out / f"ImageAnnotation/car/car_{i}.json") for i in range(4))
    assert list(record)[: len(ANNOTATION_FIELDS)] == ANNOTATION_FIELDS
    assert list(record["kps"]) == [str(i) for i in range(30)]
    # 359.75 degrees, nearer to 360 than to 315
    assert (record["azimuth_id"], record["azimuth"], record["pose"]) == (0, 359.75, "Frontal")
    assert record["bndbox"][1:] == [2.5, 39, 28]
    assert isinstance(record["bndbox"][2], int)
    assert "azimuth" not in target
    assert (unknown["azimuth_id"], unknown["pose"]) == (None, "Unspecified")

    pair = load(out / "PairAnnotation/trn/000003-car_3-car_2:car.json")
    assert list(pair) == PAIR_FIELDS
    assert pair["kps_ids"] == ["3", "29"]  # car_2 lacks 10
    assert pair["src_kps"] == [source["kps"]["3"], source["kps"]["29"]]
    assert pair["trg_kps"] == [target["kps"]["3"], target["kps"]["29"]]
    assert (pair["src_imsize"], pair["trg_imsize"]) == ([40, 30, 3], [41, 30, 3])
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
    with refusal(*parts):
        exported(tables, tmp_path / "out")


def test_names_that_hyphens_cannot_separate_are_refused(tmp_path: Path) -> None:
    names = {"car/car_2": "car/x-1", "car/car_3": "car/y", "car/car_1": "car/x", "car/car_0": "car/1-y"}
    tables = make_tables(tmp_path)
    frames = (frame.replace(names) for frame in (tables.images, tables.keypoints, tables.pairs))
    with refusal("'-'", "'x-1' and 'y'"):
        exported(Tables(*frames), tmp_path / "out")


# --- commands -----------------------------------------------------------------------------------------------


def test_commands_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = make_tables(tmp_path)
    write_tables(tmp_path / "tables", tables, {"step": "test"})
    out = tmp_path / "out"
    arguments = ["export-spair", "--tables", str(tmp_path / "tables"), "--out", str(out)]
    assert main(arguments) == 0
    entry = yaml.safe_load(capsys.readouterr().out.splitlines()[-1])
    assert entry == {
        "layout": "spair",
        "root": str(out),
        "class_ids": {"quadruped": 21},
        "masks": {"source": "own"},
    }
    assert load(out / "provenance.json")["step"] == "export-spair"

    params = tmp_path / "params.json"
    params.write_text(json.dumps(entry))
    ingested = tmp_path / "ingested"
    assert main(["ingest", "--params", str(params), "--out", str(ingested)]) == 0
    assert "8 images of 2 categories, pairs: 3 train, 1 val, 1 test" in capsys.readouterr().out
    assert_same(read_tables(ingested), sort_tables(tables), *PATHS)
    record = read_provenance(ingested)
    assert record["step"] == "ingest"
    assert set(record["inputs"]) == {"layout", "annotations", "images", "masks"}
    # an earlier export may be replaced, and earlier tables; pictures may not
    assert main(arguments) == 0
    assert main(["ingest", "--params", str(params), "--out", str(ingested)]) == 0
    before = sorted(out.rglob("*"))
    assert main(["ingest", "--params", str(params), "--out", str(out)]) == 1
    assert sorted(out.rglob("*")) == before


def test_export_replaces_nothing_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = make_tables(tmp_path)
    write_tables(tmp_path / "tables", tables, {"step": "test"})
    export = ["export-spair", "--tables", str(tmp_path / "tables"), "--out"]
    before = (tmp_path / "tables/images.csv").read_bytes()
    assert main([*export, str(tmp_path / "tables")]) == 1
    assert "will not replace" in capsys.readouterr().err
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
    with refusal(params, *parts):
        ingest(params)


# --- real files ---------------------------------------------------------------------------------------------


def test_real_dogs(real: Path, tmp_path: Path) -> None:
    root = real / "dogs"
    tables = read(root)
    assert len(tables.images) == 25
    assert tables.pairs["split"].value_counts().to_dict() == {"train": 156, "test": 56, "val": 12}
    assert tables.images["split"].value_counts().to_dict() == {"train": 13, "test": 8, "val": 4}
    assert set(tables.images["mask_value"]) == {12}
    visible = tables.keypoints[tables.keypoints["visible"] == 1].set_index(["image_id", "keypoint_id"])
    found = {key: [x, y] for key, x, y in visible[["x", "y"]].itertuples()}
    assert found == {
        (f"dog/{path.stem}", keypoint_id): point
        for path in (root / "ImageAnnotation/dog").iterdir()
        for keypoint_id, point in load(path)["kps"].items()
        if point is not None
    }
    # every keypoint of every pair annotation is found through the tables
    for path in (root / "PairAnnotation/test").iterdir():
        pair = load(path)
        for side in ("src", "trg"):
            image_id = "dog/" + Path(pair[f"{side}_imname"]).stem
            assert [found[image_id, k] for k in pair["kps_ids"]] == pair[f"{side}_kps"]
    # exported again, the pair files hold what the originals hold, but for the levels that people set
    out = exported(tables, tmp_path / "out")
    free = {"viewpoint_variation", "scale_variation", "truncation", "occlusion"}
    for path in (root / "PairAnnotation").rglob("*.json"):
        ours, theirs = load(out / path.relative_to(root)), load(path)
        assert ours | dict.fromkeys(free) == theirs | dict.fromkeys(free)


def test_real_annotations_are_accepted(real: Path, tmp_path: Path) -> None:
    lines = []
    for i, path in enumerate(sorted((real / "spair_annotations/ImageAnnotation").rglob("*.json"))):
        record = load(path)
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
