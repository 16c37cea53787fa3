"""Photographs of one's own: turned upright, in colour, and not too large."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_checks import refusal, stored_turned
from PIL import Image, TiffImagePlugin
from studio import draw

from spheremap.data import images
from spheremap.data.images import load_photograph

# what turns an upright picture into the one to be stored with each orientation
TURNS = {
    **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM},
    **{5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE},
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, orientation: int, name: str) -> None:
    upright = draw(0, (40, 30))
    stored = upright if orientation == 1 else upright.transpose(TURNS[orientation])
    stored_turned(tmp_path / name, orientation, stored)
    found = load_photograph(tmp_path / name)
    assert found.size == (40, 30)
    np.testing.assert_array_equal(found.pixels, np.asarray(upright))


@pytest.mark.parametrize(
    ("tags", "size"),
    [
        ({0x0112: 6, 0x010F: TiffImagePlugin.IFDRational(1, 2)}, (30, 40)),  # the maker's name
        ({0x0112: 9}, (40, 30)),
        ({0x0112: "6"}, (40, 30)),
    ],
    ids=["a tag of another kind", "no such orientation", "a text"],
)
def test_odd_exif_data(tmp_path: Path, tags: dict[int, Any], size: tuple[int, int]) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory.tagtype[tag] = {int: 3, str: 2}.get(type(value), 5)
        directory[tag] = value
    content = io.BytesIO(b"")
    directory.save(content)
    exif = b"Exif\0\0" + content.getvalue()
    draw(0, (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    found = load_photograph(tmp_path / "a.jpg")
    assert found.size == found.pixels.shape[1::-1] == size


@pytest.mark.parametrize(
    ("picture", "value"),
    [
        (Image.new("L", (20, 30), 77), 77),
        (Image.fromarray(np.full((30, 20), 77 * 256 + 9, dtype=np.uint16)), 77),
        (Image.new("1", (20, 30), 1), 255),
        (Image.new("LA", (20, 30), (77, 255)), 77),
        (Image.new("P", (20, 30), 0), 0),
        (Image.new("RGBA", (20, 30), (77, 77, 77, 255)), 77),
        (Image.new("RGBA", (20, 30), (77, 77, 77, 0)), 255),  # transparent pixels are white
    ],
    ids=["grey", "16 bits", "1 bit", "grey and alpha", "palette", "opaque", "transparent"],
)
def test_every_kind_becomes_rgb(tmp_path: Path, picture: Image.Image, value: int) -> None:
    picture.save(tmp_path / "a.png")
    found = load_photograph(tmp_path / "a.png")
    assert found.pixels.shape == (30, 20, 3)
    assert found.pixels.dtype == np.uint8
    assert (found.pixels == value).all()


def test_huge_jpeg_is_decoded_at_a_reduced_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 60 * 50)
    stored_turned(tmp_path / "a.jpg", 6, draw(0, (201, 99)), quality=95)
    found = load_photograph(tmp_path / "a.jpg")
    assert found.size == (99, 201)
    assert found.pixels.shape == (51, 25, 3)  # a quarter, rounded up
    small = draw(0, (201, 99)).transpose(Image.Transpose.ROTATE_270).resize((25, 51), Image.Resampling.BOX)
    assert np.abs(found.pixels.astype(int) - np.asarray(small)).mean() < 6


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.jpg", {"progressive": True}), ("a.jpg", {"quality": 90})]
)
def test_too_large_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    monkeypatch.setattr(images, "MAX_JPEG_PIXELS", 1500)
    draw(0, (50, 40)).save(tmp_path / name, **options)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-200])  # decoding would find it truncated
    with refusal("too large", "50×40"):
        load_photograph(tmp_path / name)


def test_bad_files_are_named(tmp_path: Path) -> None:
    draw(0, (64, 64)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "folder").mkdir()
    contents = {"empty.jpg": b"", "text.png": b"hello", "head.jpg": whole[:4], "cut.jpg": whole[:-500]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "dot.png", "folder", "nowhere.jpg"):
        with refusal(tmp_path / name):
            load_photograph(tmp_path / name)
