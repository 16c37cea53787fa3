"""Reading images and masks exactly as stored.

Annotations refer to the stored pixels, so an EXIF orientation is not applied.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spheremap.errors import InputError

ANY_VALUE = -1  # a mask's value: the object is every pixel that `foreground` finds

# from Pillow: OSError (unreadable, truncated), SyntaxError (broken PNG), ValueError (broken header),
# DecompressionBombError (absurd size)
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def load_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as `(H, W, 3)` uint8 RGB.

    Grey becomes RGB, 16-bit grey keeps its upper 8 bits, transparency is dropped (colours stay as stored).

    Raises:
        InputError: if the file is missing, truncated or not an image.
    """
    image = _load(Path(path), "image")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise InputError(
                "cannot read the image", where=path, expected="8 or 16 bits per channel",
                found=f"{image.mode} values from {values.min()} to {values.max()}",
            )  # fmt: skip
        grey = (values.astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P":  # through RGBA: a palette may hold transparent entries in several forms
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def load_mask(path: Path, value: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read an object mask as `(H, W)` bool: the pixels equal to `value`.

    Args:
        path: single-channel image; a palette image counts by its indices (as in PASCAL VOC).
        value: the pixel value of the object; `ANY_VALUE`: see `foreground`, for any picture.
        size: (width, height) of the image that the mask belongs to.

    Raises:
        InputError: if the file is missing, unreadable, of several channels or of another size.
    """
    mask = _load(Path(path), "mask")
    if mask.size != tuple(size):
        raise InputError(
            "the mask is not of its image's size", where=path, expected=f"{size[0]}×{size[1]} pixels",
            found=f"{mask.size[0]}×{mask.size[1]}",
        )  # fmt: skip
    if value == ANY_VALUE:
        return foreground(mask)
    values = np.asarray(mask)
    if values.ndim != 2:
        raise InputError(
            "the mask has several channels", where=path, expected="one channel (or a palette)",
            found=f"mode {mask.mode}",
        )  # fmt: skip
    return np.equal(values, value)


def foreground(mask: Image.Image) -> NDArray[np.bool_]:
    """The object of a mask that may be any picture, `(H, W)`.

    If the picture is transparent anywhere: what is not wholly transparent. Else what is above 0 in any
    channel.
    """
    if mask.mode in ("LA", "PA", "RGBA") or "transparency" in mask.info:
        rgba = np.asarray(mask.convert("RGBA"))
        if rgba[..., 3].min() < 255:
            return np.asarray(rgba[..., 3] > 0)
        if mask.mode != "P":
            return np.asarray((rgba[..., :3] > 0).any(axis=2))
    values = np.asarray(mask)
    return np.asarray(values > 0) if values.ndim == 2 else np.asarray((values > 0).any(axis=2))


def _load(path: Path, what: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except FileNotFoundError as error:
        raise InputError(f"the {what} does not exist", where=path) from error
    except _UNREADABLE as error:
        raise InputError(
            f"cannot read the {what}", where=path, expected="a whole JPEG, PNG or the like", found=str(error),
            fix="replace the file, or remove it from the data set",
        ) from error  # fmt: skip
