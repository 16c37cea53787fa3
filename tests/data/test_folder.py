"""The adapter for one's own photographs."""

import csv
import io
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from damage import mutant
from layouts_folder import POINTS, write_folder, write_table
from PIL import Image
from small_sets import DataSet

from spheremap.base.errors import InputError
from spheremap.data.adapters.pairs import sample_pairs
from spheremap.data.images import ANY_VALUE, foreground, load_mask
from spheremap.data.tables import IMAGES, Tables, read_tables, write_tables

ENTRY = {
    "layout": "folder",
    "bins": None,
    "shares": {"train": 0.4, "val": 0.2, "test": 0.4},
    "max_pairs": 100,
    "min_shared_keypoints": 2,
    "seed": 0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures a.png and b.png of 40 x 30 pixels, nothing said about them but what they show."""
    root = tmp_path / "mine"
    root.mkdir()
    for name in "ab":
        Image.new("RGB", (40, 30), (90, 120, 200)).save(root / f"{name}.png")
    images(root, ["a.png,mug", "b.png,mug"])
    return root


def images(root: Path, lines: list[str], header: str = "image,category") -> None:
    (root / "images.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def table(root: Path, name: str, *lines: str) -> None:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def data_set(root: Path) -> DataSet:
    return DataSet(root, {**ENTRY, "root": str(root)})


def read(root: Path, **changes: Any) -> Tables:
    return data_set(root).read(**changes)


def refused(root: Path, *parts: str, **changes: Any) -> str:
    return data_set(root).refused(*parts, **changes)


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(tmp_path: Path) -> None:
    write_folder(tmp_path, ("mug", "toy_car"), 4)
    tables = read(tmp_path)
    rows = tables.images.set_index("image_id")
    assert list(rows.index) == [f"{c}/photos__{c}__{i}" for c in ("mug", "toy_car") for i in range(4)]
    first = rows.loc["mug/photos__mug__0"]
    assert first["path"] == f"{tmp_path}/photos/mug/0.png"
    assert first["mask_path"] == f"{tmp_path}/masks/mug/0.png"
    assert first[["mask_value", "category", "azimuth", "width", "height", "instance"]].tolist() == [
        *(255, "mug", 90.0, 64, 48, "mug 0")
    ]
    # no mask: the whole picture is the box
    assert rows.loc["mug/photos__mug__3", ["mask_path", "mask_value"]].tolist() == ["", 1]
    assert rows.loc["mug/photos__mug__3", ["x1", "y1", "x2", "y2"]].tolist() == [0, 0, 70, 48]
    assert rows["azimuth"].isna().sum() == 2
    points = tables.keypoints[tables.keypoints["image_id"] == "mug/photos__mug__1"].set_index("name")
    assert points["keypoint_id"].to_dict() == {"back": "0", "front": "1", "roof": "2", "wheel": "3"}
    assert points["visible"].to_dict() == {"back": 1, "front": 1, "roof": 0, "wheel": 1}
    assert points.loc["front", ["x", "y"]].tolist() == [pytest.approx(0.9 * 66), 24.0]
    write_tables(tmp_path / "out", tables, {})
    assert len(read_tables(tmp_path / "out").images) == 8


def test_boxes_come_from_the_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, ("mug",), 4)
    rows = read(tmp_path).images.set_index("image_id")
    for i, value in ((0, 255), (1, ANY_VALUE), (2, ANY_VALUE)):
        row = rows.loc[f"mug/photos__mug__{i}"]
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
def test_degrees(folder: Path, text: str, degrees: float) -> None:
    images(folder, [f"a.png,mug,{text}", "b.png,mug,"], "image,category,azimuth")
    azimuth = read(folder).images["azimuth"]
    assert azimuth[0] == degrees
    assert math.copysign(1, azimuth[0]) == 1
    assert math.isnan(azimuth[1])


@pytest.mark.parametrize("bins", [1, 8, 36])
def test_any_number_of_bins(folder: Path, bins: int) -> None:
    images(folder, [f"a.png,mug,{bins - 1}", "b.png,mug,"], "image,category,azimuth_bin")
    azimuth = read(folder, bins=bins).images["azimuth"]
    assert azimuth[0] == pytest.approx(360 - 360 / bins)
    assert math.isnan(azimuth[1])
    images(folder, [f"a.png,mug,{bins}"], "image,category,azimuth_bin")
    refused(folder, "images.csv, line 2", f"from 0 to {bins - 1}", bins=bins)
    refused(folder, "bins", "null")


def test_given_boxes_splits_and_instances(folder: Path) -> None:
    header = "image,category,x1,y1,x2,y2,split,instance"
    images(folder, ["a.png,mug,1,2.5,40,30,train+val,blue one", "./b.png,mug,,,,,test,"], header)
    rows = read(folder).images
    assert rows.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [1, 2.5, 40, 30]
    assert rows["split"].tolist() == ["train+val", "test"]
    assert rows["instance"].tolist() == ["blue one", "mug/b"]


def test_byte_order_mark_quotes_and_blank_lines(folder: Path) -> None:
    (folder / "b.png").rename(folder / "b, cup.png")
    content = '\ufeffimage,category\r\n\r\n"a.png", mug\r\n"b, cup.png",mug\r\n,\r\n'
    (folder / "images.csv").write_bytes(content.encode())
    assert read(folder).images["image_id"].tolist() == ["mug/a", "mug/b, cup"]


# --- splits and pairs ---------------------------------------------------------------------------------------


def test_without_keypoints_all_images_are_for_training(tmp_path: Path) -> None:
    write_folder(tmp_path, keypoints=False)
    tables = read(tmp_path)
    assert set(tables.images["split"]) == {"train"}
    assert len(tables.keypoints) == 0
    assert (tables.pairs["source"] == tables.pairs["target"]).all()
    assert sorted(tables.pairs["source"]) == sorted(tables.images["image_id"])
    write_tables(tmp_path / "out", tables, {})


def test_without_keypoints_given_splits_stay(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(folder, ["a.png,mug,train", "b.png,mug,test"], "image,category,split")
    tables = read(folder)
    assert tables.images["split"].tolist() == ["train", "test"]
    assert tables.pairs.to_numpy().tolist() == [["train", "mug/a", "mug/a"]]
    assert "without pairs, for want of keypoints: 1" in capsys.readouterr().err


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
    tmp_path: Path, shares: tuple[float, float, float], counts: dict[int, tuple[int, int, int]]
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for number, expected in counts.items():
        lines = []
        for i in range(2 * number):  # two views of each
            (tmp_path / f"{i}.png").write_bytes(content)
            lines.append(f"{i}.png,mug,cup {i // 2}")
        images(tmp_path, lines, "image,category,instance")
        points = [f"{i}.png,{k},1,1" for i in range(2 * number) for k in "pq"]
        table(tmp_path, "keypoints.csv", "image,keypoint,x,y", *points)
        entry = dict(zip(("train", "val", "test"), shares, strict=True))
        tables = read(tmp_path, shares=entry)
        split = tables.images.groupby("instance")["split"].agg(set)
        assert all(len(splits) == 1 for splits in split)
        found = [next(iter(splits)) for splits in split]
        assert tuple(found.count(name) for name in ("train", "val", "test")) == expected
        if number == 10:
            other = read(tmp_path, shares=entry, seed=1)
            assert other.images["split"].tolist() != tables.images["split"].tolist()
            assert read(tmp_path, shares=entry).images.equals(tables.images)


def test_pairs_are_drawn_within_split_and_category(tmp_path: Path) -> None:
    write_folder(tmp_path, ("mug", "toy_car"), 6)
    rows = plain_rows(tmp_path / "images.csv")
    write_table(
        tmp_path / "images.csv", [{**row, "split": ["train", "test"][i % 2]} for i, row in enumerate(rows)]
    )
    tables = read(tmp_path)
    test = tables.pairs_of("test")
    split = tables.images.set_index("image_id")["split"]
    category = tables.images.set_index("image_id")["category"]
    assert (test["source"].map(split) == "test").all()
    assert (test["source"].map(category) == test["target"].map(category)).all()
    # all ordered pairs: six images per category, three of them test
    assert len(test) == 12
    assert not test.duplicated().any()
    some = read(tmp_path, max_pairs=5).pairs_of("test")
    assert len(some) == 5
    assert set(map(tuple, some.to_numpy())) < set(map(tuple, test.to_numpy()))
    assert read(tmp_path, max_pairs=5).pairs_of("test").equals(some)
    assert not read(tmp_path, max_pairs=5, seed=1).pairs_of("test").equals(some)
    # image i lacks the i-th of four keypoints, images 4 and 5 lack none: two lack two between them
    assert len(read(tmp_path, min_shared_keypoints=4).pairs_of("test")) == 0


def test_listed_pairs_decide(folder: Path) -> None:
    for name in "cd":
        Image.new("RGB", (40, 30)).save(folder / f"{name}.png")
    images(folder, [f"{name}.png,mug" for name in "abcd"])
    table(folder, "pairs.csv", "split,source,target", "test,a.png,b.png", "train,c.png,b.png")
    tables = read(folder)
    assert tables.images["split"].tolist() == ["test", "train+test", "train", "train"]
    assert tables.pairs.to_numpy().tolist() == [
        ["test", "mug/a", "mug/b"],
        ["train", "mug/c", "mug/b"],
        ["train", "mug/b", "mug/b"],  # for training, and source of no train pair
        ["train", "mug/d", "mug/d"],
    ]
    images(folder, ["a.png,mug,test", "b.png,mug,test", "c.png,mug,train"], "image,category,split")
    refused(folder, "pairs.csv, line 3", "'target'", "split train", "images.csv, line 3")
    for line, part in [
        ("test,a.png,z.png", "an image of images.csv"),
        ("test,a.png,a.png", "another image"),
        ("all,a.png,b.png", "train, val or test"),
        ("test,a.png", "3 fields"),
    ]:
        table(folder, "pairs.csv", "split,source,target", line)
        refused(folder, "pairs.csv, line 2", part)
    table(folder, "pairs.csv", "split,source,target", "test,a.png,b.png", "test,./a.png,b.png")
    refused(folder, "pairs.csv, line 3", "each pair once", "line 2")


@pytest.mark.parametrize("across", [False, True])
def test_sampled_pairs_are_a_uniform_choice_of_all(across: bool) -> None:
    rng = np.random.default_rng(3)
    visible = rng.random((40, 6)) < 0.6
    group = rng.integers(0, 3, 40)
    every = [
        (i, j)
        for i in range(40)
        for j in range(40)
        if i != j and (group[i] != group[j]) == across and (visible[i] & visible[j]).sum() >= 3
    ]
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
def test_malformed_images_table(folder: Path, header: str, line: str, parts: list[str]) -> None:
    images(folder, [line], header)
    refused(folder, "expected", *parts)


def test_malformed_files(folder: Path) -> None:
    for encoding in ("latin-1", "utf-16"):
        (folder / "images.csv").write_bytes("image,category\na.png,café\n".encode(encoding))
        refused(folder, "images.csv", "expected: UTF-8", "save it as UTF-8")
    (folder / "images.csv").write_bytes(b"")
    refused(folder, "images.csv", "an empty file")
    images(folder, [])
    refused(folder, "images.csv", "no images")
    images(folder, ["a.png,mug", "b.png,mug", "./a.png,mug"])
    refused(folder, "line 4", "each image once (first in", "line 2")
    (folder / "sub").mkdir()
    Image.new("RGB", (4, 3)).save(folder / "sub/a.png")
    Image.new("RGB", (4, 3)).save(folder / "sub__a.png")
    images(folder, ["sub/a.png,mug", "sub__a.png,mug"])
    refused(folder, "line 3", "'sub/a.png'", "both would be named 'mug/sub__a'")
    (folder / "a.png").write_bytes(b"text")
    images(folder, ["a.png,mug"])
    refused(folder, "unreadable image", "a.png")
    (folder / "images.csv").unlink()
    refused(folder, "images.csv", "to do: write it", "folder.md")
    (folder / "images.csv").mkdir()
    refused(folder, "images.csv", "found: Is a directory", "to do: rename the folder")


@pytest.mark.parametrize("name", ["Images.csv", "keypoints.CSV", "Pairs.csv"])
def test_a_table_under_a_name_in_other_letters_is_not_passed_over(folder: Path, name: str) -> None:
    table(folder, name, "a,b")
    refused(folder, name, f"expected: {name.lower()}", "to do: rename")


def test_a_table_of_keypoints_has_rows(folder: Path) -> None:
    table(folder, "keypoints.csv", "image,keypoint,x,y")
    refused(folder, "keypoints.csv", "no rows", "remove the file")


def test_splits_without_pairs_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(folder, ["a.png,mug,train+test", "b.png,mug,test"], "image,category,split")
    table(folder, "keypoints.csv", "image,keypoint,x,y", "a.png,rim,3,4", "b.png,rim,3,4")
    assert "test" in set(read(folder, min_shared_keypoints=1).pairs["split"])
    assert "'test'" not in capsys.readouterr().err
    assert set(read(folder, min_shared_keypoints=2).pairs["split"]) == {"train"}
    told = capsys.readouterr().err
    assert "no pairs of the split 'test': there will be nothing to evaluate" in told
    assert "It has 2 images" in told


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("c.png,lid,1,2,", ["'image'", "an image of images.csv"]),
        ("a.png,,1,2,", ["'keypoint'"]),
        ("a.png,lid,41,2,", ["'x'", "from 0 to 40"]),
        ("a.png,lid,1,-2,1", ["'y'", "from 0 to 30"]),
        ("a.png,lid,1,,", ["'y'"]),
        ("a.png,lid,,,1", ["'x'", "visible"]),
        ("a.png,lid,1,2,yes", ["'visible'"]),
        ("a.png,rim,1,2,1", ["'keypoint'", "each keypoint once"]),
    ],
)
def test_malformed_keypoints(folder: Path, line: str, parts: list[str]) -> None:
    table(folder, "keypoints.csv", "image,keypoint,x,y,visible", "a.png,rim,3,4,1", line)
    refused(folder, "keypoints.csv, line 3", *parts)


def test_hidden_keypoints(folder: Path) -> None:
    lines = ["a.png,rim,40,30,", "a.png,lid,3,4,0", "a.png,ear,,,", "b.png,rim,0,0,1"]
    table(folder, "keypoints.csv", "image,keypoint,x,y,visible", *lines)
    points = read(folder).keypoints.set_index(["image_id", "name"])
    assert points["visible"].to_dict() == {
        **{("mug/a", "rim"): 1, ("mug/a", "lid"): 0, ("mug/a", "ear"): 0},
        **{("mug/b", "rim"): 1, ("mug/b", "lid"): 0, ("mug/b", "ear"): 0},
    }
    assert points.loc[("mug/a", "lid"), ["x", "y"]].isna().all()


def test_turned_pictures_are_refused(folder: Path) -> None:
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, 30)).save(folder / "a.jpg", exif=exif)
        images(folder, ["a.jpg,mug"])
        if orientation == 1:
            assert len(read(folder).images) == 1
        else:
            refused(folder, "a.jpg", "EXIF orientation 6", "folder.md")


def test_bad_masks(folder: Path) -> None:
    images(folder, ["a.png,mug,m.png"], "image,category,mask")
    Image.new("L", (30, 40), 255).save(folder / "m.png")
    refused(folder, "mask of another size", "40 x 30", "30 x 40", "images.csv, line 2")
    Image.new("L", (40, 30)).save(folder / "m.png")
    refused(folder, "the mask is empty", "m.png")
    Image.new("RGBA", (40, 30)).save(folder / "m.png")
    refused(folder, "the mask is empty", "m.png")
    Image.new("CMYK", (40, 30), (1, 1, 1, 1)).save(folder / "m.png", format="JPEG")
    refused(folder, "mode CMYK", "m.png")
    (folder / "m.png").write_bytes(b"\x89PNG\r\n")
    refused(folder, "unreadable mask", "m.png")


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


def test_damaged_tables_are_read_rightly_or_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, count=2)
    names = [f"photos/{c}/{i}.png" for c in ("mug", "toy_car") for i in range(2)]
    lines = ["split,source,target", *(f"test,{names[i]},{names[j]}" for i, j in ((0, 1), (1, 0), (2, 3)))]
    (tmp_path / "pairs.csv").write_bytes("".join(line + "\r\n" for line in lines).encode())
    rng = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for name in ("images.csv", "keypoints.csv", "pairs.csv"):
        good = (tmp_path / name).read_bytes()
        for _ in range(80):
            (tmp_path / name).write_bytes(mutant(tmp_path / name, good, rng))
            try:
                tables = read(tmp_path)
            except InputError as error:
                outcomes["refused"] += 1
                message = str(error)
                assert f"in: {tmp_path}/" in message, message
            else:
                outcomes["read"] += 1
                check_against_files(tmp_path, tables)
        (tmp_path / name).write_bytes(good)
    assert min(outcomes.values()) > 30


def test_other_columns_are_left_as_they_are(tmp_path: Path) -> None:
    """Two ways of saying the same viewpoints give the same tables."""
    for bins in (None, 8):
        write_folder(tmp_path / str(bins), bins=bins)
    one, other = (read(tmp_path / str(bins), bins=bins) for bins in (None, 8))
    columns = [column for column in IMAGES if column not in ("path", "mask_path")]
    pd.testing.assert_frame_equal(one.images[columns], other.images[columns])
    assert len(one.keypoints) == 10 * len(POINTS)
