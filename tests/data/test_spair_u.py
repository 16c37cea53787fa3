"""The adapter for SPair-U."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from data_checks import assert_same, tables_of
from layouts_spair_u import write_spair_71k, write_spair_u
from small_sets import DataSet

from spheremap.data.adapters import spair
from spheremap.data.tables import Tables

WIDTH, HEIGHT = 96, 72
A, B = "2008_007006", "2008_007007"  # the test images of the fixture's cars


def make(folder: Path, spair_71k: Path) -> DataSet:
    root = folder / "datasets/SPair-U"
    return DataSet(folder, {"layout": "spair_u", "root": str(root), "spair": str(spair_71k)})


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """SPair-71k of eight cars, and SPair-U for its two test images."""
    folder = tmp_path / "set"
    write_spair_71k(folder / "SPair-71k", categories=("car",), size=(WIDTH, HEIGHT))
    write_spair_u(folder, folder / "SPair-71k")
    return make(folder, folder / "SPair-71k")


def image_file(data: DataSet, name: str = A) -> Path:
    return data.folder / f"datasets/SPair-U/ImageAnnotation/car/{name}.json"


def pair_file(data: DataSet) -> Path:
    return data.folder / f"datasets/SPair-U/PairAnnotation/test/000000-{A}-{B}:car.json"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- reading ------------------------------------------------------------------------------------------------


def test_keypoints_are_new_all_else_is_of_spair_71k(
    data: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(image_file(data, A), kps={"0": [3, 4], "1": None, "7": [96, 71.5], "10": None})
    edit(image_file(data, B), kps={"0": None, "1": [0, 0], "30": None})
    of_71k = spair.read_folder(data.folder / "SPair-71k", {}).tables.images
    nan = math.nan
    rows = [
        *[[A, "0", 3, 4, 1], [A, "1", nan, nan, 0], [A, "7", 96, 71.5, 1]],
        *[[B, "0", nan, nan, 0], [B, "1", 0, 0, 1], [B, "7", nan, nan, 0]],
    ]
    keypoints = [[f"car/{name}", k, k, x, y, visible] for name, k, x, y, visible in rows]
    pairs = [["test", f"car/{A}", f"car/{B}"], ["test", f"car/{B}", f"car/{A}"]]
    expected = tables_of([], keypoints, pairs)
    images = of_71k[of_71k["split"] == "test"].reset_index(drop=True)
    assert images["azimuth"].tolist() == [270, 315]
    assert_same(data.read(), Tables(images, expected.keypoints, expected.pairs))
    assert "left out" not in capsys.readouterr().err


def test_only_images_that_a_pair_names(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    image_file(data, "2008_007000").write_text("not read")
    assert len(data.read().images) == 2
    assert "1 images left out that no pair names" in capsys.readouterr().err


def test_an_image_of_several_splits_is_only_tested(data: DataSet) -> None:
    layout = data.folder / "SPair-71k/Layout/large/val.txt"
    layout.write_text(layout.read_text() + f"000009-{A}-2008_007005:car\n")
    assert data.read().images["split"].tolist() == ["test", "test"]


def test_folders_named_as_in_the_authors_code(data: DataSet) -> None:
    expected = data.read()
    write_spair_u(data.folder / "extra", data.folder / "SPair-71k", extra=True)
    for path in (data.folder / "extra/datasets/SPair-U").iterdir():
        path.rename(data.folder / "SPair-71k" / path.name)  # beside SPair-71k's own
    assert_same(data.read(root=str(data.folder / "SPair-71k")), expected)


def test_spair_71k_itself_is_not_taken_for_spair_u(data: DataSet) -> None:
    (data.folder / "SPair-71k/PairAnnotation/test").mkdir(parents=True)
    data.refused("the folder of SPair-U is that of SPair-71k", root=str(data.folder / "SPair-71k"))


def test_real_photographs(real: Path, tmp_path: Path) -> None:
    dogs = real / "dogs"
    write_spair_u(tmp_path, dogs)
    tables = make(tmp_path, dogs).read()
    assert len(tables.images) == 8
    assert len(tables.pairs) == 56
    assert tables.keypoints["visible"].sum() > 20
    # the points shared by a pair are those that the pair annotation repeats
    visible = tables.keypoints[tables.keypoints["visible"] == 1].set_index(["image_id", "keypoint_id"])
    for path in (tmp_path / "datasets/SPair-U/PairAnnotation/test").iterdir():
        pair = json.loads(path.read_text())
        source, target = (f"dog/{Path(pair[f'{side}_imname']).stem}" for side in ("src", "trg"))
        shared = [k for k in visible.loc[source].index if k in visible.loc[target].index]
        assert shared == pair["kps_ids"]
        assert [visible.loc[(target, k), ["x", "y"]].tolist() for k in shared] == pair["trg_kps"]


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(data: DataSet) -> None:
    top = "datasets/SPair-U"
    for part, words in [
        (f"{top}/ImageAnnotation", ["SPair-U", "ImageAnnotation"]),
        (f"{top}/PairAnnotation", ["SPair-U", "PairAnnotation/test"]),
        (f"{top}/ImageAnnotation/car/{B}.json", [f"{B}.json"]),
        ("SPair-71k", ["SPair-71k", "Layout/large"]),
    ]:
        with data.without(part):
            data.refused(*words)
    for path in pair_file(data).parent.iterdir():
        path.unlink()
    data.refused("no pairs", "PairAnnotation/test")


def test_pairs_of_images_that_are_not_tested(data: DataSet) -> None:
    record = json.loads(pair_file(data).read_text()) | {"src_imname": "2008_007000.jpg"}
    path = pair_file(data).with_name(f"000007-2008_007000-{B}:car.json")
    path.write_text(json.dumps(record))
    data.refused(path.name, "car/2008_007000", "SPair-71k's test split")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"src_imname": None}, "'src_imname'"),
        ({"category": "dog"}, "not the pair that its name says"),
        ({"src_imname": f"{B}.jpg"}, "not the pair that its name says"),
        ({"src_imname": f"../{A}.jpg"}, "not the pair that its name says"),
    ],
)
def test_malformed_pair_annotations(data: DataSet, change: dict[str, Any], part: str) -> None:
    edit(pair_file(data), **change)
    data.refused(pair_file(data).name, part)


@pytest.mark.parametrize("kps", [None, [], {"01": None}, {"x": None}, {"1000": None}])
def test_malformed_kps(data: DataSet, kps: Any) -> None:
    edit(image_file(data), kps=kps)
    data.refused(f"{A}.json", "'kps'")


@pytest.mark.parametrize("point", [[97, 1], [1, -1], [1], 0])
def test_malformed_points(data: DataSet, point: Any) -> None:
    edit(image_file(data), kps={"4": point})
    data.refused(f"{A}.json", "'4'", "[x, y]")
