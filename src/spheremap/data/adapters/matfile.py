"""Numeric arrays of MATLAB's MAT-files, level 5 (what `save` writes unless told `-v4` or `-v7.3`).

Format: MathWorks, *MAT-File Format*, chapter "Level 5 MAT-File Format". A file is a header of 128 bytes and
then data elements: a tag (type, bytes) and its data, padded to eight bytes. A variable is an element of
type `miMATRIX`, whose data are elements again: flags with the array's class, dimensions, name, real part
and imaginary part. `miCOMPRESSED` wraps one such element in a zlib stream. Only real numeric arrays are
understood; variables of other names are passed over unread. Nothing in such a file is ever executed.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import InputError

HEADER_BYTES = 128
MAX_BYTES = 2**24  # of one decompressed variable; annotations hold a few hundred
MI_INT8, MI_INT32, MI_UINT32, MI_MATRIX, MI_COMPRESSED = 1, 5, 6, 14, 15
# type of stored numbers -> numpy's name without byte order
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC_CLASSES = range(6, 16)  # mxDOUBLE, mxSINGLE, mxINT8 … mxUINT64
COMPLEX_FLAG = 0x0800


class _Damaged(ValueError):
    """A file that breaks the format; becomes an InputError where the path is known."""


@dataclass(frozen=True)
class _Element:
    """One data element."""

    kind: int
    data: bytes


def read_arrays(content: bytes, names: tuple[str, ...], path: Path) -> dict[str, NDArray[np.float64]]:
    """Read some variables of a MAT-file.

    Args:
        content: the file's bytes.
        names: the variables wanted; others are passed over.
        path: the file, for errors.

    Returns:
        The arrays by name, as float64 in the shape that MATLAB gives them.

    Raises:
        InputError: if the file is damaged or a variable is missing, there twice, complex or not numeric.
    """
    arrays: dict[str, NDArray[np.float64]] = {}
    try:
        for name, array in _variables(content, names):
            if name in arrays:
                raise _Damaged(f"variable {name!r} occurs twice")
            arrays[name] = array
    except (_Damaged, zlib.error, struct.error) as error:
        raise InputError(
            "not a usable MAT-file",
            where=path,
            expected="a MATLAB file of level 5 with real numeric arrays " + ", ".join(names),
            found=str(error),
            fix="restore the file",
        ) from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(
            f"the MAT-file lacks the variable {missing[0]!r}",
            where=path,
            expected="the variables " + ", ".join(names),
            found=", ".join(arrays) or "none of them",
            fix="restore the file",
        )
    return arrays


def _variables(content: bytes, names: tuple[str, ...]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER_BYTES])
    if order is None:
        raise _Damaged("no MAT-file header of level 5")
    (version,) = struct.unpack(f"{order}H", content[124:126])
    if version != 0x0100:
        raise _Damaged(f"version {version:#06x} of the format instead of 0x0100")
    for element in _elements(content[HEADER_BYTES:], order):
        matrix = element
        if element.kind == MI_COMPRESSED:
            (matrix,) = _exactly(1, _elements(_decompress(element.data), order), "a compressed variable")
        if matrix.kind != MI_MATRIX:
            raise _Damaged(f"an element of type {matrix.kind} where a variable is expected")
        found = _matrix(matrix.data, order, names)
        if found is not None:
            yield found


def _decompress(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    result = stream.decompress(data, MAX_BYTES)
    if stream.unconsumed_tail:
        raise _Damaged(f"a variable of more than {MAX_BYTES} bytes")
    if not stream.eof:
        raise _Damaged("a compressed variable that breaks off")
    return result


def _elements(data: bytes, order: str) -> list[_Element]:
    """Cut data into elements. Inside a file only compressed ones are not padded."""
    result = []
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise _Damaged("the file breaks off inside a tag")
        kind, size = struct.unpack(f"{order}II", data[at : at + 8])
        if kind >> 16:  # up to four bytes of data stand inside the tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _Damaged(f"a small element of {size} bytes")
            start, end, following = at + 4, at + 4 + size, at + 8
        else:
            start, end = at + 8, at + 8 + size
            following = end if kind == MI_COMPRESSED else end + (-size) % 8
        if end > len(data):
            raise _Damaged(f"an element of {size} bytes where {len(data) - start} are left")
        result.append(_Element(kind, data[start:end]))
        at = following
    return result


def _matrix(data: bytes, order: str, names: tuple[str, ...]) -> tuple[str, NDArray[np.float64]] | None:
    """Name and values of a variable; None if it is not wanted."""
    elements = _elements(data, order)
    if len(elements) < 3:
        raise _Damaged("a variable without flags, dimensions and name")
    flags, dimensions, label = elements[:3]
    if (flags.kind, len(flags.data)) != (MI_UINT32, 8) or label.kind != MI_INT8:
        raise _Damaged("a variable whose flags or name are malformed")
    name = label.data.decode("latin-1")
    if name not in names:
        return None
    (word,) = struct.unpack(f"{order}I", flags.data[:4])
    if word & 0xFF not in NUMERIC_CLASSES or word & COMPLEX_FLAG:
        raise _Damaged(f"variable {name!r} is not a real numeric array (flags {word:#06x})")
    if dimensions.kind != MI_INT32 or len(dimensions.data) < 8 or len(dimensions.data) % 4:
        raise _Damaged(f"malformed dimensions of variable {name!r}")
    shape = tuple(int(n) for n in np.frombuffer(dimensions.data, f"{order}i4"))
    (real,) = _exactly(1, elements[3:], f"the numbers of variable {name!r}")
    if real.kind not in NUMBERS:
        raise _Damaged(f"numbers of type {real.kind} in variable {name!r}")
    dtype = np.dtype(order + NUMBERS[real.kind])
    count = 1
    for n in shape:  # exact, where numpy's product would overflow
        count *= n
    if min(shape) < 0 or count * dtype.itemsize != len(real.data):
        raise _Damaged(f"variable {name!r} of shape {shape} in {len(real.data)} bytes")
    values = np.frombuffer(real.data, dtype).astype(np.float64)
    return name, values.reshape(shape, order="F")


def _exactly(count: int, elements: list[_Element], what: str) -> list[_Element]:
    if len(elements) != count:
        raise _Damaged(f"{len(elements)} elements in {what} instead of {count}")
    return elements
