"""The adapter for SPair-U."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from layouts_spair_u import write_spair_71k, write_spair_u

from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.data.adapters import spair_u
from spheremap.data.adapters.spair import SPairParams, read_spair
from spheremap.data.adapters.spair_u import SPairUParams, read_spair_u
from spheremap.data.tables import KEYPOINTS, PAIRS, Tables, read_tables, write_tables

WIDTH, HEIGHT = 96, 72
A, B = "2008_007006", "2008_007007"  # the test images of the fixture's cars


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """SPair-71k of eight cars, and SPair-U for its two test images."""
    write_spair_71k(tmp_path / "SPair-71k", categories=("car",), size=(WIDTH, HEIGHT))
    write_spair_u(tmp_path, tmp_path / "SPair-71k")
    return tmp_path


def read(folder: Path, root: str = "datasets/SPair-U") -> Tables:
    entry = {"layout": "spair_u", "root": str(folder / root), "spair": str(folder / "SPair-71k")}
    return read_spair_u(parse(entry, SPairUParams, where="test")).tables


def refused(folder: Path, *parts: str, root: str = "datasets/SPair-U") -> str:
    """The one error that reading ends with, which must hold all `parts`."""
    with pytest.raises(InputError) as caught:
        read(folder, root)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


def image_file(folder: Path, name: str = A) -> Path:
    return folder / f"datasets/SPair-U/ImageAnnotation/car/{name}.json"


def pair_file(folder: Path) -> Path:
    return folder / f"datasets/SPair-U/PairAnnotation/test/000000-{A}-{B}:car.json"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_points(folder: Path, name: str, **points: Any) -> None:
    edit(image_file(folder, name), kps={key.removeprefix("k"): point for key, point in points.items()})


# --- reading ------------------------------------------------------------------------------------------------


def test_keypoints_are_new_all_else_is_of_spair_71k(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_points(folder, A, k0=[3, 4], k1=None, k7=[96, 71.5], k10=None)
    set_points(folder, B, k0=None, k1=[0, 0], k30=None)
    tables = read(folder)
    spair = read_spair(SPairParams("spair", str(folder / "SPair-71k"), {})).tables.images
    expected = spair[spair["split"] == "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables.images, expected)
    assert tables.images["mask_path"].str.endswith(".png").all()
    assert tables.images["azimuth"].tolist() == [270, 315]
    nan = math.nan
    rows = [
        *[[A, "0", 3, 4, 1], [A, "1", nan, nan, 0], [A, "7", 96, 71.5, 1]],
        *[[B, "0", nan, nan, 0], [B, "1", 0, 0, 1], [B, "7", nan, nan, 0]],
    ]
    wanted = [[f"car/{name}", k, k, x, y, visible] for name, k, x, y, visible in rows]
    pd.testing.assert_frame_equal(
        tables.keypoints, pd.DataFrame(wanted, columns=list(KEYPOINTS)), check_dtype=False
    )
    assert dict(tables.keypoints.dtypes.astype(str)) == KEYPOINTS
    pairs = [["test", f"car/{A}", f"car/{B}"], ["test", f"car/{B}", f"car/{A}"]]
    pd.testing.assert_frame_equal(tables.pairs, pd.DataFrame(pairs, columns=list(PAIRS)))
    assert "left out" not in capsys.readouterr().err


def test_only_images_that_a_pair_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_file(folder, "2008_007000").write_text("not read")
    assert len(read(folder).images) == 2
    assert "left out as images that no pair names: 1" in capsys.readouterr().err


def test_an_image_of_several_splits_is_only_tested(folder: Path) -> None:
    layout = folder / "SPair-71k/Layout/large/val.txt"
    layout.write_text(layout.read_text() + f"000009-{A}-2008_007005:car\n")
    assert read(folder).images["split"].tolist() == ["test", "test"]


def test_folders_named_as_in_the_authors_code(folder: Path) -> None:
    expected = read(folder)
    write_spair_u(folder / "extra", folder / "SPair-71k", extra=True)
    for path in (folder / "extra/datasets/SPair-U").iterdir():
        path.rename(folder / "SPair-71k" / path.name)  # beside SPair-71k's own
    found = read(folder, "SPair-71k")
    for table in ("images", "keypoints", "pairs"):
        pd.testing.assert_frame_equal(getattr(found, table), getattr(expected, table))


def test_spair_71k_itself_is_not_taken_for_spair_u(folder: Path) -> None:
    (folder / "SPair-71k/PairAnnotation/test").mkdir(parents=True)
    refused(folder, "the folder of SPair-U is that of SPair-71k", root="SPair-71k")


def test_fixture_in_the_archives_layout(tmp_path: Path) -> None:
    write_spair_71k(tmp_path / "SPair-71k")
    write_spair_u(tmp_path, tmp_path / "SPair-71k")
    write_tables(tmp_path / "tables", read(tmp_path), {})  # validates
    tables = read_tables(tmp_path / "tables")
    assert tables.categories == ["aeroplane", "car"]
    assert set(tables.images["split"]) == {"test"}
    assert tables.pairs["split"].value_counts().to_dict() == {"test": 4}
    assert 0 < (tables.keypoints["visible"] == 0).sum() < 8


def test_digests_follow_content_not_place(folder: Path, tmp_path: Path) -> None:
    def inputs() -> dict[str, str]:
        root, spair = folder / "datasets/SPair-U", folder / "SPair-71k"
        return read_spair_u(SPairUParams("spair_u", str(root), str(spair))).inputs

    before = inputs()
    own = {"annotations", "pairs"}
    assert set(before) == own | {f"spair_71k_{k}" for k in ("layout", "annotations", "images", "masks")}
    folder = folder.rename(tmp_path.with_name("moved"))
    assert inputs() == before
    set_points(folder, A, k0=[1, 1])
    after = inputs()
    assert {kind for kind in before if before[kind] != after[kind]} == {"annotations"}


def test_real_photographs(real: Path, tmp_path: Path) -> None:
    dogs = real / "dogs"
    write_spair_u(tmp_path, dogs)
    params = SPairUParams("spair_u", str(tmp_path / "datasets/SPair-U"), str(dogs))
    tables = read_spair_u(params).tables
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


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    top = folder / "datasets/SPair-U"
    refused(folder, "nowhere", "ImageAnnotation", root="nowhere")
    for part, words in [
        (top / "ImageAnnotation", ["SPair-U", "ImageAnnotation"]),
        (top / "PairAnnotation", ["SPair-U", "PairAnnotation/test"]),
        (image_file(folder, B), [f"{B}.json", "named in", "PairAnnotation/test"]),
        (folder / "SPair-71k", ["SPair-71k", "Layout/large"]),
    ]:
        part.rename(tmp_path / "aside")
        refused(folder, *words)
        (tmp_path / "aside").rename(part)
    for path in (top / "PairAnnotation/test").iterdir():
        path.unlink()
    refused(folder, "no pairs", "PairAnnotation/test")


def test_pairs_of_images_that_are_not_tested(folder: Path) -> None:
    record = json.loads(pair_file(folder).read_text()) | {"src_imname": "2008_007000.jpg"}
    path = pair_file(folder).with_name(f"000007-2008_007000-{B}:car.json")
    path.write_text(json.dumps(record))
    refused(folder, path.name, "car/2008_007000", "SPair-71k's test split")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"src_imname": None}, "src_imname, trg_imname and category"),
        ({"trg_imname": ["x"]}, "src_imname, trg_imname and category"),
        ({"category": ""}, "src_imname, trg_imname and category"),
        ({"category": "dog"}, "not the pair that its name says"),
        ({"src_imname": f"{B}.jpg"}, "not the pair that its name says"),
        ({"src_imname": f"../{A}.jpg"}, "not the pair that its name says"),
    ],
)
def test_malformed_pair_annotations(folder: Path, change: dict[str, Any], part: str) -> None:
    edit(pair_file(folder), **change)
    refused(folder, pair_file(folder).name, part)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"a": 1, "a": 2}', b"[" * 10**5])
def test_annotations_that_are_not_json_objects(folder: Path, content: bytes) -> None:
    for path in (pair_file(folder), image_file(folder)):
        good = path.read_bytes()
        path.write_bytes(content)
        refused(folder, path.name, "JSON object")
        path.write_bytes(good)


@pytest.mark.parametrize("kps", [None, [], {"01": None}, {"-1": None}, {"x": None}, {"1000": None}])
def test_malformed_kps(folder: Path, kps: Any) -> None:
    edit(image_file(folder), kps=kps)
    refused(folder, f"{A}.json", "'kps'")


@pytest.mark.parametrize("point", [[97, 1], [1, -1], [1], "12", {}, [1, None], [True, 2], [math.nan, 1], 0])
def test_malformed_points(folder: Path, point: Any) -> None:
    set_points(folder, A, k4=point)
    refused(folder, f"{A}.json", "keypoint '4'", "0 <= x <= 96")


# --- mutated files ------------------------------------------------------------------------------------------


def flip_bytes(rng: random.Random, content: bytes) -> bytes:
    """One to three bytes changed, inserted or removed, or the end cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        kind = rng.choice(["bit", "byte", "byte", "insert", "remove", "cut"])
        if kind == "bit":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            data[at] = rng.choice(b'0123456789.,:"[]{}-eE nul')
        elif kind == "insert":
            data.insert(at, rng.choice([*b'0123456789.," ', rng.randrange(256)]))
        elif kind == "remove" and len(data) > 1:
            del data[at]
        elif rng.random() < 0.3:
            del data[max(at, 1) :]
    return bytes(data)


def change_values(rng: random.Random, record: dict[str, Any]) -> dict[str, Any]:
    """One or two keypoints, or the whole of them, replaced by other values."""
    values: list[Any] = [0, 95.5, 96, 96.5, 72, 73, -1, 1e400, math.nan, 10**400, None, "1", True, [], {}]
    record = json.loads(json.dumps(record))
    for _ in range(rng.randint(1, 2)):
        key = str(rng.choice([0, 1, 2, 29, 30, 999, 1000, "x", "00", ""]))
        record["kps"][key] = rng.choice(
            [[rng.randint(0, 96), rng.uniform(0, 72)]] * 6
            + [[rng.choice(values), 1], [1, rng.choice(values)], [1], [1, 2, 3], rng.choice(values)]
        )
    if rng.random() < 0.1:
        record["kps"] = rng.choice(values)
    return record


def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in items}) < len(items):
        raise ValueError("repeated key")
    return dict(items)


def plain_points(content: bytes) -> dict[str, list[float]] | None:
    """An independent reading: the visible points by number; None if the file must be refused."""
    try:
        record = json.loads(content.decode(), object_pairs_hook=unique)
        points = {int(key): point for key, point in record["kps"].items() if str(int(key)) == key}
        if len(points) < len(record["kps"]) or not all(0 <= key < 1000 for key in points):
            return None
        seen = {str(key): point for key, point in points.items() if point is not None}
        for x, y in seen.values():
            if {type(x), type(y)} - {int, float} or not (0 <= x <= WIDTH and 0 <= y <= HEIGHT):
                return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return seen if all(isinstance(point, list) for point in seen.values()) else None


@pytest.fixture
def spair_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = read_spair(SPairParams("spair", str(folder / "SPair-71k"), {}))
    monkeypatch.setattr(spair_u, "read_spair", lambda params: once)


@pytest.mark.usefixtures("spair_is_read_once")
def test_mutated_image_annotations(folder: Path) -> None:
    path = image_file(folder)
    edit(path, kps={"0": [3, 4], "1": None, "2": [50.5, 60]})
    set_points(folder, B, **{f"k{i}": [1, 1] for i in range(31)}, k999=[1, 1])  # all of them are kept
    content = path.read_bytes()
    rng = random.Random(5)
    accepted = 0
    for number in range(1400):
        mutant = flip_bytes(rng, content)
        if number % 2:
            mutant = json.dumps(change_values(rng, json.loads(content))).encode()
        path.write_bytes(mutant)
        expected = plain_points(mutant)
        if expected is None:
            refused(folder, str(path))
            continue
        accepted += 1
        rows = read(folder).keypoints
        rows = rows[(rows["image_id"] == f"car/{A}") & (rows["visible"] == 1)]
        found = {k: [x, y] for k, x, y in zip(rows["keypoint_id"], rows["x"], rows["y"], strict=True)}
        assert found == expected
    assert 300 < accepted < 1100


@pytest.mark.usefixtures("spair_is_read_once")
def test_mutated_pair_annotations(folder: Path) -> None:
    path = pair_file(folder)
    record = {"src_imname": f"{A}.jpg", "trg_imname": f"{B}.jpg", "category": "car", "mirror": 0}
    content = json.dumps(record).encode()
    rng = random.Random(6)
    accepted = 0
    for _ in range(600):
        mutant = flip_bytes(rng, content)
        path.write_bytes(mutant)
        try:
            found = json.loads(mutant.decode(), object_pairs_hook=unique)
            whole = isinstance(found, dict) and all(found.get(key) == record[key] for key in list(record)[:3])
        except ValueError:
            whole = False
        if whole:
            accepted += 1
            assert read(folder).pairs[["source", "target"]].to_numpy().tolist()[0] == [f"car/{A}", f"car/{B}"]
        else:
            refused(folder, str(path))
    assert 40 < accepted < 500
