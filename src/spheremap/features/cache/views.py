"""What the network sees of an image: a training view or the whole image, with the box that maps it back."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.config.backbone import Fit
from spheremap.features.geometry import Grid, patch_centres, pixel_box, square_box

Box = NDArray[np.float64]
_LARGEST = 9000  # px, side of a region that is cut out at full scale: some 240 MB, and Pillow does not mind


@dataclass(frozen=True)
class View:
    """Network input of one record.

    Attributes:
        pixels: `(S, S, 3)` uint8.
        mask: `(N,)` bool, true where the patch centre lies on the object.
        box: `(4,)` float64, the region shown, in original pixels, see `spheremap.features.geometry`.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    box: Box

    def mirrored(self, grid: Grid) -> "View":
        """The same with left and right exchanged; the box stays, as the region that is shown."""
        pixels = np.ascontiguousarray(self.pixels[:, ::-1])
        return View(pixels, self.mask.reshape(grid)[:, ::-1].reshape(-1), self.box)


def blank_view(colour: tuple[int, int, int], size: int, grid: Grid) -> View:
    """A picture of one colour, without an object."""
    pixels = np.broadcast_to(np.array(colour, dtype=np.uint8), (size, size, 3))
    return View(
        pixels, np.zeros(grid[0] * grid[1], dtype=bool), np.array([0, 0, size, size], dtype=np.float64)
    )


def whole_box(size: tuple[int, int], fit: Fit, side: int, grid: Grid, where: Path | str) -> Box:
    """The region that becomes the square input when the network looks at a whole image.

    Args:
        size: width and height of the image.
        fit: "pad": the smallest square around it; "stretch": the image itself, whatever its proportions;
            "original": a square of `side` pixels, so that a pixel of the image is a pixel of the input.
        side: of the input, in pixels.
        grid: patches of the input.
        where: the image, for the message.

    Raises:
        InputError: if an image at its original resolution is larger than the input.
    """
    width, height = size
    if fit == "pad":
        return square_box(width, height)
    if fit == "stretch":
        return np.array([0, 0, width, height], dtype=np.float64)
    if max(size) > side:
        patch = side // grid[0]
        enough = math.ceil(max(size) / patch) * patch
        raise InputError(
            "an image at its original resolution is larger than the network's input",
            where=where,
            expected=f"at most {side}×{side} pixels",
            found=f"{width}×{height}",
            fix=f"set the backbone's image_size.eval (or --size) to {enough} or a larger multiple "
            f"of {patch}, or choose another fit than {fit!r}",
        )
    return pixel_box(width, height, side)


def make_view(image: NDArray[np.uint8], mask: NDArray[np.bool_], box: Box, size: int, grid: Grid) -> View:
    """Resize the region `box` of an image `(H, W, 3)` and its mask `(H, W)` to a square input of side `size`.

    Bicubic with antialiasing, at the box's exact (also fractional) position; outside the image is black and
    background. Of a huge region the image is halved first, or divided by more. The mask is sampled at the
    patch centres (nearest pixel).
    """
    factor = max(1, math.ceil(max(box[2] - box[0], box[3] - box[1]) / _LARGEST))
    x0, y0, x1, y1 = (float(value) / factor for value in box)
    left, top = math.floor(x0), math.floor(y0)
    # Pillow fills with black what a crop reaches beyond the image
    picture = Image.fromarray(image)
    if factor > 1:
        picture = picture.reduce(factor)
    region = picture.crop((left, top, math.ceil(x1), math.ceil(y1)))
    resized = region.resize(
        (size, size), Image.Resampling.BICUBIC, box=(x0 - left, y0 - top, x1 - left, y1 - top)
    )
    return View(
        np.asarray(resized), _sample(mask, patch_centres(box, grid)), np.asarray(box, dtype=np.float64)
    )


def _sample(mask: NDArray[np.bool_], xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mask values `(K,)` of the pixels that points `(K, 2)` lie in; false outside."""
    height, width = mask.shape
    column, row = np.floor(xy).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    result = np.zeros(len(xy), dtype=bool)
    result[inside] = mask[row[inside], column[inside]]
    return result


def view_generator(seed: int, image_id: str, view: int) -> np.random.Generator:
    """Random numbers of one view, whatever other images and views there are and in whatever order."""
    digest = hashlib.sha256(f"{seed}/{view}/{image_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def random_resized_crop(
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: np.random.Generator,
) -> Box:
    """Draw the box of a random resized crop, by the algorithm of torchvision's `RandomResizedCrop`.

    Ten attempts at an area (a share of the image's, uniform in `scale`) and an aspect ratio (log-uniform in
    `ratio`) that fit inside the image; failing that, the largest central crop with an allowed ratio. A scale
    above 1 thus makes near-whole views more frequent. Scale (0.5, 1.5) is that of Mariotti et al. 2024.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = width * height * generator.uniform(*scale)
        aspect = math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            y0 = int(generator.integers(0, height - h + 1))
            x0 = int(generator.integers(0, width - w + 1))
            return np.array([x0, y0, x0 + w, y0 + h], dtype=np.float64)
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    x0, y0 = (width - w) // 2, (height - h) // 2
    return np.array([x0, y0, x0 + w, y0 + h], dtype=np.float64)
