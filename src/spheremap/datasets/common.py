"""What the adapters share: their result, and a digest of the files that they read."""

import hashlib
from dataclasses import dataclass

from spheremap.tables import Tables


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
