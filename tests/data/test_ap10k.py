"""The adapter for AP-10K, and the pairs of its benchmark for correspondence."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts_ap10k import CROWD_LIST, ENTRY, SPECIES, annotation, category, draw, write_ap10k
from PIL import Image
from small_sets import DataSet

from spheremap.data.adapters.ap10k import FILES, KEYPOINT_NAMES
from spheremap.data.tables import Tables

TRAIN, TEST, VAL = FILES
ALL = {"crowd_list": None, "splits": ["train", "val", "test"]}


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Six photographs of each of five species; photograph 6 n is crowded, 6 n - 1 has two keypoints."""
    write_ap10k(tmp_path / "set")
    return DataSet(tmp_path / "set", {**ENTRY, "root": str(tmp_path / "set")})


def write_copies(
    root: Path, files: dict[str, list[int]], species: dict[int, int], hide: Any = None
) -> DataSet:
    """Write one photograph under many numbers: those of each file, and the species of each number."""
    names = {1: ("cow", "Bovidae"), 2: ("bison", "Bovidae"), 3: ("sheep", "Bovidae"), 4: ("cat", "Felidae")}
    entry = draw(root / "data/one.jpg", 1, (60, 40))
    content = (root / "data/one.jpg").read_bytes()
    (root / "annotations").mkdir()
    for name, numbers in files.items():
        pictures, labels = [], []
        for number in numbers:
            file_name = f"{number:012d}.jpg"
            (root / "data" / file_name).write_bytes(content)
            pictures.append({"id": number, "file_name": file_name, "width": 60, "height": 40})
            labels.append(annotation(number, number, species[number], entry))
            for k in () if hide is None else hide[number]:
                labels[-1]["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
        kinds = [category(c, *names[c]) for c in names]
        values = {"images": pictures, "annotations": labels, "categories": kinds}
        (root / "annotations" / name).write_text(json.dumps(values))
    return DataSet(root, {**ENTRY, "root": str(root)})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Four species with 60, 40, 33 and 12 photographs, in which every keypoint is visible but a few."""
    rng = np.random.default_rng(0)
    species = dict(enumerate([1] * 60 + [2] * 40 + [3] * 33 + [4] * 12, start=1))
    hide = {number: rng.permutation(17)[: rng.integers(4, 13)] for number in species}
    order = 1 + rng.permutation(len(species))
    files = {name: order[i::3].tolist() for i, name in enumerate(FILES)}
    return write_copies(tmp_path_factory.mktemp("large"), files, species, hide)


def load(data: DataSet, name: str) -> dict[str, Any]:
    return dict(json.loads((data.folder / "annotations" / name).read_text()))


def edit(data: DataSet, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    data.edit(f"annotations/{name}", change)


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    tables = data.read()
    err = capsys.readouterr().err
    assert "5 further annotations of the same images left out" in err
    assert f"5 images of the list {CROWD_LIST} left out" in err
    assert "5 images with fewer than 3 keypoints left out" in err
    names = [name.replace(" ", "_") for name, _ in SPECIES.values()]
    ids = sorted(f"{name}/{6 * s + i + 1:012d}" for s, name in enumerate(names) for i in range(4))
    rows = tables.images
    assert rows["image_id"].tolist() == rows["instance"].tolist() == ids
    assert rows["category"].tolist() == [i.split("/")[0] for i in ids]
    assert rows["path"].tolist() == [f"{data.folder}/data/{i.split('/')[1]}.jpg" for i in ids]
    assert set(rows["mask_path"]) == {""}
    assert set(rows["split"]) == {"test"}
    assert rows["azimuth"].isna().all()
    assert len(tables.pairs) == 30

    labelled = {a["image_id"]: a for name in FILES for a in load(data, name)["annotations"][::-1]}
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


def test_without_a_list_images_with_several_annotations_are_left_out(
    data: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    (data.folder / CROWD_LIST).unlink()
    data.refused(CROWD_LIST, "crowd_list: null")
    assert len(data.read(crowd_list=None).images) == 20
    assert "5 images with several annotations left out" in capsys.readouterr().err


def test_of_several_annotations_the_first_counts(data: DataSet) -> None:
    """Of the files in their order, whatever the splits: train comes before test, and this before val."""
    (data.folder / CROWD_LIST).write_text("")

    def change(values: dict[str, Any]) -> None:
        for entry in values["annotations"]:
            entry["bbox"] = [entry["id"] % 10, 0, 30, 30]

    for name in FILES:
        edit(data, name, change)
    rows = data.read().images
    assert len(rows) == 25
    assert set(rows["x1"]) == {0}  # of the second annotation of image n, id 10 n + 1, it is 1
    image, entry = (load(data, VAL)[part][0] for part in ("images", "annotations"))
    for name, left in ((TEST, 1), (TRAIN, 2)):
        another = {**entry, "bbox": [left, 0, 20, 20]}
        edit(data, name, lambda v, a=another: (v["images"].append(image), v["annotations"].append(a)))
        rows = data.read().images.set_index("image_id")
        assert rows.loc[f"antelope/{image['id']:012d}", "x1"] == left


# --- splits and pairs ---------------------------------------------------------------------------------------


def test_splits_are_the_benchmarks(large: DataSet) -> None:
    tables = large.read(**ALL)
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


def test_intra_pairs_are_all_there_are(large: DataSet) -> None:
    tables = large.read(**ALL)
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
    assert large.read(**ALL).pairs.equals(tables.pairs)
    assert not large.read(**ALL, seed=1).pairs.equals(tables.pairs)


def test_train_pairs_are_fifty_per_image(tmp_path: Path) -> None:
    """160 images: the 110 for training have 5,995 pairs, of which 5,500 are drawn."""
    files = {TRAIN: list(range(160)), TEST: [], VAL: []}
    data = write_copies(tmp_path, files, dict.fromkeys(range(160), 1))
    pairs = data.read(crowd_list=None, splits=["train"]).pairs
    assert len(pairs) == 50 * 110
    assert len({frozenset(pair) for pair in pairs[["source", "target"]].to_numpy()}) == 50 * 110


def test_cross_species_pairs(large: DataSet) -> None:
    tables = large.read(crowd_list=None, pairs="cross-species", splits=["val", "test"])
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
    other = large.read(crowd_list=None, pairs="cross-species", splits=["test"], seed=1)
    assert not other.pairs.equals(tables.pairs_of("test"))


def test_cross_family_pairs(large: DataSet, data: DataSet) -> None:
    tables = large.read(crowd_list=None, pairs="cross-family", splits=["test"])
    species = tables.images.set_index("image_id")["category"]
    assert len(tables.pairs) == len(tables.pairs.drop_duplicates()) == 30
    assert set(tables.pairs["target"].map(species)) == {"cat"}
    assert "cat" not in set(tables.pairs["source"].map(species))
    points = visible(tables)
    assert all(len(points[a] & points[b]) >= 3 for _, a, b in tables.pairs.to_numpy())
    # three families, two by two
    assert len(data.read(pairs="cross-family").pairs) == 3 * 30
    large.refused("no pairs", "cross-family", crowd_list=None, pairs="cross-family", splits=["val"])


def test_occluded_keypoints_count_half(data: DataSet) -> None:
    """Of two images, one with three occluded keypoints and one with three visible ones: 1.5 are shared."""
    (data.folder / CROWD_LIST).write_text("".join(f"{i}\n" for i in range(3, 7)))
    name = "antelope/000000000002"
    for level, shown, paired in ((2, 3, True), (1, 3, False), (1, 5, False), (1, 6, True)):
        some = [v for k in range(17) for v in (k, k, level if k < shown else 0)]
        keypoints = {1: [v for k in range(17) for v in (k, k, 2)], 2: some}

        def change(values: dict[str, Any], keypoints: dict[int, list[int]] = keypoints) -> None:
            for entry in values["annotations"]:
                entry["keypoints"] = keypoints.get(entry["image_id"], entry["keypoints"])

        for file in FILES:
            edit(data, file, change)
        tables = data.read()
        assert (name in set(tables.images["image_id"])) == paired
    assert visible(tables)[name] == {str(k) for k in range(6)}


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(data: DataSet) -> None:
    data.refused("none.txt", "crowd_list: null", crowd_list="none.txt")
    data.refused("no pairs", "val", splits=["val"])
    for part in (f"annotations/{VAL}", "data"):
        with data.without(part):
            data.refused(data.folder, part)
    Image.new("RGB", (91, 60)).save(data.folder / "data/000000000001.jpg")
    data.refused("another size", "90 x 60", "91 x 60", "000000000001.jpg")
    (data.folder / CROWD_LIST).write_text("000000000006\n6.5\n")
    data.refused(f"{CROWD_LIST}, line 2", "'6.5'")


@pytest.mark.parametrize(
    ("where", "change", "parts"),
    [
        ("images", {"id": True}, ["'id'"]),
        ("images", {"id": 10**12}, ["'id'"]),
        ("images", {"file_name": "../a.jpg"}, ["'file_name'"]),
        ("images", {"height": 60.0}, ["'height'"]),
        ("categories", {"name": "a/b"}, ["no. 1 of 'categories'", "'name'"]),
        ("categories", {"keypoints": list(KEYPOINT_NAMES[::-1])}, ["'keypoints'"]),
        ("categories", {"name": "cow"}, ["id 1"]),
        ("annotations", {"image_id": 999}, ["'image_id'", "999"]),
        ("annotations", {"category_id": 9}, ["'category_id'"]),
        ("annotations", {"bbox": [1, 2, 0, 5]}, ["'bbox'", "part of it in the image"]),
        ("annotations", {"bbox": [95, 2, 3, 5]}, ["'bbox'"]),
        ("annotations", {"bbox": [1, 2, math.nan, 5]}, ["'bbox'"]),
        ("annotations", {"keypoints": [1, 2, 2]}, ["'keypoints'", "17 times"]),
        ("annotations", {"keypoints": [1, 2, 3] * 17}, ["'keypoints'"]),
        ("annotations", {"keypoints": [91, 2, 2] * 17}, ["keypoint outside", "'left_eye'", "outside: hide"]),
    ],
)
def test_malformed_fields(data: DataSet, where: str, change: dict[str, Any], parts: list[str]) -> None:
    # a species of another name in one file is told where the next file has it otherwise
    edit(data, VAL if change == {"name": "cow"} else TRAIN, lambda v: v[where][0].update(change))
    data.refused("annotations", "expected", "found", *parts)


def test_the_first_image_s_odd_annotation(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    """Keypoints outside are hidden if asked, a box is cut off at the border, and none at all is counted."""
    image = f"antelope/{load(data, TRAIN)['annotations'][0]['image_id']:012d}"
    odd = {"keypoints": [91, 2, 2, *[9, 9, 2] * 15, 9, 99, 2], "bbox": [-4, 3.5, 500, 20]}
    edit(data, TRAIN, lambda v: v["annotations"][0].update(odd))
    tables = data.read(outside="hide")
    points = tables.keypoints[tables.keypoints["image_id"] == image]
    assert points["visible"].tolist() == [0, *[1] * 15, 0]
    assert points["x"].isna().tolist() == [True, *[False] * 15, True]
    assert "2 keypoints outside their images hidden" in capsys.readouterr().err
    rows = tables.images.set_index("image_id")
    assert rows.loc[image, ["x1", "y1", "x2", "y2"]].tolist() == [0, 3.5, 90, 23.5]
    edit(data, TRAIN, lambda v: v["annotations"].pop(0))
    assert len(data.read().images) == 19
    assert "1 images without an annotation left out" in capsys.readouterr().err
