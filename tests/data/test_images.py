"""Reading images and masks."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.data.images import load_mask, load_rgb

Array = NDArray[np.uint8]
RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)  # (H, W, 3)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # "rotate by 90°"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (RGB, RGB),
        (RGB[:, :, 0], RGB[:, :, :1].repeat(3, axis=2)),  # grey is repeated
        (np.dstack([RGB, np.full((4, 5), 7, dtype=np.uint8)]), RGB),  # transparency is dropped
    ],
)
@pytest.mark.parametrize("exif", [None, TURNED])  # an orientation is not applied
def test_pixels_come_back_as_stored(
    tmp_path: Path, stored: Array, expected: Array, exif: Image.Exif | None
) -> None:
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif or b"")
    loaded = load_rgb(tmp_path / "a.png")
    assert loaded.dtype == np.uint8
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, expected)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.png"), [[[10, 20, 30], [40, 50, 60]]])


def test_sixteen_bit_grey_keeps_the_upper_byte(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255, 256, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.png")[0, :, 1], [0, 0, 1, 255])


def test_floating_point_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, 1.0]], dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match="8 or 16 bits"):
        load_rgb(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_image_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=rf"cannot read the image[\s\S]*a\.{suffix}"):
        load_rgb(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(InputError, match="cannot read the image"):
        load_rgb(path)
    path.unlink()
    with pytest.raises(InputError, match=rf"image does not exist[\s\S]*a\.{suffix}"):
        load_rgb(path)


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


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"size[\s\S]*m\.png[\s\S]*4×5 pixels[\s\S]*5×4"):
        load_mask(tmp_path / "m.png", 1, (4, 5))
    Image.fromarray(RGB).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="several channels"):
        load_mask(tmp_path / "m.png", 1, (5, 4))
