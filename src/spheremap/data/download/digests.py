"""Trust on first use: digests of downloads whose authors publish none, kept in a file that Git tracks.

    {"<entry>/<file>": {"sha256": …, "size": …}, …}

The first download writes a digest down, and says so; every later one, by whomever, is compared with it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pydantic.dataclasses import dataclass

from spheremap.base.errors import InputError
from spheremap.base.files import read_json, write_json
from spheremap.config.fields import STRICT, Sha256
from spheremap.config.slices import parse
from spheremap.data.download.client import disk_errors


@dataclass(frozen=True, config=STRICT)
class Digest:
    """Identity of a downloaded file."""

    sha256: Sha256
    size: int  # bytes


def recorded_digest(path: Path, key: str) -> Digest | None:
    """The digest that an earlier download wrote down, if any.

    Raises:
        InputError: if the file is malformed.
    """
    return _read(path).get(key)


def record_digest(path: Path, key: str, digest: Digest) -> None:
    """Write a digest down; several processes may do so at once.

    Raises:
        InputError: if another digest has been written down for the file meanwhile, or the file is malformed.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        known = _read(path)
        if known.get(key, digest) != digest:
            raise InputError(
                f"two downloads of {key} differ",
                where=path,
                expected=known[key].sha256,
                found=digest.sha256,
                fix="find out which is right; remove the line of the wrong one",
            )
        with disk_errors(path):
            write_json(path, {name: asdict(value) for name, value in (known | {key: digest}).items()})


def _read(path: Path) -> dict[str, Digest]:
    if not path.exists():
        return {}
    known: dict[str, Digest] = parse(read_json(path), dict[str, Digest], where=path)
    return known


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder itself, since a lock file would lie about among tracked files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
