"""Atomic, reproducible files: a reader sees the whole new file or the old one, never half of one."""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from spheremap.errors import InputError


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` to write a file or directory to; it becomes `final` only on success.

    The temporary name keeps the suffix of `final`, since some writers choose the format by it. A directory
    that already stands at `final` is replaced. On an error nothing is left behind, and what a killed process
    left is removed by the next that writes to the same folder.
    """
    final = Path(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final.parent.resolve(), os.getpid())
    temporary = _temporary(final, final.suffix)
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        yield temporary
        if final.is_dir() and temporary.is_dir():
            # no directory is replaced in one step: the old one stays whole until the new one is there
            final.rename(old)
        temporary.replace(final)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk does not say for which file
            error.filename = str(final)
        raise
    finally:
        _remove(temporary)
        _remove(old)


@contextmanager
def scratch(final: Path) -> Iterator[Path]:
    """Yield an empty directory beside `final`, gone after the block; a killed process's is swept later."""
    final = Path(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final.parent.resolve(), os.getpid())
    folder = _temporary(final, ".scratch")
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


def _temporary(final: Path, suffix: str) -> Path:
    return final.with_name(f".{final.stem}.{platform.node()}-{os.getpid()}.partial{suffix}")


@cache
def _sweep(folder: Path, own: int) -> None:
    """Remove unfinished files of processes of this machine that are no more; once per folder and process."""
    name = re.compile(rf"\..*\.{re.escape(platform.node())}-(\d+)\.partial.*", re.DOTALL)
    for path in folder.iterdir():
        if (match := name.fullmatch(path.name)) and (int(match[1]) == own or not _runs(int(match[1]))):
            with suppress(FileNotFoundError):  # swept by another process at the same time
                _remove(path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def publish(final: Path, staged: Path) -> Iterator[Path]:
    """Yield an empty directory to fill, `staged`; it then becomes `final` in one step.

    Unlike that of `atomic_path` it may lie elsewhere; what a killed run left in it is cleared by the next.
    """
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    yield staged
    with atomic_path(final) as temporary:
        try:
            staged.rename(temporary)
        except OSError:  # another file system
            shutil.copytree(staged, temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` with sorted keys, so that equal contents are equal bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def read_json(path: Path, *, fix: str | None = None) -> Any:
    """Read a JSON file; `fix` is for the error.

    Raises:
        InputError: if the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "cannot read the file", where=path, found=error.strerror or str(error), fix=fix
        ) from error
    except ValueError as error:  # covers both bad JSON and bad UTF-8
        raise InputError(
            "not a JSON file", where=path, expected="valid JSON in UTF-8", found=str(error), fix=fix
        ) from error
    except RecursionError as error:
        raise InputError(
            "JSON nested too deeply", where=path, expected="a plain annotation or parameter file", fix=fix
        ) from error


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table without index and with round-trip floats."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock file for the duration of the block; a second process waits.

    The kernel frees the lock when its holder ends, for whatever reason: no stale lock survives `kill -9`.
    """
    lock = Path(lock)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that holds {lock}", file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
