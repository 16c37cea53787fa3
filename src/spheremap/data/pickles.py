"""Pickles of plain data, read without running anything.

A pickle is a program that calls what it names. Here it can name nothing but stand-ins of our own for NumPy's
numbers and arrays and for bytes, which turn into plain data.
"""

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from spheremap.base.errors import InputError, short

MAX_PICKLE_BYTES = 1 << 20  # of an annotation: real ones have a few thousand
_NAMES: dict[type, str] = {dict: "dictionary", list: "list"}
MAX_ARRAY_BYTES = 1 << 8  # of a NumPy value in it; a box has 32


def read_pickle(
    content: bytes,
    path: Path,
    *,
    kind: type = dict,
    most: int = MAX_PICKLE_BYTES,
    array: int = MAX_ARRAY_BYTES,
) -> Any:
    """The dictionary or list that a pickle holds, NumPy's numbers and arrays in it as numbers and lists.

    Nothing of ours or of a library can be called, and memory is bounded by the size of the content.

    Args:
        kind: what it must hold.
        most: bytes of it, at most.
        array: bytes of each NumPy value in it, at most.

    Raises:
        InputError: if the file is damaged, holds something else, or names what plain data do not need.
    """
    try:
        if len(content) > most:
            raise ValueError(f"{len(content)} bytes")
        for instruction, argument, _ in pickletools.genops(content):
            # the unpickler makes room for as many values as the highest number under which one is kept
            if instruction.name.endswith("PUT") and (argument or 0) > len(content):
                raise ValueError(f"a value kept as number {argument}")
        value = _Unpickler(io.BytesIO(content), array).load()
        if not isinstance(value, kind):
            raise ValueError(short(value))
    except Exception as error:  # a damaged pickle may raise anything
        raise InputError(
            "the pickle cannot be read",
            where=path,
            expected=f"a pickled {_NAMES[kind]} of texts, numbers and lists, at most {most} bytes",
            found=short(str(error)),
            fix="restore the file",
        ) from error
    return value


class _Unpickler(pickle.Unpickler):
    """The standard unpickler, to which every name stands for one of the few things below, or for an error."""

    def __init__(self, stream: io.BytesIO, array: int) -> None:
        super().__init__(stream)
        self._array = array

    def find_class(self, module: str, name: str) -> Any:
        # a new object each time, so that a pickle that changes its attributes changes nothing else
        return _Name(f"{module}.{name}".replace("._core.", ".core."), self._array)


class _Name:
    """What a pickle names, to be called by it: the makings of NumPy's values, and of bytes in protocol 2."""

    def __init__(self, name: str, array: int) -> None:
        self.name, self.array = name, array

    def __call__(self, *arguments: Any) -> Any:
        match self.name, arguments:
            case "numpy.dtype", [str(code), *_] if re.fullmatch("[fiu][1248]|b1", code):
                return _Type(code, self.array)
            case "numpy.core.multiarray.scalar", [_Type() as kind, bytes(data)]:
                return kind.decode(data, ())
            case "numpy.core.multiarray._reconstruct", [_Name(name="numpy.ndarray"), *_]:
                return _Array()
            case "_codecs.encode", [str(text), "latin1"] if len(text) <= self.array:
                return text.encode("latin-1")
        raise ValueError(f"it asks for {self.name}, in a way that plain data do not")


class _Type:
    """A type of numbers."""

    def __init__(self, code: str, array: int) -> None:
        self.code, self.order, self.array = code, "=", array

    def __setstate__(self, state: Any) -> None:
        _, self.order, *_ = state

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Any:
        """Numbers from their bytes, as nested lists of `shape`."""
        if len(data) > self.array:
            raise ValueError(f"an array of {len(data)} bytes")
        values = np.frombuffer(data, np.dtype({"<": "<", ">": ">"}.get(self.order, "=") + self.code))
        return values.reshape(shape).tolist() if values.size else []


class _Array(list[Any]):
    """An array, which is filled after it was made."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Type) or (fortran and len(shape) > 1):
            raise ValueError("an unusual array")
        self[:] = kind.decode(data, shape)
