"""What the tests of data ask again and again: refusals, tables of a few rows, equal tables."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.data.tables import SCHEMAS, Tables

Rows = Sequence[Sequence[Any]]


@contextlib.contextmanager
def refusal(*parts: object, error: type[Exception] = InputError) -> Iterator[None]:
    """The block ends with an error whose message holds all `parts`."""
    with pytest.raises(error) as caught:
        yield
    for part in parts:
        assert str(part) in str(caught.value)


def tables_of(images: Rows, keypoints: Rows = (), pairs: Rows = ()) -> Tables:
    """Tables of rows with all columns."""
    of_rows = zip((images, keypoints, pairs), SCHEMAS.values(), strict=True)
    return Tables(*(pd.DataFrame(rows, columns=list(schema)).astype(schema) for rows, schema in of_rows))


def assert_same(found: Tables, expected: Tables, *without: str) -> None:
    """Equal to the last digit, but for some columns of the images."""
    for name in SCHEMAS:
        one, other = (getattr(tables, name) for tables in (found, expected))
        if name == "images":
            one, other = (frame.drop(columns=list(without)) for frame in (one, other))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def stored_turned(path: Path, orientation: int, picture: Image.Image, **options: Any) -> None:
    """Save a picture that says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif, **options)
