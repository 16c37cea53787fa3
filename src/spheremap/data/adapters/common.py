"""What the adapters share: their result, a digest of the files they read, and careful reading of such files.

Every function that reads raises `InputError` with the file's name, whatever the file holds.
"""

import hashlib
import io
import json
import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.data.images import open_picture
from spheremap.data.tables import Tables


@dataclass(frozen=True)
class Ingested:
    """A data set as an adapter read it: the canonical tables, and SHA-256 digests of its files by kind."""

    tables: Tables
    inputs: dict[str, str]


class FileDigest:
    """SHA-256 over names and contents of files, independent of where their folder lies."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, content: bytes) -> None:
        """Include one file; the order of the calls counts."""
        self._hash.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())

    def hexdigest(self) -> str:
        """The digest of all files so far."""
        return self._hash.hexdigest()


# --- files --------------------------------------------------------------------------------------------------


def require_folders(root: Path, folders: tuple[str, ...], layout: str) -> None:
    """Check that a data set lies where its entry says.

    Raises:
        InputError: naming the first of `folders` that is not in `root`.
    """
    for folder in folders:
        if not (root / folder).is_dir():
            raise InputError(
                f"the data set is missing or not in the layout of {layout}",
                where=root,
                expected=f"a folder {folder} in it",
                found=f"no such folder in {root.resolve()}",
                fix="unpack the data set there or correct its entry in params.yaml",
            )


def read_bytes(path: Path, what: str, *, fix: str) -> bytes:
    """The content of a file that the data set needs; `what` and `fix` word the error."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(
            f"cannot read the {what}",
            where=short_path(path),
            expected="a file",
            found=(error.strerror if isinstance(error, OSError) else None) or short(str(error)),
            fix=fix,
        ) from error


def read_text(path: Path, what: str, digest: FileDigest, *, fix: str, fix_encoding: str | None = None) -> str:
    """The content of a text file in UTF-8, included in `digest`; a byte order mark is not part of it.

    Raises:
        InputError: if it cannot be read, for which `fix` says what to do, or is not UTF-8, for which
            `fix_encoding` does (default: `fix`).
    """
    content = read_bytes(path, what, fix=fix)
    digest.add(path.name, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the {what} is not a text file",
            where=path,
            expected="UTF-8",
            found=str(error),
            fix=fix_encoding or fix,
        ) from error


def parse_json_object(content: bytes, path: Path) -> dict[str, Any]:
    """A JSON object without repeated keys, of which a lenient parser would silently drop all but the last."""

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) < len(items):
            raise ValueError("a key occurs twice: " + ", ".join(short(key) for key, _ in items))
        return result

    try:
        values = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the annotation is not JSON",
            where=path,
            expected="a JSON object in UTF-8",
            found=short(str(error)),
            fix="restore or correct the file",
        ) from error
    if not isinstance(values, dict):
        raise InputError("malformed annotation", where=path, expected="a JSON object", found=short(values))
    return values


def picture_size(path: Path, what: str, digest: FileDigest, *, named_in: Path | str) -> tuple[int, int]:
    """(width, height) as the header of a picture says; nothing is decoded.

    Args:
        what: the picture's part in the data set, for the error.
        digest: includes the file under the names of its folder and itself.
        named_in: the file that says the picture exists, for the error.
    """
    content = read_bytes(path, f"{what} named in {named_in}", fix=f"restore the {what}")
    digest.add("/".join(path.parts[-2:]), content)
    try:
        with warnings.catch_warnings():
            # only the header is read, so a huge picture is no danger yet
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_picture(io.BytesIO(content)) as picture:
                width, height = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"unreadable {what}",
            where=path,
            expected="a picture file",
            found=f"{len(content)} bytes that are not one",
            fix=f"restore the {what}",
        ) from error
    return width, height


def tell_left_out(count: int, what: str) -> None:
    """Say on standard error how much a documented rule left out or changed; nothing if `count` is 0."""
    if count:
        print(f"ingest: {what}: {count}", file=sys.stderr)


# --- values -------------------------------------------------------------------------------------------------


def frame(rows: list[dict[str, Any]], schema: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a canonical table with the columns and types of `schema`."""
    return pd.DataFrame(rows, columns=list(schema)).astype(dict(schema))


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether a value of a JSON file is a number from `low` to `high`; NaN and booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_text(value: Any) -> bool:
    """Whether a value is a text that can stand in a table and a message."""
    return isinstance(value, str) and value.isprintable() and value.strip() == value != ""


def is_file_name(text: str) -> bool:
    """Whether a text can name a file: printable, one component of a path, and not hidden."""
    return is_text(text) and not set(text) & set("/\\") and text[0] != "."


def short(value: Any) -> str:
    """A value as text that fits into a message and any terminal."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists in lists
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= 200 else text[:200] + "…"


def short_path(path: Path) -> str:
    """A path as text for a message; one that came out of a damaged file may be anything."""
    text = str(path)
    return text if text.isprintable() else short(text)
