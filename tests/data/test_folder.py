"""The adapter for one's own photographs."""

import csv
import io
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import mutant
from data_checks import assert_same, stored_turned
from layouts_folder import POINTS, write_folder, write_table
from PIL import Image
from small_sets import DataSet

from spheremap.base.errors import InputError
from spheremap.data.draw_pairs import sample_pairs
from spheremap.data.images import ANY_VALUE, foreground, load_mask
from spheremap.data.tables import Tables, validate

ENTRY = {
    **{"layout": "folder", "bins": None, "max_pairs": 100, "min_shared_keypoints": 2, "seed": 0},
    "shares": {"train": 0.4, "val": 0.2, "test": 0.4},
}


@pytest.fixture
def written(tmp_path: Path) -> DataSet:
    """Where `write_folder` may write."""
    return DataSet(tmp_path, {**ENTRY, "root": str(tmp_path)})


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Pictures a.png and b.png of 40 x 30 pixels, nothing said about them but what they show."""
    root = tmp_path / "mine"
    root.mkdir()
    for name in "ab":
        Image.new("RGB", (40, 30), (90, 120, 200)).save(root / f"{name}.png")
    data = DataSet(root, {**ENTRY, "root": str(root)})
    images(data, ["a.png,mug", "b.png,mug"])
    return data


def images(data: DataSet, lines: list[str], header: str = "image,category") -> None:
    table(data, "images.csv", header, *lines)


def table(data: DataSet, name: str, *lines: str) -> None:
    (data.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(written: DataSet) -> None:
    write_folder(written.folder, ("mug", "toy_car"), 4)
    tables = written.read()
    rows = tables.images.set_index("image_id")
    assert list(rows.index) == [f"{c}/photos__{c}__{i}" for c in ("mug", "toy_car") for i in range(4)]
    first = rows.loc["mug/photos__mug__0"]
    assert first["path"] == f"{written.folder}/photos/mug/0.png"
    assert first["mask_path"] == f"{written.folder}/masks/mug/0.png"
    rest = ["mask_value", "category", "azimuth", "width", "height", "instance"]
    assert first[rest].tolist() == [255, "mug", 90.0, 64, 48, "mug 0"]
    # no mask: the whole picture is the box
    bare = ["mask_path", "mask_value", "x1", "y1", "x2", "y2"]
    assert rows.loc["mug/photos__mug__3", bare].tolist() == ["", 1, 0, 0, 70, 48]
    assert rows["azimuth"].isna().sum() == 2
    points = tables.keypoints[tables.keypoints["image_id"] == "mug/photos__mug__1"].set_index("name")
    assert points["keypoint_id"].to_dict() == {"back": "0", "front": "1", "roof": "2", "wheel": "3"}
    assert points["visible"].to_dict() == {"back": 1, "front": 1, "roof": 0, "wheel": 1}
    assert points.loc["front", ["x", "y"]].tolist() == [pytest.approx(0.9 * 66), 24.0]


def test_boxes_come_from_the_masks(written: DataSet) -> None:
    write_folder(written.folder, ("mug",), 4)
    rows = written.read().images
    for i, value in ((0, 255), (1, ANY_VALUE), (2, ANY_VALUE)):
        row = rows.loc[i]
        assert row["mask_value"] == value
        with Image.open(row["mask_path"]) as mask:
            inside = foreground(mask)
        y, x = np.nonzero(inside)
        assert row[["x1", "y1", "x2", "y2"]].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        # what the rest of the package reads is what was found here
        read_back = load_mask(Path(row["mask_path"]), value, (row["width"], row["height"]))
        np.testing.assert_array_equal(read_back, inside)


def test_foreground_of_every_kind_of_mask() -> None:
    drawn = np.zeros((4, 6), np.uint8)
    drawn[1:3, 2:5] = 1
    expected = drawn > 0
    grey = Image.fromarray(drawn * 200)
    palette = grey.convert("P")
    transparent = Image.merge("RGBA", (*[Image.new("L", (6, 4), 255)] * 3, grey))
    colour = Image.merge("RGB", (Image.new("L", (6, 4)), grey, Image.new("L", (6, 4))))
    see_through = Image.fromarray(drawn)
    see_through.putpalette([0, 0, 0, 255, 255, 255])
    see_through.info["transparency"] = 0
    for mask in (
        *(grey, palette, Image.fromarray(drawn * 200 > 0), Image.fromarray(drawn.astype(np.int32) * 70000)),
        *(transparent, transparent.convert("LA"), colour, colour.convert("RGBA"), see_through),
    ):
        np.testing.assert_array_equal(foreground(mask), expected)
    # half transparent is object, and black that is not transparent too
    half = Image.merge("RGBA", (*[Image.new("L", (6, 4), 0)] * 3, Image.fromarray(drawn * 128)))
    np.testing.assert_array_equal(foreground(half), expected)


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("0", 0), ("359.5", 359.5), ("360", 0), ("-90", 270), ("-1e-20", 0), (" 4.5e1 ", 45), ("+.5", 0.5)],
)
def test_degrees(data: DataSet, text: str, degrees: float) -> None:
    images(data, [f"a.png,mug,{text}", "b.png,mug,"], "image,category,azimuth")
    azimuth = data.read().images["azimuth"]
    assert azimuth[0] == degrees
    assert math.copysign(1, azimuth[0]) == 1
    assert math.isnan(azimuth[1])


@pytest.mark.parametrize("bins", [1, 8, 36])
def test_any_number_of_bins(data: DataSet, bins: int) -> None:
    images(data, [f"a.png,mug,{bins - 1}", "b.png,mug,"], "image,category,azimuth_bin")
    azimuth = data.read(bins=bins).images["azimuth"]
    assert azimuth[0] == pytest.approx(360 - 360 / bins)
    assert math.isnan(azimuth[1])
    images(data, [f"a.png,mug,{bins}"], "image,category,azimuth_bin")
    data.refused("images.csv, line 2", f"from 0 to {bins - 1}", bins=bins)
    data.refused("bins", "null")


def test_given_boxes_splits_and_instances(data: DataSet) -> None:
    header = "image,category,x1,y1,x2,y2,split,instance"
    images(data, ["a.png,mug,1,2.5,40,30,train+val,blue one", "./b.png,mug,,,,,test,"], header)
    rows = data.read().images
    assert rows.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [1, 2.5, 40, 30]
    assert rows["split"].tolist() == ["train+val", "test"]
    assert rows["instance"].tolist() == ["blue one", "mug/b"]


def test_byte_order_mark_quotes_and_blank_lines(data: DataSet) -> None:
    (data.folder / "b.png").rename(data.folder / "b, cup.png")
    content = '\ufeffimage,category\r\n\r\n"a.png", mug\r\n"b, cup.png",mug\r\n,\r\n'
    (data.folder / "images.csv").write_bytes(content.encode())
    assert data.read().images["image_id"].tolist() == ["mug/a", "mug/b, cup"]


# --- splits and pairs ---------------------------------------------------------------------------------------


def test_without_keypoints_all_images_are_for_training(written: DataSet) -> None:
    write_folder(written.folder, keypoints=False)
    tables = written.read()
    assert set(tables.images["split"]) == {"train"}
    validate(tables, written.folder)
    assert len(tables.keypoints) == 0
    assert (tables.pairs["source"] == tables.pairs["target"]).all()
    assert sorted(tables.pairs["source"]) == sorted(tables.images["image_id"])


def test_without_keypoints_given_splits_stay(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    images(data, ["a.png,mug,train", "b.png,mug,test"], "image,category,split")
    tables = data.read()
    assert tables.images["split"].tolist() == ["train", "test"]
    assert tables.pairs.to_numpy().tolist() == [["train", "mug/a", "mug/a"]]
    assert "1 val and test images without pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shares", "counts"),
    [
        ((0.7, 0.1, 0.2), {1: (1, 0, 0), 2: (1, 0, 1), 3: (1, 1, 1), 10: (7, 1, 2)}),
        ((0.0, 0.0, 1.0), {1: (0, 0, 1), 3: (0, 0, 3)}),
        ((0.0, 1.0, 0.0), {3: (0, 3, 0)}),
        ((0.0, 0.5, 0.5), {4: (0, 2, 2), 3: (0, 1, 2)}),
        ((1.0, 0.0, 0.0), {3: (3, 0, 0)}),
        ((0.5, 0.5, 0.0), {4: (2, 2, 0)}),
    ],
)
def test_instances_are_divided(
    data: DataSet, shares: tuple[float, float, float], counts: dict[int, tuple[int, int, int]]
) -> None:
    content = (data.folder / "a.png").read_bytes()
    entry = dict(zip(("train", "val", "test"), shares, strict=True))
    for number, expected in counts.items():
        names = [f"{i}.png" for i in range(2 * number)]  # two views of each
        for name in names:
            (data.folder / name).write_bytes(content)
        lines = [f"{name},mug,cup {i // 2}" for i, name in enumerate(names)]
        images(data, lines, "image,category,instance")
        points = [f"{name},{k},1,1" for name in names for k in "pq"]
        table(data, "keypoints.csv", "image,keypoint,x,y", *points)
        rows = data.read(shares=entry).images
        splits = rows.groupby("instance")["split"].agg(set).tolist()
        assert tuple(splits.count({name}) for name in entry) == expected
        if number == 10:
            assert data.read(shares=entry, seed=1).images["split"].tolist() != rows["split"].tolist()
            assert data.read(shares=entry).images.equals(rows)


def test_pairs_are_drawn_within_split_and_category(written: DataSet) -> None:
    write_folder(written.folder, ("mug", "toy_car"), 6)
    path = written.folder / "images.csv"
    write_table(path, [{**row, "split": ["train", "test"][i % 2]} for i, row in enumerate(plain_rows(path))])

    def pairs_of_test(**changes: Any) -> list[tuple[str, str]]:
        pairs = written.read(**changes).pairs_of("test")
        return list(zip(pairs["source"], pairs["target"], strict=True))

    # all ordered pairs: six images per category, three of them test
    names = [[f"{c}/photos__{c}__{i}" for i in (1, 3, 5)] for c in ("mug", "toy_car")]
    every = [(a, b) for of_category in names for a in of_category for b in of_category if a != b]
    assert sorted(pairs_of_test()) == every
    some = pairs_of_test(max_pairs=5)
    assert len(set(some)) == len(some) == 5
    assert set(some) < set(every)
    assert pairs_of_test(max_pairs=5) == some != pairs_of_test(max_pairs=5, seed=1)
    # image i lacks the i-th of four keypoints, images 4 and 5 lack none: two lack two between them
    assert pairs_of_test(min_shared_keypoints=4) == []


def test_listed_pairs_decide(data: DataSet) -> None:
    for name in "cd":
        Image.new("RGB", (40, 30)).save(data.folder / f"{name}.png")
    images(data, [f"{name}.png,mug" for name in "abcd"])
    table(data, "pairs.csv", "split,source,target", "test,a.png,b.png", "train,c.png,b.png")
    tables = data.read()
    assert tables.images["split"].tolist() == ["test", "train+test", "train", "train"]
    assert tables.pairs.to_numpy().tolist() == [
        ["test", "mug/a", "mug/b"],
        ["train", "mug/c", "mug/b"],
        ["train", "mug/b", "mug/b"],  # for training, and source of no train pair
        ["train", "mug/d", "mug/d"],
    ]
    images(data, ["a.png,mug,test", "b.png,mug,test", "c.png,mug,train"], "image,category,split")
    data.refused("pairs.csv, line 3", "'target'", "split train", "images.csv, line 3")


@pytest.mark.parametrize("across", [False, True])
def test_sampled_pairs_are_a_uniform_choice_of_all(across: bool) -> None:
    rng = np.random.default_rng(3)
    visible = rng.random((40, 6)) < 0.6
    group = rng.integers(0, 3, 40)
    shared = visible.astype(int) @ visible.T
    fits = (shared >= 3) & ((group[:, None] != group) == across) & ~np.eye(40, dtype=bool)
    every = list(zip(*(ends.tolist() for ends in np.nonzero(fits)), strict=True))
    options: dict[str, Any] = {"min_shared": 3, "across": across}
    assert sample_pairs(visible, group, count=len(every), seed=0, **options) == every
    assert sample_pairs(visible, group, count=10**6, seed=0, **options) == every
    counts = dict.fromkeys(every, 0)
    for seed in range(300):
        for pair in sample_pairs(visible, group, count=len(every) // 2, seed=seed, **options):
            counts[pair] += 1
    # each is drawn with probability 1/2: 300 draws have a standard deviation of 8.7
    assert min(counts.values()) > 150 - 5 * 8.7
    assert max(counts.values()) < 150 + 5 * 8.7
    assert sample_pairs(visible[:0], group[:0], count=5, seed=0, **options) == []


def test_sampled_pairs_beyond_one_block() -> None:
    rng = np.random.default_rng(4)
    visible, group = rng.random((2500, 2)) < 0.8, rng.integers(0, 400, 2500)
    pairs = sample_pairs(visible, group, count=3000, min_shared=2, seed=1)
    assert len(set(pairs)) == 3000
    assert pairs == sorted(pairs)
    assert all(i != j and group[i] == group[j] and (visible[i] & visible[j]).all() for i, j in pairs)
    assert {i // 1024 for i, _ in pairs} == {0, 1, 2}


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "line", "parts"),
    [
        ("image,category", "c.png,mug", ["c.png", "images.csv, line 2", "correct the path"]),
        ("image,category", "../a.png,mug", ["'image'", "without '..'"]),
        ("image,category", "/etc/a.png,mug", ["'image'", "relative"]),
        ("image,category", "a.png,a/b", ["'category'"]),
        ("image,category", "a.png,toy car", ["'category'", "no spaces"]),
        ("image,category", "a.png,mug,1", ["2 fields", "3 fields"]),
        ("image,category,azimuth", "a.png,mug,361", ["'azimuth'", "-360 to 360"]),
        ("image,category,azimuth", "a.png,mug,1_0", ["'azimuth'"]),
        ("image,category,azimuth", "a.png,mug,٣", ["'azimuth'"]),
        ("image,category,split", "a.png,mug,", ["'split'", "train, val or test"]),
        ("image,category,x1,y1,x2,y2", "a.png,mug,0,0,41,30", ["'x2'", "<= 40"]),
        ("image,category,x1,y1,x2,y2", "a.png,mug,5,0,5,30", ["'x2'", "x1 < x2"]),
        ("image,category,x1,y1,x2,y2", "a.png,mug,5,0,6,", ["'y2'", "or nothing in all four"]),
        ("image,category,mask", "a.png,mug,m.png", ["m.png", "mask named in"]),
        ("image,category,instance", "a.png,mug,a\x07b", ["'instance'"]),
        ("image,category,azimut", "a.png,mug,0", ["unknown column 'azimut'", "did you mean 'azimuth'"]),
        ("image;category", "a.png;mug", ["unknown column", "commas separate"]),
        ("image", "a.png", ["'category' is missing"]),
        ("image,category,category", "a.png,mug,mug", ["occurs twice"]),
        ("image,category,azimuth,azimuth_bin", "a.png,mug,0,0", ["at once"]),
        ("image,category,x1,x2", "a.png,mug,0,9", ["all of x1, y1, x2, y2"]),
        ("image,category", '"a.png"x,mug', ["not a CSV table"]),
    ],
)
def test_malformed_images_table(data: DataSet, header: str, line: str, parts: list[str]) -> None:
    images(data, [line], header)
    data.refused("expected", *parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("image,category\na.png,café\n".encode("latin-1"), ["expected: UTF-8", "save it as UTF-8"]),
        ("image,category\na.png,café\n".encode("utf-16"), ["expected: UTF-8"]),
        (b"", ["an empty file"]),
        (b"image,category\n", ["no images"]),
        (b"image,category\na.png,mug\n./a.png,mug\n", ["line 3", "each image once (first in", "line 2"]),
    ],
)
def test_malformed_files(data: DataSet, content: bytes, parts: list[str]) -> None:
    (data.folder / "images.csv").write_bytes(content)
    data.refused("images.csv", *parts)


PAIRS = ["split,source,target", "test,b.png,a.png"]
POINTS_OF_A = ["image,keypoint,x,y,visible", "a.png,rim,3,4,1"]


@pytest.mark.parametrize(
    ("name", "lines", "line", "parts"),
    [
        ("pairs.csv", PAIRS, "test,a.png,z.png", ["an image of images.csv"]),
        ("pairs.csv", PAIRS, "test,a.png,a.png", ["another image"]),
        ("pairs.csv", PAIRS, "all,a.png,b.png", ["train, val or test"]),
        ("pairs.csv", PAIRS, "test,a.png", ["3 fields"]),
        ("pairs.csv", PAIRS, "test,./b.png,a.png", ["each pair once", "line 2"]),
        ("keypoints.csv", POINTS_OF_A, "c.png,lid,1,2,", ["'image'", "an image of images.csv"]),
        ("keypoints.csv", POINTS_OF_A, "a.png,,1,2,", ["'keypoint'"]),
        ("keypoints.csv", POINTS_OF_A, "a.png,lid,41,2,", ["'x'", "from 0 to 40"]),
        ("keypoints.csv", POINTS_OF_A, "a.png,lid,1,-2,1", ["'y'", "from 0 to 30"]),
        ("keypoints.csv", POINTS_OF_A, "a.png,lid,1,,", ["'y'"]),
        ("keypoints.csv", POINTS_OF_A, "a.png,lid,,,1", ["'x'", "visible"]),
        ("keypoints.csv", POINTS_OF_A, "a.png,lid,1,2,yes", ["'visible'"]),
        ("keypoints.csv", POINTS_OF_A, "a.png,rim,1,2,1", ["'keypoint'", "each keypoint once"]),
    ],
)
def test_malformed_lines(data: DataSet, name: str, lines: list[str], line: str, parts: list[str]) -> None:
    table(data, name, *lines, line)
    data.refused(f"{name}, line 3", *parts)


def test_a_table_of_keypoints_has_rows(data: DataSet) -> None:
    table(data, "keypoints.csv", POINTS_OF_A[0])
    data.refused("keypoints.csv", "no rows", "remove the file")


def test_images_of_one_name(data: DataSet) -> None:
    (data.folder / "sub").mkdir()
    for name in ("sub/a.png", "sub__a.png"):
        Image.new("RGB", (4, 3)).save(data.folder / name)
    images(data, ["sub/a.png,mug", "sub__a.png,mug"])
    data.refused("line 3", "'sub/a.png'", "both would be named 'mug/sub__a'")


def test_no_table_of_images(data: DataSet) -> None:
    (data.folder / "images.csv").unlink()
    data.refused("images.csv", "to do: write it", "folder.md")
    (data.folder / "images.csv").mkdir()
    data.refused("images.csv", "found: Is a directory", "to do: rename the folder")


@pytest.mark.parametrize("name", ["Images.csv", "keypoints.CSV", "Pairs.csv"])
def test_a_table_under_a_name_in_other_letters_is_not_passed_over(data: DataSet, name: str) -> None:
    table(data, name, "a,b")
    data.refused(name, f"expected: {name.lower()}", "to do: rename")


def test_splits_without_pairs_are_told(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    images(data, ["a.png,mug,train+test", "b.png,mug,test"], "image,category,split")
    table(data, "keypoints.csv", "image,keypoint,x,y", "a.png,rim,3,4", "b.png,rim,3,4")
    assert "test" in set(data.read(min_shared_keypoints=1).pairs["split"])
    assert "'test'" not in capsys.readouterr().err
    assert set(data.read(min_shared_keypoints=2).pairs["split"]) == {"train"}
    told = capsys.readouterr().err
    assert "no pairs of the split 'test': there will be nothing to evaluate" in told
    assert "It has 2 images" in told


def test_hidden_keypoints(data: DataSet) -> None:
    lines = ["a.png,rim,40,30,", "a.png,lid,3,4,0", "a.png,ear,,,", "b.png,rim,0,0,1"]
    table(data, "keypoints.csv", "image,keypoint,x,y,visible", *lines)
    points = data.read().keypoints.set_index(["image_id", "name"])
    shown = points[points["visible"] == 1]
    assert set(shown.index) == {("mug/a", "rim"), ("mug/b", "rim")}
    assert len(points) == 6
    assert points.loc[("mug/a", "lid"), ["x", "y"]].isna().all()


def test_turned_pictures_are_refused(data: DataSet) -> None:
    images(data, ["a.jpg,mug"])
    stored_turned(data.folder / "a.jpg", 1, Image.new("RGB", (40, 30)))
    assert len(data.read().images) == 1
    stored_turned(data.folder / "a.jpg", 6, Image.new("RGB", (40, 30)))
    data.refused("a.jpg", "EXIF orientation 6", "folder.md")


@pytest.mark.parametrize(
    ("mask", "parts"),
    [
        (Image.new("L", (30, 40), 255), ["mask of another size", "40 x 30", "30 x 40", "images.csv, line 2"]),
        (Image.new("L", (40, 30)), ["the mask is empty"]),
        (Image.new("RGBA", (40, 30)), ["the mask is empty"]),
        (Image.new("CMYK", (40, 30), (1, 1, 1, 1)), ["mode CMYK"]),
        (None, ["mask is of no kind", "PNG"]),
    ],
)
def test_bad_masks(data: DataSet, mask: Image.Image | None, parts: list[str]) -> None:
    images(data, ["a.png,mug,m.png"], "image,category,mask")
    (data.folder / "m.png").write_bytes(b"\x89PNG\r\n")
    if mask is not None:
        mask.save(data.folder / "m.png", format="JPEG" if mask.mode == "CMYK" else None)
    data.refused("m.png", *parts)


# --- damaged files ------------------------------------------------------------------------------------------


def plain_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table as a plain CSV reader sees them."""
    text = path.read_bytes().decode("utf-8-sig")
    rows = csv.reader(io.StringIO(text, newline=""))
    lines = [[field.strip() for field in row] for row in rows if any(field.strip() for field in row)]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def check_against_files(root: Path, tables: Tables) -> None:
    rows = plain_rows(root / "images.csv")
    assert len(tables.images) == len(rows)
    path_of = {}
    for row, image in zip(rows, tables.images.to_dict("records"), strict=True):
        assert Path(image["path"]) == root / row["image"]
        assert image["category"] == row["category"]
        azimuth = float(row["azimuth"]) % 360 if row.get("azimuth") else math.nan
        assert image["azimuth"] == azimuth or (math.isnan(azimuth) and math.isnan(image["azimuth"]))
        assert image["mask_path"] == (str(root / row["mask"]) if row.get("mask") else "")
        path_of[image["image_id"]] = image["path"]
    wanted = {}
    if (root / "keypoints.csv").exists():
        for row in plain_rows(root / "keypoints.csv"):
            if row["x"]:
                wanted[str(root / row["image"]), row["keypoint"]] = (float(row["x"]), float(row["y"]))
    shown = tables.keypoints[tables.keypoints["visible"] == 1]
    found = {(path_of[p.image_id], p.name): (p.x, p.y) for p in shown.itertuples(index=False)}
    assert found == wanted
    if (root / "pairs.csv").exists():
        listed = {
            (r["split"], str(root / r["source"]), str(root / r["target"]))
            for r in plain_rows(root / "pairs.csv")
        }
        pairs = tables.pairs[tables.pairs["source"] != tables.pairs["target"]]
        assert {(s, path_of[a], path_of[b]) for s, a, b in pairs.to_numpy()} == listed


def test_damaged_tables_are_read_rightly_or_refused(written: DataSet) -> None:
    root = written.folder
    write_folder(root, count=2)
    names = [f"photos/{c}/{i}.png" for c in ("mug", "toy_car") for i in range(2)]
    lines = ["split,source,target", *(f"test,{names[i]},{names[j]}" for i, j in ((0, 1), (1, 0), (2, 3)))]
    (root / "pairs.csv").write_bytes("".join(line + "\r\n" for line in lines).encode())
    rng = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for name in ("images.csv", "keypoints.csv", "pairs.csv"):
        good = (root / name).read_bytes()
        for _ in range(60):
            (root / name).write_bytes(mutant(root / name, good, rng))
            try:
                tables = written.read()
            except InputError as error:
                outcomes["refused"] += 1
                message = str(error)
                assert f"in: {root}/" in message, message
            else:
                outcomes["read"] += 1
                check_against_files(root, tables)
        (root / name).write_bytes(good)
    assert min(outcomes.values()) > 20


def test_degrees_and_bins_give_the_same_tables(written: DataSet, tmp_path: Path) -> None:
    found = []
    for bins in (None, 8):
        write_folder(tmp_path / str(bins), bins=bins)
        found.append(written.read(bins=bins, root=str(tmp_path / str(bins))))
    assert_same(*found, "path", "mask_path")
    assert len(found[0].keypoints) == 10 * len(POINTS)
