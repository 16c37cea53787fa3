"""What is said of a data set that is not wrong, but wanting, and nothing where all is well."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from small_sets import SMALL

from spheremap.cli import main
from spheremap.data.remarks import data_remarks, mask_remarks
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, Tables

NAN = float("nan")


def made(*rows: tuple[str, float, str, str]) -> Tables:
    """Tables of images given as category, azimuth, path of the mask, split."""
    listed = [
        [f"{c}/{i}", f"{i}.jpg", mask, 1, c, azimuth, 0.0, 0.0, 9.0, 9.0, 9, 9, split, str(i)]
        for i, (c, azimuth, mask, split) in enumerate(rows)
    ]
    images = pd.DataFrame(listed, columns=list(IMAGES))
    return Tables(images, pd.DataFrame(columns=list(KEYPOINTS)), pd.DataFrame(columns=list(PAIRS)))


@pytest.mark.parametrize(
    ("azimuths", "line"),
    [
        ([0.0, 90.0], []),
        ([NAN, NAN], ["0 of 2 training images have an azimuth: left and right cannot be told apart"]),
        ([NAN, 90.0, 0.0], ["2 of 3 training images have an azimuth"]),
    ],
)
def test_azimuths(azimuths: list[float], line: list[str]) -> None:
    assert data_remarks(made(*(("mug", azimuth, "", "train") for azimuth in azimuths))) == line


def test_categories_without_any_azimuth_are_named() -> None:
    tables = made(("cup", 0.0, "", "train"), ("jug", NAN, "", "train"), ("mug", NAN, "", "train+val"))
    assert data_remarks(tables) == ["1 of 3 training images have an azimuth: none of jug, mug"]


def test_images_that_training_does_not_use_do_not_count() -> None:
    assert data_remarks(made(("mug", NAN, "", "test"), ("mug", NAN, "", "val"))) == []
    assert mask_remarks(made(("mug", NAN, "", "test"))) == []
    tables = made(("mug", 0.0, "m.png", "train"), ("mug", NAN, "", "val+test"))
    assert data_remarks(tables) == mask_remarks(tables) == []


@pytest.mark.parametrize(
    ("masks", "lines"),
    [
        (["a.png", "b.png"], []),
        (["", ""], ["0 of 2 training images have a mask: the whole box counts as the object"]),
        (["", "b.png"], ["1 of 2 training images have a mask: for the others the whole box counts"]),
        (["a.jpg", "b.png"], ["1 mask is a JPEG file: a.jpg (JPEG blurs the edge values)"]),
        (
            [f"{name}.JPEG" for name in "bacd"],
            ["4 masks are JPEG files: a.JPEG, b.JPEG, c.JPEG, … (JPEG blurs the edge values)"],
        ),
    ],
)
def test_masks(masks: list[str], lines: list[str]) -> None:
    assert mask_remarks(made(*(("mug", 0.0, mask, "train") for mask in masks))) == lines


def test_categories_that_differ_in_capitals_alone() -> None:
    tables = made(*((category, 0.0, "", "train") for category in ("horse", "Horse", "cow", "HORSE")))
    assert data_remarks(tables) == ["categories differ only in upper and lower case: HORSE, Horse, horse"]


def said(folder: Path, rows: list[str], source: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Remarks on standard error while a folder with this images.csv is ingested and given its masks."""
    folder.mkdir()
    for name in ("a.png", "b.png", "m.png", "m.jpg"):
        Image.new("L", (40, 30), 200).save(folder / name)
    (folder / "images.csv").write_text("\n".join(["image,category,azimuth,mask,split", *rows, ""]))
    entry = SMALL["folder"].entry(folder)
    params, masks = folder / "data.json", folder / "masks.json"
    params.write_text(json.dumps(entry))
    masks.write_text(json.dumps({"source": source}))
    capsys.readouterr()
    assert main(["ingest", "--params", str(params), "--out", str(folder / "raw")]) == 0
    of_masks = ["--tables", str(folder / "raw"), "--out", str(folder / "out"), "--work", str(folder / "work")]
    assert main(["masks", "--params", str(masks), *of_masks]) == 0
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    return [line for line in lines if line.startswith(("ingest: ", "masks: ")) and "%|" not in line]


def test_the_commands_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = ["a.png,Mug,,,train", "b.png,mug,,,train"]
    azimuth = "ingest: 0 of 2 training images have an azimuth: left and right cannot be told apart"
    twins = "ingest: categories differ only in upper and lower case: Mug, mug"
    mask = "masks: 0 of 2 training images have a mask: the whole box counts as the object"
    assert said(tmp_path / "1", bare, "own", capsys) == [azimuth, twins, mask]
    assert said(tmp_path / "2", bare, "none", capsys) == [azimuth, twins]  # no masks by choice
    jpeg = ["a.png,mug,0,m.jpg,train", "b.png,mug,,m.png,train"]
    assert said(tmp_path / "3", jpeg, "own", capsys) == [
        "ingest: 1 of 2 training images have an azimuth",
        f"masks: 1 mask is a JPEG file: {tmp_path}/3/m.jpg (JPEG blurs the edge values)",
    ]
    whole = ["a.png,mug,0,m.png,train", "b.png,mug,90,m.png,train"]
    assert said(tmp_path / "4", whole, "own", capsys) == []
    tests_alone = ["a.png,mug,,,test", "b.png,mug,,,test"]
    (left,) = said(tmp_path / "5", tests_alone, "own", capsys)
    assert "without pairs" in left  # of the adapter
