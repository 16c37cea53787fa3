"""Reading images and masks.

Images of a data set are read exactly as stored: annotations refer to the stored pixels, so an EXIF
orientation is not applied. Photographs of one's own are read as a viewer shows them.
"""

import hashlib
import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from spheremap.base.errors import InputError, ProvenanceError

ANY_VALUE = -1  # a mask's value: the object is every pixel that `foreground` finds
MIN_SIDE = 16  # px; about a patch: below, there are no parts to tell apart
MAX_PIXELS = 90_000_000  # decoded at once: 270 MB in RGB
MAX_JPEG_PIXELS = 300_000_000  # a JPEG is decoded at 1/2, 1/4 or 1/8 to stay below MAX_PIXELS

# from Pillow: OSError (unreadable, truncated), SyntaxError (broken PNG), ValueError (broken header),
# DecompressionBombError (absurd size)
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# what is read; Pillow knows more, and starts Ghostscript for a file that holds PostScript, whatever its name
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # brands of HEIF files
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap width and height
_SMALLER = "save a smaller copy: the network looks at less than a million pixels"


def open_picture(source: Path | IO[bytes], formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The picture in a file before it is decoded, told by its content; of these formats and no other.

    Raises:
        UnidentifiedImageError (an OSError), and whatever else Pillow raises for a damaged header.
    """
    return Image.open(source, formats=formats)


def load_rgb(path: Path, sha256: str | None = None) -> NDArray[np.uint8]:
    """Read an image as `(H, W, 3)` uint8 RGB.

    Grey becomes RGB, 16-bit grey keeps its upper 8 bits, transparency is dropped (colours stay as stored).

    Args:
        path: the file.
        sha256: of its bytes when the data set was read (`Tables.pictures`); None: any.

    Raises:
        InputError: if the file is missing, truncated or not an image.
        ProvenanceError: if it is not the file that it was.
    """
    return _to_rgb(_load(Path(path), "image", sha256), path)


@dataclass(frozen=True, repr=False)
class Photograph:
    """A photograph as a viewer shows it.

    Attributes:
        pixels: `(h, w, 3)` uint8 RGB; smaller than `size` where a huge file was decoded at a reduced scale.
        size: width and height in full, upright: what coordinates refer to.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]

    def __repr__(self) -> str:
        return f"<Photograph {self.size[0]}×{self.size[1]}>"

    def in_pixels(self, box: NDArray[np.float64]) -> NDArray[np.float64]:
        """A box `(4,)` of the photograph in full, in the pixels that were decoded."""
        height, width = self.pixels.shape[:2]
        return box * np.tile([width / self.size[0], height / self.size[1]], 2)


def load_photograph(path: Path) -> Photograph:
    """Read a photograph upright (EXIF orientation applied), with transparency over white.

    Grey becomes RGB and 16 bits become 8, as in `load_rgb`; the first frame of an animation counts. Memory is
    bounded: of a JPEG above `MAX_PIXELS` a half, a quarter or an eighth of each side is decoded.

    Raises:
        InputError: if the file is missing, truncated, not an image, smaller than `MIN_SIDE`, or larger than
            can be decoded.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            image = _open_header(file)
            size = image.size
            _check_size(image, path)
            if math.prod(size) > MAX_PIXELS:
                scale = next(s for s in (2, 4, 8) if math.prod(size) <= MAX_PIXELS * s * s)
                image.draft("RGB", (size[0] // scale, size[1] // scale))
            image.load()
        return as_photograph(image, path, size)
    except FileNotFoundError as error:
        raise InputError("the photograph does not exist", where=path) from error
    except UnidentifiedImageError as error:
        raise InputError(
            "not an image", where=path, expected="a JPEG, PNG or the like", fix=_heic_hint(path)
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError("the photograph is too large", where=path, found=str(error), fix=_SMALLER) from error
    except _UNREADABLE as error:
        found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            "cannot read the photograph", where=path, expected="a whole JPEG, PNG or the like", found=found
        ) from error


def as_photograph(image: Image.Image, where: Path | str, size: tuple[int, int] | None = None) -> Photograph:
    """A decoded image as `load_photograph` gives it.

    Args:
        image: as Pillow opens it.
        where: for messages.
        size: width and height in full, where a huge file was decoded at a reduced scale.

    Raises:
        InputError: if it has values that no photograph has.
    """
    size = size or image.size
    turned = image.getexif().get(_ORIENTATION, 1)
    if turned > 1:
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data and not image.mode.startswith("I"):
        cut_out = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(cut_out, mask=cut_out.getchannel("A"))
    return Photograph(_to_rgb(image, where), size[::-1] if turned >= 5 else size)


def photograph_formats() -> tuple[str, ...]:
    """Formats of photographs: HEIF (HEIC) as well where pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return FORMATS
    register_heif_opener()
    return (*FORMATS, "HEIF")


def _heic_hint(path: Path) -> str | None:
    """What to do about a file of a telephone that cannot be read."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] != b"ftyp" or start[8:] not in _HEIC or "HEIF" in photograph_formats():
        return None
    return "it is a HEIC file: pip install pillow-heif, or save it as JPEG"


def _open_header(file: BinaryIO) -> Image.Image:
    """The image before it is decoded."""
    start = file.read(3)
    file.seek(0)
    if start == b"\xff\xd8\xff":  # Pillow's general way in refuses a JPEG by its full size
        return JpegImageFile(file)
    with warnings.catch_warnings():  # a size that Pillow warns of is above MAX_PIXELS
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return open_picture(file, photograph_formats())


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if min(image.size) < MIN_SIDE:
        problem, expected = "the photograph is too small", f"{MIN_SIDE} pixels or more on each side"
        raise InputError(problem, where=path, expected=expected, found=f"{width}×{height}")
    # the decoder of progressive files holds all of the image, at any scale
    reducible = isinstance(image, JpegImageFile) and not image.info.get("progressive")
    limit = MAX_JPEG_PIXELS if reducible else MAX_PIXELS
    if width * height > limit:
        expected = f"at most {limit / 1e6:g} million pixels"
        expected += "" if reducible else f", or {MAX_JPEG_PIXELS / 1e6:g} million in a baseline JPEG"
        found = f"{width}×{height}, {width * height / 1e6:.0f} million"
        problem = "the photograph is too large"
        raise InputError(problem, where=path, expected=expected, found=found, fix=_SMALLER)


def _to_rgb(image: Image.Image, path: Path | str) -> NDArray[np.uint8]:
    """A decoded image as `(H, W, 3)` uint8, see `load_rgb`."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            found = f"{image.mode} values from {values.min()} to {values.max()}"
            expected = "8 or 16 bits per channel"
            raise InputError("cannot read the image", where=path, expected=expected, found=found)
        grey = (values.astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P":  # through RGBA: a palette may hold transparent entries in several forms
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def load_mask(path: Path, value: int, size: tuple[int, int], sha256: str | None = None) -> NDArray[np.bool_]:
    """Read an object mask as `(H, W)` bool: the pixels equal to `value`.

    Args:
        path: single-channel image; a palette image counts by its indices (as in PASCAL VOC).
        value: the pixel value of the object; `ANY_VALUE`: see `foreground`, for any picture.
        size: (width, height) of the image that the mask belongs to.
        sha256: see `load_rgb`.

    Raises:
        InputError: if the file is missing, unreadable, of several channels or of another size.
        ProvenanceError: if it is not the file that it was.
    """
    mask = _load(Path(path), "mask", sha256)
    if mask.size != tuple(size):
        expected, found = f"{size[0]}×{size[1]} pixels", "{}×{}".format(*mask.size)
        raise InputError("the mask is not of its image's size", where=path, expected=expected, found=found)
    if value == ANY_VALUE:
        return foreground(mask)
    values = np.asarray(mask)
    if values.ndim != 2:
        problem, expected = "the mask has several channels", "one channel (or a palette)"
        raise InputError(problem, where=path, expected=expected, found=f"mode {mask.mode}")
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


def _load(path: Path, what: str, sha256: str | None) -> Image.Image:
    try:
        content = path.read_bytes()
        if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise ProvenanceError(
                f"the {what} is not the file that it was when the data set was read", where=path,
                expected=f"SHA-256 {sha256[:12]}…" if sha256 else "no file", found=f"SHA-256 {found[:12]}…",
                fix="restore the file; if it is right as it is, or was drawn by spheremap, delete the "
                "data set's folder `canonical` and run `snakemake --cores all`",
            )  # fmt: skip
        with open_picture(io.BytesIO(content)) as image:
            image.load()
            return image.copy()
    except FileNotFoundError as error:
        raise InputError(f"the {what} does not exist", where=path) from error
    except _UNREADABLE as error:
        found = "another kind of file" if isinstance(error, UnidentifiedImageError) else str(error)
        problem, expected = f"cannot read the {what}", "a whole JPEG, PNG or the like"
        fix = "replace the file, or remove it from the data set"
        raise InputError(problem, where=path, expected=expected, found=found, fix=fix) from error
