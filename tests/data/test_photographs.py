"""Photographs of one's own: turned upright, in colour, and not too large."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studio import draw

from spheremap.base.errors import InputError
from spheremap.data import images
from spheremap.data.images import load_photograph


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    turns = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
             4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
             7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}  # fmt: skip
    upright = draw(0, (40, 30))
    # the stored picture is the upright one turned the other way round
    stored = upright if orientation == 1 else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    found = load_photograph(tmp_path / "a.png")
    assert found.size == (40, 30)
    np.testing.assert_array_equal(found.pixels, np.asarray(upright))


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    pixels = np.full((20, 30, 4), 100, dtype=np.uint8)
    pixels[:, :10, 3], pixels[:, 10:, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load_photograph(tmp_path / "a.png").pixels
    assert (found[:, :10] == 255).all()
    assert (found[:, 10:] == 100).all()


@pytest.mark.parametrize(
    ("picture", "value"),
    [
        (Image.new("L", (20, 30), 77), 77),
        (Image.fromarray(np.full((30, 20), 77 * 256 + 9, dtype=np.uint16)), 77),
        (Image.new("1", (20, 30), 1), 255),
        (Image.new("LA", (20, 30), (77, 255)), 77),
        (Image.new("P", (20, 30), 0), 0),
    ],
    ids=["grey", "16 bits", "1 bit", "grey and alpha", "palette"],
)
def test_every_kind_becomes_rgb(tmp_path: Path, picture: Image.Image, value: int) -> None:
    picture.save(tmp_path / "a.png")
    found = load_photograph(tmp_path / "a.png")
    assert found.pixels.shape == (30, 20, 3)
    assert found.pixels.dtype == np.uint8
    assert (found.pixels == value).all()


def test_huge_jpeg_is_decoded_at_a_reduced_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 60 * 50)
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(0, (201, 99)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = load_photograph(tmp_path / "a.jpg")
    assert found.size == (99, 201)
    assert found.pixels.shape == (51, 25, 3)  # a quarter, rounded up
    small = draw(0, (201, 99)).transpose(Image.Transpose.ROTATE_270).resize((25, 51), Image.Resampling.BOX)
    assert np.abs(found.pixels.astype(int) - np.asarray(small)).mean() < 6


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.jpg", {"progressive": True}), ("a.jpg", {"quality": 90})]
)
def test_too_large_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    monkeypatch.setattr(images, "MAX_JPEG_PIXELS", 1500)
    draw(0, (50, 40)).save(tmp_path / name, **options)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-200])  # decoding would find it truncated
    with pytest.raises(InputError, match=r"too large[\s\S]*50×40"):
        load_photograph(tmp_path / name)


def test_bad_files_are_named(tmp_path: Path) -> None:
    draw(0, (64, 64)).save(tmp_path / "whole.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello")
    (tmp_path / "header.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "truncated.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-500])
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "folder").mkdir()
    for name in ("empty.jpg", "text.png", "header.jpg", "truncated.jpg", "dot.png", "folder", "nowhere.jpg"):
        with pytest.raises(InputError, match=name):
            load_photograph(tmp_path / name)
