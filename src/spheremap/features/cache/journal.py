"""An append-only file of finished records, so that a killed run goes on where it stopped.

Layout: 8 bytes magic, 32 bytes key, then records of one fixed size: number (uint32), CRC-32 (uint32), tokens
(N·D float16), box (4 float64), mask (N uint8), all little-endian. The key is a digest of everything that
determines the records: a journal with another key, or anything else at its head, is started afresh.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"SPHJRNL1"
_HEAD = struct.Struct("<II")  # number, CRC-32 of number and payload


@dataclass(frozen=True)
class Record:
    """Result of one view: tokens `(N, D)` float16, mask `(N,)` bool, box `(4,)` float64."""

    tokens: NDArray[np.float16]
    mask: NDArray[np.bool_]
    box: NDArray[np.float64]


class Journal:
    """Journal open for appending, positioned after the last whole batch that is intact.

    Attributes:
        shape: (N, D) of the tokens.
        count: number of records it holds.

    Args:
        path: the file; created if need be.
        key: 32 bytes that identify the work.
        shape: (N, D) of the tokens.
        total: number of records of the finished journal.
        batch: records per batch. Batches are fixed: record i belongs to batch i // batch, and a run resumes
            at the start of a batch, since results may depend in the last bit on what is computed together.
    """

    def __init__(self, path: Path, key: bytes, shape: tuple[int, int], total: int, batch: int) -> None:
        n, dim = shape
        self.shape = shape
        self._record = _HEAD.size + n * dim * 2 + 4 * 8 + n
        self._prefix = _MAGIC + key
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self.count = 0
        if os.pread(self._fd, len(self._prefix), 0) == self._prefix:
            while self.count < total and self._is_intact(self.count):
                self.count += 1
            if self.count < total:
                self.count -= self.count % batch
        else:
            os.ftruncate(self._fd, 0)
            _write_all(self._fd, self._prefix, 0)
        os.ftruncate(self._fd, self._offset(self.count))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def append(self, records: list[Record]) -> None:
        """Add one batch."""
        for number, record in enumerate(records, start=self.count):  # one at a time: a batch may be large
            _write_all(self._fd, self._encode(number, record), self._offset(number))
        self.count += len(records)

    def __iter__(self) -> Iterator[Record]:
        """All records in order, one at a time in memory."""
        return (self._decode(number) for number in range(self.count))

    def _offset(self, number: int) -> int:
        return len(self._prefix) + number * self._record

    def _encode(self, number: int, record: Record) -> bytes:
        payload = b"".join(
            [
                np.ascontiguousarray(record.tokens, dtype="<f2").tobytes(),
                np.ascontiguousarray(record.box, dtype="<f8").tobytes(),
                np.ascontiguousarray(record.mask, dtype="u1").tobytes(),
            ]
        )
        return _HEAD.pack(number, zlib.crc32(payload, number)) + payload

    def _is_intact(self, number: int) -> bool:
        data = os.pread(self._fd, self._record, self._offset(number))
        return len(data) == self._record and _HEAD.unpack_from(data) == (
            number,
            zlib.crc32(memoryview(data)[_HEAD.size :], number),
        )

    def _decode(self, number: int) -> Record:
        data = os.pread(self._fd, self._record, self._offset(number))
        n, dim = self.shape
        tokens = np.frombuffer(data, "<f2", n * dim, _HEAD.size).reshape(n, dim)
        box = np.frombuffer(data, "<f8", 4, _HEAD.size + n * dim * 2)
        mask = np.frombuffer(data, "u1", n, _HEAD.size + n * dim * 2 + 32)
        return Record(tokens, mask.astype(bool), box)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
