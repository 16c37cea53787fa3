"""What is said of a data set that is not wrong, but wanting, and nothing where all is well."""

import json
from pathlib import Path

import pytest
from data_checks import tables_of
from PIL import Image
from small_sets import SMALL

from spheremap.cli import main
from spheremap.data.remarks import data_remarks, mask_remarks
from spheremap.data.tables import Tables

NAN = float("nan")


def made(*rows: tuple[str, float, str, str]) -> Tables:
    """Tables of images given as category, azimuth, path of the mask, split."""
    return tables_of(
        [
            [f"{c}/{i}", f"{i}.jpg", mask, 1, c, azimuth, 0.0, 0.0, 9.0, 9.0, 9, 9, split, str(i)]
            for i, (c, azimuth, mask, split) in enumerate(rows)
        ]
    )


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([("mug", 0.0), ("mug", 90.0)], []),
        (
            [("mug", NAN), ("mug", NAN)],
            ["0 of 2 training images have an azimuth: left and right cannot be told apart"],
        ),
        (
            [("mug", NAN), ("mug", 90.0), ("mug", 0.0)],
            ["2 of 3 training images have an azimuth: the others sit out the losses on viewpoint"],
        ),
        (
            [("cup", 0.0), ("jug", NAN), ("mug", NAN)],
            [
                "1 of 3 training images have an azimuth: "
                "the others (all of jug, mug) sit out the losses on viewpoint"
            ],
        ),
        (
            [("horse", 0.0), ("Horse", 0.0), ("cow", 0.0), ("HORSE", 0.0)],
            ["categories differ only in upper and lower case: HORSE, Horse, horse"],
        ),
    ],
)
def test_categories_and_azimuths(rows: list[tuple[str, float]], lines: list[str]) -> None:
    assert data_remarks(made(*((*row, "", "train+val") for row in rows))) == lines


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


@pytest.mark.parametrize(
    ("source", "rows", "lines"),
    [
        (
            "own",
            ["a.png,Mug,,,train", "b.png,mug,,,train"],
            [
                "ingest: 0 of 2 training images have an azimuth",
                "ingest: categories differ",
                "masks: 0 of 2 training images have a mask",
            ],
        ),
        ("none", ["a.png,mug,0,,train"], []),  # no masks by choice
        ("own", ["a.png,mug,0,m.jpg,train"], ["masks: 1 mask is a JPEG file"]),
        ("own", ["a.png,mug,0,m.png,train", "b.png,mug,90,m.png,train"], []),
        ("own", ["a.png,mug,,,test", "b.png,mug,,,test"], ["ingest: 2 val and test images without pairs"]),
    ],
)
def test_the_commands_say_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, rows: list[str], lines: list[str]
) -> None:
    """On standard error, while a folder with this images.csv is ingested and given its masks."""
    for name in ("a.png", "b.png", "m.png", "m.jpg"):
        Image.new("L", (40, 30), 200).save(tmp_path / name)
    (tmp_path / "images.csv").write_text("\n".join(["image,category,azimuth,mask,split", *rows, ""]))
    params, masks, raw = (str(tmp_path / name) for name in ("data.json", "masks.json", "raw"))
    Path(params).write_text(json.dumps(SMALL["folder"].entry(tmp_path)))
    Path(masks).write_text(json.dumps({"source": source}))
    assert main(["ingest", "--params", params, "--out", raw]) == 0
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert main(["masks", "--params", masks, "--tables", raw, *places]) == 0
    told = capsys.readouterr().err.replace("\r", "\n").splitlines()
    told = [line for line in told if line.startswith(("ingest: ", "masks: ")) and "%|" not in line]
    assert len(told) == len(lines)
    assert all(found.startswith(line) for found, line in zip(told, lines, strict=True)), told
