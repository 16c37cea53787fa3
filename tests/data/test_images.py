"""Reading images and masks of a data set."""

from pathlib import Path

import numpy as np
import pytest
from data_checks import refusal, stored_turned
from numpy.typing import NDArray
from PIL import Image

from spheremap.data.images import ANY_VALUE, load_mask, load_rgb

Array = NDArray[np.uint8]
RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)  # (H, W, 3)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (RGB, RGB),
        (RGB[:, :, 0], RGB[:, :, :1].repeat(3, axis=2)),  # grey is repeated
        (np.dstack([RGB, np.full((4, 5), 7, dtype=np.uint8)]), RGB),  # transparency is dropped
        (np.array([[0, 255, 256, 65535]], np.uint16), np.array([[[0] * 3, [0] * 3, [1] * 3, [255] * 3]])),
    ],
    ids=["RGB", "grey", "transparent", "16 bits"],
)
@pytest.mark.parametrize("orientation", [1, 6])  # it is not applied
def test_pixels_come_back_as_stored(tmp_path: Path, stored: Array, expected: Array, orientation: int) -> None:
    stored_turned(tmp_path / "a.png", orientation, Image.fromarray(stored))
    loaded = load_rgb(tmp_path / "a.png")
    assert loaded.dtype == np.uint8
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, expected)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.png"), [[[10, 20, 30], [40, 50, 60]]])


def test_images_that_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, 1.0]], dtype=np.float32)).save(tmp_path / "float.tiff")
    for suffix in ("jpg", "png"):
        whole = tmp_path / f"cut.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole)
        whole.write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    for name, part in (
        ("float.tiff", "8 or 16 bits"),
        ("cut.jpg", "cannot read the image"),
        ("cut.png", "cannot read the image"),
        ("header.png", "cannot read the image"),
        ("nowhere.png", "image does not exist"),
    ):
        with refusal(part, tmp_path / name):
            load_rgb(tmp_path / name)


def test_mask_is_the_pixels_of_one_value(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 12, 15], [12, 255, 0]], dtype=np.uint8)).save(tmp_path / "m.png")
    mask = load_mask(tmp_path / "m.png", 12, (3, 2))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[False, True, False], [True, False, False]])


def test_palette_mask_counts_by_index(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 3, 3]], dtype=np.uint8)).convert("P")
    image.putdata([0, 3, 3])
    image.putpalette([9, 9, 9] * 4)  # all indices look alike
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", 3, (3, 1)), [[False, True, True]])


def test_what_a_telephone_writes_is_told_by_name(tmp_path: Path) -> None:
    """Of a data set it is not read, whatever is installed."""
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 99)
    with refusal(tmp_path / "a.jpg", "it is a HEIC file: save it as JPEG"):
        load_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["m.png", "m.gif"])
def test_a_palette_mask_of_any_value_counts_by_colour(tmp_path: Path, kind: str) -> None:
    """Programs give the most frequent colour index 0, be it the ground or not."""
    image = Image.new("P", (3, 1))
    image.putdata([1, 0, 0])
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / kind)
    np.testing.assert_array_equal(load_mask(tmp_path / kind, ANY_VALUE, (3, 1)), [[False, True, True]])


@pytest.mark.parametrize(
    ("stored", "size", "parts"),
    [
        (RGB[:, :, 0], (4, 5), ["size", "m.png", "4×5 pixels", "5×4"]),
        (RGB, (5, 4), ["several channels", "m.png"]),
    ],
)
def test_masks_that_do_not_fit(
    tmp_path: Path, stored: Array, size: tuple[int, int], parts: list[str]
) -> None:
    Image.fromarray(stored).save(tmp_path / "m.png")
    with refusal(*parts):
        load_mask(tmp_path / "m.png", 1, size)
