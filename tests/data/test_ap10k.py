"""The adapter for AP-10K, and the pairs of its benchmark for correspondence."""

import copy
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts_ap10k import CROWD_LIST, SPECIES, annotation, category, draw, write_ap10k
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.data.adapters.ap10k import FILES, KEYPOINT_NAMES, Ap10kParams, read_ap10k
from spheremap.data.tables import IMAGES, KEYPOINTS, Tables, read_tables, write_tables

ENTRY = {
    "layout": "ap10k",
    "crowd_list": CROWD_LIST,
    "pairs": "intra",
    "splits": ["test"],
    "outside": "error",
    "seed": 0,
}
TRAIN, TEST, VAL = FILES


def read(root: Path, **changes: Any) -> Tables:
    entry = {**ENTRY, "root": str(root), **changes}
    return read_ap10k(parse(entry, Ap10kParams, where="test")).tables


def refused(root: Path, *parts: str, **changes: Any) -> str:
    """The one error that reading ends with, which must hold all `parts`."""
    with pytest.raises(InputError) as caught:
        read(root, **changes)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photographs of each of five species; photograph 6 n is crowded, 6 n - 1 has two keypoints."""
    root = tmp_path / "ap-10k"
    write_ap10k(root)
    return root


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four species with 60, 40, 33 and 12 photographs, in which every keypoint is visible but a few."""
    root = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    names = {1: ("cow", "Bovidae"), 2: ("bison", "Bovidae"), 3: ("sheep", "Bovidae"), 4: ("cat", "Felidae")}
    entry = draw(root / "data" / "one.jpg", 1, (60, 40))
    content = (root / "data" / "one.jpg").read_bytes()
    images, annotations = [], []
    for number, species in enumerate([1] * 60 + [2] * 40 + [3] * 33 + [4] * 12, start=1):
        (root / "data" / f"{number:012d}.jpg").write_bytes(content)
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": 60, "height": 40})
        labelled = annotation(number, number, species, entry, 17)
        for k in rng.permutation(17)[: rng.integers(4, 13)]:
            labelled["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
        annotations.append(labelled)
    order = rng.permutation(len(images))
    (root / "annotations").mkdir()
    for i, name in enumerate(FILES):
        part = order[i::3]
        content_of = {
            "images": [images[j] for j in part],
            "annotations": [annotations[j] for j in part],
            "categories": [category(c, *names[c]) for c in names],
        }
        (root / "annotations" / name).write_text(json.dumps(content_of))
    return root


def load(root: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((root / "annotations" / name).read_text()))


def edit(root: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    values = load(root, name)
    change(values)
    (root / "annotations" / name).write_text(json.dumps(values))


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = read(folder)
    err = capsys.readouterr().err
    assert "further annotations of the same images left out: 5" in err
    assert f"images of the list {CROWD_LIST} left out: 5" in err
    assert "images with fewer than 3 keypoints left out: 5" in err
    names = [name.replace(" ", "_") for name, _ in SPECIES.values()]
    ids = [f"{name}/{6 * s + i + 1:012d}" for s, name in enumerate(names) for i in range(4)]
    rows = tables.images
    assert rows["image_id"].tolist() == sorted(ids)
    assert rows["category"].tolist() == [i.split("/")[0] for i in sorted(ids)]
    assert rows["path"].tolist() == [f"{folder}/data/{i.split('/')[1]}.jpg" for i in sorted(ids)]
    assert set(rows["mask_path"]) == {""}
    assert set(rows["split"]) == {"test"}
    assert rows["azimuth"].isna().all()
    assert rows["instance"].tolist() == sorted(ids)
    assert dict(rows.dtypes.astype(str)) == IMAGES
    assert dict(tables.keypoints.dtypes.astype(str)) == KEYPOINTS

    labelled = {a["image_id"]: a for name in FILES for a in load(folder, name)["annotations"][::-1]}
    for row in rows.itertuples():
        entry = labelled[int(row.image_id.split("/")[1])]
        x, y, w, h = entry["bbox"]
        assert (row.x1, row.y1, row.x2, row.y2) == (x, y, x + w, y + h)
        points = tables.keypoints[tables.keypoints["image_id"] == row.image_id]
        assert points["name"].tolist() == list(KEYPOINT_NAMES)
        assert points["keypoint_id"].tolist() == [str(k) for k in range(17)]
        triples = np.array(entry["keypoints"]).reshape(-1, 3)
        assert points["visible"].tolist() == (triples[:, 2] > 0).tolist()
        shown = points[["x", "y"]].to_numpy()[triples[:, 2] > 0]
        np.testing.assert_array_equal(shown, triples[triples[:, 2] > 0, :2])
    write_tables(tmp_path / "out", tables, {})
    assert len(read_tables(tmp_path / "out").pairs) == 30


def test_without_a_list_images_with_several_annotations_are_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / CROWD_LIST).unlink()
    refused(folder, CROWD_LIST, "crowd_list: null")
    assert len(read(folder, crowd_list=None).images) == 20
    assert "images with several annotations left out: 5" in capsys.readouterr().err


def test_of_several_annotations_the_first_counts(folder: Path) -> None:
    (folder / CROWD_LIST).write_text("")

    def change(values: dict[str, Any]) -> None:
        for entry in values["annotations"]:
            entry["bbox"] = [entry["id"] % 10, 0, 30, 30]

    for name in FILES:
        edit(folder, name, change)
    rows = read(folder).images
    assert len(rows) == 25
    assert set(rows["x1"]) == {0}  # of the second annotation of image n, id 10 n + 1, it is 1


def test_order_of_the_files_counts_not_of_the_splits(folder: Path) -> None:
    """An image annotated in two files: the train file comes before the test file, and this before val."""
    (folder / CROWD_LIST).write_text("")
    image = load(folder, VAL)["images"][0]
    entry = load(folder, VAL)["annotations"][0]
    for name, left in ((TEST, 1), (TRAIN, 2)):
        another = {**entry, "bbox": [left, 0, 20, 20]}
        edit(folder, name, lambda v, a=another: (v["images"].append(image), v["annotations"].append(a)))
        rows = read(folder).images.set_index("image_id")
        assert rows.loc[f"antelope/{image['id']:012d}", "x1"] == left


# --- splits and pairs ---------------------------------------------------------------------------------------


def test_splits_are_the_benchmarks(large: Path) -> None:
    tables = read(large, crowd_list=None, splits=["train", "val", "test"])
    counts = Counter(zip(tables.images["category"], tables.images["split"], strict=True))
    assert counts == {
        **{("cow", "test"): 30, ("cow", "val"): 20, ("cow", "train"): 10},
        **{("bison", "test"): 30, ("bison", "val"): 10, ("sheep", "test"): 30, ("sheep", "val"): 3},
        ("cat", "test"): 12,
    }
    numbers = tables.images["image_id"].str.split("/").str[1].astype(int)
    cows = tables.images["category"] == "cow"
    assert sorted(numbers[cows & (tables.images["split"] == "test")]) == list(range(31, 61))
    assert sorted(numbers[cows & (tables.images["split"] == "val")]) == list(range(11, 31))


def visible(tables: Tables) -> dict[str, set[str]]:
    shown = tables.keypoints[tables.keypoints["visible"] == 1]
    return dict(shown.groupby("image_id")["keypoint_id"].agg(set))


def test_intra_pairs_are_all_there_are(large: Path) -> None:
    tables = read(large, crowd_list=None, splits=["train", "val", "test"])
    points = visible(tables)
    members = tables.images.groupby(["split", "category"])["image_id"].agg(list)
    expected = {
        (split, frozenset(pair))
        for (split, _), names in members.items()
        for pair in itertools.combinations(names, 2)
        if len(points[pair[0]] & points[pair[1]]) >= 3
    }
    found = [(split, frozenset((a, b))) for split, a, b in tables.pairs.to_numpy()]
    assert len(found) == len(set(found))
    # ten train images have 45 pairs, less than 50 each
    assert set(found) == expected
    forward = (tables.pairs["source"] < tables.pairs["target"]).mean()
    assert 0.35 < forward < 0.65  # either image may be the source
    again = read(large, crowd_list=None, splits=["train", "val", "test"])
    assert again.pairs.equals(tables.pairs)
    other = read(large, crowd_list=None, splits=["train", "val", "test"], seed=1)
    assert not other.pairs.equals(tables.pairs)


def test_train_pairs_are_fifty_per_image(tmp_path: Path) -> None:
    """160 images: the 110 for training have 5,995 pairs, of which 5,500 are drawn."""
    entry = draw(tmp_path / "data" / "one.jpg", 1, (60, 40))
    content = (tmp_path / "data" / "one.jpg").read_bytes()
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40} for i in range(160)]
    (tmp_path / "annotations").mkdir()
    for name in FILES:
        values = {
            "images": images if name == TRAIN else [],
            "annotations": [annotation(i, i, 1, entry, 17) for i in range(160)] if name == TRAIN else [],
            "categories": [category(1, "cow", "Bovidae")],
        }
        (tmp_path / "annotations" / name).write_text(json.dumps(values))
    for image in images:
        (tmp_path / "data" / str(image["file_name"])).write_bytes(content)
    tables = read(tmp_path, crowd_list=None, splits=["train"])
    assert len(tables.pairs) == 50 * 110
    assert len({frozenset(pair) for pair in tables.pairs[["source", "target"]].to_numpy()}) == 50 * 110


def test_cross_species_pairs(large: Path) -> None:
    tables = read(large, crowd_list=None, pairs="cross-species", splits=["val", "test"])
    points = visible(tables)
    species = tables.images.set_index("image_id")["category"].to_dict()
    members = tables.images.groupby("split")["image_id"].agg(list)
    for split, count in (("val", 400), ("test", 900)):
        pairs = tables.pairs_of(split)
        possible = {
            (a, b)
            for a, b in itertools.product(members[split], repeat=2)
            if species[a] < species[b] and len(points[a] & points[b]) >= 3
        }
        found = set(map(tuple, pairs[["source", "target"]].to_numpy()))
        assert found <= possible
        assert len(found) == len(pairs) == min(count, len(possible))
        assert {species[name] for pair in found for name in pair} == {"bison", "cow", "sheep"}
    # cows and bison, cows and sheep, bison and sheep: 20 · 10 + 20 · 3 + 10 · 3 in val, most of which share 3
    assert 150 < len(tables.pairs_of("val")) < 290
    assert len(tables.pairs_of("test")) == 900
    other = read(large, crowd_list=None, pairs="cross-species", splits=["test"], seed=1)
    assert not other.pairs.equals(tables.pairs_of("test"))


def test_cross_family_pairs(large: Path, folder: Path) -> None:
    tables = read(large, crowd_list=None, pairs="cross-family", splits=["test"])
    species = tables.images.set_index("image_id")["category"]
    assert len(tables.pairs) == len(tables.pairs.drop_duplicates()) == 30
    assert set(tables.pairs["target"].map(species)) == {"cat"}
    assert "cat" not in set(tables.pairs["source"].map(species))
    points = visible(tables)
    assert all(len(points[a] & points[b]) >= 3 for _, a, b in tables.pairs.to_numpy())
    # three families, two by two
    assert len(read(folder, pairs="cross-family").pairs) == 3 * 30
    refused(large, "no pairs", "cross-family", crowd_list=None, pairs="cross-family", splits=["val"])


def test_occluded_keypoints_count_half(folder: Path) -> None:
    """Of two images, one with three occluded keypoints and one with three visible ones: 1.5 are shared."""
    (folder / CROWD_LIST).write_text("".join(f"{i}\n" for i in range(3, 7)))

    def change(level: int, shown: int) -> Callable[[dict[str, Any]], None]:
        def apply(values: dict[str, Any]) -> None:
            for entry in values["annotations"]:
                if entry["image_id"] == 2:
                    entry["keypoints"] = [v for k in range(17) for v in (k, k, level if k < shown else 0)]
                if entry["image_id"] == 1:
                    entry["keypoints"] = [v for k in range(17) for v in (k, k, 2)]

        return apply

    for level, shown, paired in ((2, 3, True), (1, 3, False), (1, 5, False), (1, 6, True)):
        for name in FILES:
            edit(folder, name, change(level, shown))
        images = set(read(folder).images["image_id"])
        assert ("antelope/000000000002" in images) == paired
    points = visible(read(folder))
    assert points["antelope/000000000002"] == {str(k) for k in range(6)}


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"pairs": "cross-species", "splits": ["train"]}, ["'splits'", "val, test", "cross-species"]),
        ({"splits": []}, ["'splits'", "an empty list"]),
        ({"splits": ["all"]}, ["splits[0]"]),
        ({"seed": -1}, ["'seed'"]),
        ({"pairs": "inter"}, ["'pairs'"]),
        ({"crowd_list": "none.txt"}, ["none.txt", "crowd_list: null"]),
        ({"splits": ["val"]}, ["no pairs", "val"]),
    ],
)
def test_wrong_parameters(folder: Path, changes: dict[str, Any], parts: list[str]) -> None:
    refused(folder, *parts, **changes)


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "AP-10K", "annotations")
    for part in (f"annotations/{VAL}", "data/000000000001.jpg", "data"):
        (folder / part).rename(tmp_path / "aside")
        refused(folder, str(folder), part)
        (tmp_path / "aside").rename(folder / part)
    Image.new("RGB", (91, 60)).save(folder / "data/000000000001.jpg")
    refused(folder, "another size", "90 x 60", "91 x 60", "000000000001.jpg")
    (folder / "data/000000000001.jpg").write_bytes(b"text")
    refused(folder, "unreadable image", "000000000001.jpg")
    (folder / CROWD_LIST).write_text("000000000006\n6.5\n")
    refused(folder, f"{CROWD_LIST}, line 2", "'6.5'")


@pytest.mark.parametrize(
    ("where", "change", "parts"),
    [
        ("images", {"id": "1"}, ["image no. 1", "'id'"]),
        ("images", {"id": True}, ["'id'"]),
        ("images", {"id": 10**12}, ["'id'"]),
        ("images", {"file_name": "../a.jpg"}, ["'file_name'"]),
        ("images", {"file_name": "a"}, ["'file_name'"]),
        ("images", {"file_name": 7}, ["'file_name'"]),
        ("images", {"file_name": "000000000003.jpg"}, ["two images have one name"]),
        ("images", {"width": 0}, ["'width'"]),
        ("images", {"height": 60.0}, ["'height'"]),
        ("categories", {"name": "a/b"}, ["category no. 1", "'name'"]),
        ("categories", {"name": " cow"}, ["'name'"]),
        ("categories", {"supercategory": None}, ["'supercategory'"]),
        ("categories", {"keypoints": list(KEYPOINT_NAMES[::-1])}, ["'keypoints'"]),
        ("categories", {"name": "cow"}, ["category id 1"]),
        ("annotations", {"image_id": None}, ["annotation no. 1", "'image_id'"]),
        ("annotations", {"image_id": 999}, ["annotation of image 999", "'image_id'"]),
        ("annotations", {"category_id": 9}, ["'category_id'"]),
        ("annotations", {"bbox": [1, 2, 3]}, ["'bbox'"]),
        ("annotations", {"bbox": [1, 2, 0, 5]}, ["'bbox'", "part of it in the image"]),
        ("annotations", {"bbox": [1, 2, -3, 5]}, ["'bbox'"]),
        ("annotations", {"bbox": [95, 2, 3, 5]}, ["'bbox'"]),
        ("annotations", {"bbox": [1, 2, math.nan, 5]}, ["'bbox'"]),
        ("annotations", {"bbox": [1, 2, 10**400, 5]}, ["'bbox'"]),
        ("annotations", {"keypoints": [1, 2, 2]}, ["'keypoints'", "17 times"]),
        ("annotations", {"keypoints": [1, 2, 3] * 17}, ["'keypoints'"]),
        ("annotations", {"keypoints": [1, 2, 1.5] * 17}, ["'keypoints'"]),
        ("annotations", {"keypoints": [1, "2", 2] * 17}, ["'keypoints'"]),
        ("annotations", {"keypoints": [91, 2, 2] * 17}, ["keypoint outside", "'left_eye'", "outside: hide"]),
    ],
)
def test_malformed_fields(folder: Path, where: str, change: dict[str, Any], parts: list[str]) -> None:
    if "cow" in change.values():  # one file says otherwise than the two others
        parts = [*parts, "the same"]
    edit(folder, VAL if "cow" in change.values() else TRAIN, lambda v: v[where][0].update(change))
    message = refused(folder, "annotations", "expected", *parts)
    assert "found" in message


def test_keypoints_outside_are_hidden_if_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, TRAIN, lambda v: v["annotations"][0].update(keypoints=[91, 2, 2, *[9, 9, 2] * 15, 9, 99, 2]))
    image = f"antelope/{load(folder, TRAIN)['annotations'][0]['image_id']:012d}"
    points = read(folder, outside="hide").keypoints.set_index(["image_id", "keypoint_id"])
    for outside in ("0", "16"):
        assert points.loc[(image, outside), "visible"] == 0
        assert math.isnan(points.loc[(image, outside), "x"])
    assert points.loc[(image, "1"), "visible"] == 1
    assert "keypoints outside their images hidden: 2" in capsys.readouterr().err


def test_boxes_are_cut_off_at_the_border(folder: Path) -> None:
    edit(folder, TRAIN, lambda v: v["annotations"][0].update(bbox=[-4, 3.5, 500, 20]))
    image = f"antelope/{load(folder, TRAIN)['annotations'][0]['image_id']:012d}"
    rows = read(folder).images.set_index("image_id")
    assert rows.loc[image, ["x1", "y1", "x2", "y2"]].tolist() == [0, 3.5, 90, 23.5]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"images": 1}', b'{"images": [1], "annotations": [], "categories": []}'],
)
def test_files_that_are_not_annotations(folder: Path, content: bytes) -> None:
    (folder / "annotations" / TEST).write_bytes(content)
    refused(folder, TEST)


def test_images_without_annotation_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, TRAIN, lambda v: v["annotations"].pop(0))
    assert len(read(folder).images) == 19
    assert "images without an annotation left out: 1" in capsys.readouterr().err


def test_digests_follow_content_not_place(folder: Path, tmp_path: Path) -> None:
    def inputs(root: Path) -> dict[str, str]:
        return read_ap10k(parse({**ENTRY, "root": str(root)}, Ap10kParams, where="test")).inputs

    before = inputs(folder)
    assert set(before) == {"annotations", "images"}
    folder = folder.rename(tmp_path / "moved")
    assert inputs(folder) == before
    (folder / CROWD_LIST).write_text((folder / CROWD_LIST).read_text() + "\n")
    assert {kind for kind, digest in inputs(folder).items() if digest != before[kind]} == {"annotations"}


# --- damaged files ------------------------------------------------------------------------------------------

_ODD = (None, True, math.nan, math.inf, -1, 0, 1, 2, 3, 10**400, 1.5, "é", "", [], {}, [1, 2, 3, 4], "2")


def changed(values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """An annotation file after one change of its structure."""
    values = copy.deepcopy(values)
    listed = values[rng.choice(("images", "annotations", "annotations", "categories"))]
    entry = rng.choice(listed)
    key = rng.choice(list(entry))
    kind = rng.randrange(6)
    if kind == 0:
        entry[key] = rng.choice(_ODD)
    elif kind == 1 and isinstance(entry[key], list) and entry[key]:
        entry[key][rng.randrange(len(entry[key]))] = rng.choice(_ODD)
    elif kind == 2:
        del entry[key]
    elif kind == 3:
        listed.append(copy.deepcopy(rng.choice(listed)))
    elif kind == 4:
        listed.remove(entry)
    elif isinstance(entry.get("keypoints"), list) and "bbox" in entry:
        k = rng.randrange(51)
        entry["keypoints"][k] += rng.choice((-1, 1)) * 10 ** rng.randrange(5)
    else:
        values[rng.choice(list(values))] = rng.choice(_ODD)
    return values


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes of a file after one accident."""
    at = rng.randrange(len(content))
    return (
        content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        content[:at] + b"%d" % rng.randrange(10) + content[at + 1 :],
        content[:at] + content[at + rng.randrange(1, 9) :],
        content[:at],
        content[:at] + content[rng.randrange(len(content)) :],
        content.decode().encode(rng.choice(("utf-16", "utf-32", "utf-8-sig"))),
    )[rng.randrange(6)]


def expected_images(root: Path) -> dict[str, tuple[list[float], dict[str, tuple[float, float]]]]:
    """Box and visible keypoints of the images in pairs within species, by a plain reading of the rules."""
    images, names, first = {}, {}, {}
    for name in FILES:
        values = load(root, name)
        images.update({image["id"]: image for image in values["images"]})
        names.update({c["id"]: c["name"].replace(" ", "_") for c in values["categories"]})
        for entry in values["annotations"]:
            first.setdefault(entry["image_id"], entry)
    crowd = {int(line) for line in (root / CROWD_LIST).read_text().split()}
    weights, result = {}, {}
    for number, entry in first.items():
        image = images[number]
        weight, points = {}, {}
        for k in range(17):
            x, y, v = entry["keypoints"][3 * k : 3 * k + 3]
            if v > 0 and 0 <= x <= image["width"] and 0 <= y <= image["height"]:
                weight[k], points[str(k)] = v / 2, (x, y)
        if number not in crowd and len(points) >= 3:
            x, y, w, h = entry["bbox"]
            box = [max(x, 0), max(y, 0), min(x + w, image["width"]), min(y + h, image["height"])]
            key = f"{names[entry['category_id']]}/{Path(image['file_name']).stem}"
            weights[key], result[key] = weight, (box, points)
    paired = {
        name
        for pair in itertools.combinations(weights, 2)
        if pair[0].split("/")[0] == pair[1].split("/")[0]
        and sum(weights[pair[0]].get(k, 0) * weights[pair[1]].get(k, 0) for k in range(17)) >= 3
        for name in pair
    }
    return {name: result[name] for name in paired}


def test_damaged_annotations_are_read_rightly_or_refused(tmp_path: Path) -> None:
    write_ap10k(tmp_path, 5, {1: SPECIES[1], 3: SPECIES[3]})
    rng = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    good = {name: (tmp_path / "annotations" / name).read_bytes() for name in FILES}
    for number in range(2000):
        name = FILES[number % 3]
        path = tmp_path / "annotations" / name
        if number % 2:
            path.write_text(json.dumps(changed(json.loads(good[name]), rng)))
        else:
            path.write_bytes(damaged(good[name], rng))
        try:
            tables = read(tmp_path, outside="hide")
        except InputError as error:
            outcomes["refused"] += 1
            message = str(error)
            assert f"in: {tmp_path}/annotations" in message or f"in: {tmp_path}/data" in message, message
        else:
            outcomes["read"] += 1
            wanted = expected_images(tmp_path)
            found: dict[str, tuple[list[float], dict[str, tuple[float, float]]]] = {
                row.image_id: ([row.x1, row.y1, row.x2, row.y2], {}) for row in tables.images.itertuples()
            }
            for point in tables.keypoints.itertuples():
                if point.visible:
                    found[point.image_id][1][point.keypoint_id] = (point.x, point.y)
            assert found == wanted
        path.write_bytes(good[name])
    assert min(outcomes.values()) > 300
