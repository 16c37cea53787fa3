"""Reading images and masks.

Images of a data set are read exactly as stored: annotations refer to the stored pixels, so an EXIF
orientation is not applied. Photographs of one's own are read as a viewer shows them.
"""

import hashlib
import io
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose
from PIL.JpegImagePlugin import JpegImageFile

from spheremap.base.errors import InputError, ProvenanceError

ANY_VALUE = -1  # a mask's value: the object is every pixel that `foreground` finds
MIN_SIDE = 16  # px; about a patch: below, there are no parts to tell apart
MAX_PIXELS = 90_000_000  # decoded at once: 270 MB in RGB
MAX_JPEG_PIXELS = 300_000_000  # a JPEG is decoded at 1/2, 1/4 or 1/8 to stay below MAX_PIXELS

# whatever Pillow raises for bytes that are no picture
_UNREADABLE = (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)
# what is read; Pillow knows more, and starts Ghostscript for a file that holds PostScript, whatever its name
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # brands of HEIF files
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {  # by its value, what makes the picture upright
    **{2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM},
    **{5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90},
}
_AGAIN = "save it anew as JPEG or PNG"
_SMALLER = "save a smaller copy: the network looks at less than a million pixels"


def open_picture(source: Path | IO[bytes], formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The picture in a file before it is decoded, told by its content; of these formats and no other.

    Raises:
        UnidentifiedImageError (an OSError), and whatever else Pillow raises for a damaged header.
    """
    return Image.open(source, formats=formats)


@contextmanager
def reading(where: Path | str, what: str, fix: str) -> Iterator[None]:
    """Turn whatever Pillow says of a file in the block into an error that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture that cannot be used raises an error
            yield
    except FileNotFoundError as error:
        raise InputError(f"the {what} does not exist", where=where) from error
    except UnidentifiedImageError as error:
        expected, fix = f"one of {', '.join(FORMATS)}", _heic_hint(Path(where), what) or fix
        raise InputError(
            f"the {what} is of no kind that is read", where=where, expected=expected, fix=fix
        ) from error
    except _UNREADABLE as error:
        found = getattr(error, "strerror", None) or str(error)
        fix = _SMALLER if isinstance(error, Image.DecompressionBombError) else fix
        raise InputError(
            f"cannot read the {what}", where=where, expected="a whole picture file", found=found, fix=fix
        ) from error


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
    with reading(path, "photograph", _AGAIN), path.open("rb") as file:
        return as_photograph(_open_header(file), path)


def as_photograph(image: Image.Image, where: Path | str) -> Photograph:
    """An image of Pillow as `load_photograph` gives it.

    Args:
        image: as Pillow opens it; it may not be decoded yet.
        where: for messages.

    Raises:
        InputError: if it is truncated, smaller than `MIN_SIDE` or too large, or has values that no photograph
            has.
    """
    size = image.size
    _check_size(image, where)
    if math.prod(size) > MAX_PIXELS:
        scale = next(s for s in (2, 4, 8) if math.prod(size) <= MAX_PIXELS * s * s)
        image.draft("RGB", (size[0] // scale, size[1] // scale))
    with reading(where, "photograph", _AGAIN):
        image.load()
    turned = orientation_of(image) >= 5
    image = as_shown(image)
    if image.has_transparency_data and not image.mode.startswith("I"):
        cut_out = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(cut_out, mask=cut_out.getchannel("A"))
    return Photograph(_to_rgb(image, where), size[::-1] if turned else size)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation: 1 upright, 2 to 8 stored turned or mirrored; 5 to 8 swap width and height."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data, of which Pillow may raise anything, do not turn a picture
        return 1
    return orientation if orientation in _TURNS else 1


def as_shown(image: Image.Image) -> Image.Image:
    """The image as a viewer shows it."""
    image.load()  # a TIFF is turned by this already, and then says so
    turn = _TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def photograph_formats() -> tuple[str, ...]:
    """Formats of photographs: HEIF (HEIC) as well where pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return FORMATS
    register_heif_opener()
    return (*FORMATS, "HEIF")


def _heic_hint(path: Path, what: str) -> str | None:
    """What to do about a file of a telephone that cannot be read."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] != b"ftyp" or start[8:] not in _HEIC:
        return None
    helped = what == "photograph" and "HEIF" not in photograph_formats()
    return f"it is a HEIC file: {'pip install pillow-heif, or ' if helped else ''}save it as JPEG"


def _open_header(file: BinaryIO) -> Image.Image:
    """The image before it is decoded."""
    start = file.read(3)
    file.seek(0)
    if start == b"\xff\xd8\xff":  # Pillow's general way in refuses a JPEG by its full size
        return JpegImageFile(file)
    with warnings.catch_warnings():  # a size that Pillow warns of is above MAX_PIXELS
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return open_picture(file, photograph_formats())


def _check_size(image: Image.Image, where: Path | str) -> None:
    width, height = image.size
    if min(image.size) < MIN_SIDE:
        problem, expected = "the photograph is too small", f"{MIN_SIDE} pixels or more on each side"
        raise InputError(problem, where=where, expected=expected, found=f"{width}×{height}")
    # the decoder of progressive files holds all of the image, at any scale
    reducible = isinstance(image, JpegImageFile) and not image.info.get("progressive")
    limit = MAX_JPEG_PIXELS if reducible else MAX_PIXELS
    if width * height > limit:
        expected = f"at most {limit / 1e6:g} million pixels"
        expected += "" if reducible else f", or {MAX_JPEG_PIXELS / 1e6:g} million in a baseline JPEG"
        found = f"{width}×{height}, {width * height / 1e6:.0f} million"
        problem = "the photograph is too large"
        raise InputError(problem, where=where, expected=expected, found=found, fix=_SMALLER)


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


def load_mask(
    path: Path, value: int, size: tuple[int, int], sha256: str | None = None, *, upright: bool = False
) -> NDArray[np.bool_]:
    """Read an object mask as `(H, W)` bool: the pixels equal to `value`.

    Args:
        path: single-channel image; a palette image counts by its indices (as in PASCAL VOC).
        value: the pixel value of the object; `ANY_VALUE`: see `foreground`, for any picture.
        size: (width, height) of the image that the mask belongs to.
        sha256: see `load_rgb`.
        upright: whether to apply the EXIF orientation, as `load_photograph` does.

    Raises:
        InputError: if the file is missing, unreadable, of several channels or of another size.
        ProvenanceError: if it is not the file that it was.
    """
    mask = _load(Path(path), "mask", sha256)
    if upright:
        mask = as_shown(mask)
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


def extent(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The box (x1, y1, x2, y2) about a mask `(H, W)` that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def foreground(mask: Image.Image) -> NDArray[np.bool_]:
    """The object of a mask that may be any picture, `(H, W)`.

    If the picture is transparent anywhere: what is not wholly transparent. Else what is above 0 in any
    channel.
    """
    if mask.mode in ("LA", "PA", "RGBA") or "transparency" in mask.info:
        rgba = np.asarray(mask.convert("RGBA"))
        if rgba[..., 3].min() < 255:
            return np.asarray(rgba[..., 3] > 0)
        mask = mask.convert("RGB")
    values = np.asarray(mask.convert("RGB") if mask.mode == "P" else mask)  # by colour: an index says nothing
    return np.asarray(values > 0) if values.ndim == 2 else np.asarray((values > 0).any(axis=2))


def _load(path: Path, what: str, sha256: str | None) -> Image.Image:
    with reading(path, what, "replace the file, or remove it from the data set"):
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
