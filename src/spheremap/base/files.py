"""Atomic, reproducible files: a reader sees the whole new file or the old one, never half of one."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spheremap.base.errors import InputError

if TYPE_CHECKING:
    import pandas as pd  # else it would be loaded wherever params.yaml is read

# of a path at which nothing can be made; what the machine lacks (`spheremap.base.shortage`) is not among them
_UNUSABLE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


def cache_folder() -> Path:
    """In which fetched heads and weights are kept: $XDG_CACHE_HOME/spheremap, or ~/.cache/spheremap."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spheremap"


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` to write a file or directory to; it becomes `final` only on success.

    The temporary name keeps the suffix of `final`, since some writers choose the format by it. A directory
    that already stands at `final` is replaced. On an error nothing is left behind, and what a killed process
    left is removed by the next that writes to the same folder.

    Raises:
        InputError: if nothing can be made at `final`, or a directory stands where a file is to, or a file
            where a directory is to.
        OSError: whatever else the system says; of `final`, not of the temporary path.
    """
    final = Path(final)
    _check_place(final)
    _make_folder(final)
    _sweep(final.parent.resolve(), os.getpid())
    temporary = _temporary(final, final.suffix)
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        with _errors_of(final, temporary, _UNUSABLE):
            yield temporary
        with _errors_of(final, temporary, {errno.EISDIR, errno.ENOTDIR}):
            if final.is_dir() and temporary.is_dir():
                # no directory is replaced in one step: the old one stays whole until the new one is there
                final.rename(old)
            temporary.replace(final)
    finally:
        _remove(temporary)
        _remove(old)


@contextmanager
def _errors_of(final: Path, temporary: Path, unusable: Set[int]) -> Iterator[None]:
    """Have the system's errors name the path that the user chose, not the temporary one.

    Raises:
        InputError: for those of the numbers `unusable` about the path itself.
    """
    try:
        yield
    except OSError as error:
        name = None if error.filename is None else str(error.filename)
        # HDF5 has the name in its text only
        itself = name == str(temporary) or (name is None and str(temporary) in str(error))
        if itself and error.errno is not None and error.errno in unusable:
            raise _unusable(final, os.strerror(error.errno)) from error
        if name is not None and name.startswith(str(temporary)):
            chosen = str(final) + name.removeprefix(str(temporary))
            raise OSError(error.errno, error.strerror, chosen) from error
        if name is None and error.errno is not None:  # a full disk does not say for which file
            error.filename = str(final)
        raise


def _check_place(final: Path) -> None:
    """Refuse what a file or directory must not replace.

    Raises:
        InputError: if it is a device or pipe, the working directory or one above, or has too long a name.
    """
    if final.name in ("", ".."):
        raise _unusable(final, "the folder that the command runs in, or one above")
    try:
        _temporary(final, f"{final.suffix}.old").exists()  # the longest of the names that are used
        special = final.exists() and not (final.is_file() or final.is_dir())
    except OSError as error:
        if error.errno in _UNUSABLE:
            raise _unusable(final, os.strerror(error.errno)) from error
        raise
    if special:
        raise _unusable(final, "a device or pipe")


def _make_folder(final: Path) -> None:
    """Make the directory in which `final` is to be.

    Raises:
        InputError: if there can be none.
        OSError: if the machine lacks something for it.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _UNUSABLE:
            raise _unusable(final, f"{error.strerror}: {error.filename}") from error
        raise


def _unusable(final: Path, found: str) -> InputError:
    return InputError(
        "cannot write to this path",
        where=final,
        expected="a path at which the file or folder can be made",
        found=found,
        fix="name another path",
    )


@contextmanager
def scratch(final: Path) -> Iterator[Path]:
    """Yield an empty directory beside `final`, gone after the block; a killed process's is swept later.

    Raises:
        InputError: if there can be no directory that holds `final`.
    """
    final = Path(final)
    _make_folder(final)
    _sweep(final.parent.resolve(), os.getpid())
    folder = _temporary(final, ".scratch")
    with _errors_of(final, folder, _UNUSABLE):
        folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuse files to write that would replace what a command reads, or one another.

    Args:
        outputs: option to the file that it names; None: not given.
        inputs: the files that are read; None: not given.

    Raises:
        InputError: if an output is an input, another output, a directory, a device or a pipe.
    """
    read = [path for path in inputs if path is not None]
    written: list[Path] = []
    for option, path in outputs.items():
        if path is None:
            continue
        for others, what in ((read, "a file that the command reads"), (written, "another output as well")):
            if any(_same(path, other) for other in others):
                raise InputError(
                    f"{option} would overwrite a file that is needed",
                    where=path,
                    expected="a file of its own",
                    found=what,
                    fix=f"name another file with {option}",
                )
        _check_place(path)
        if path.is_dir():
            raise _unusable(path, os.strerror(errno.EISDIR))
        written.append(path)


def refuse_foreign(out: Path, ours: bool, rest: Iterable[str] = ()) -> None:
    """Refuse to replace a folder that spheremap did not write: it may be somebody's only copy.

    Args:
        out: the folder.
        ours: whether it bears the mark of the command that is to replace it.
        rest: folders in it that are left when Snakemake has deleted a rule's outputs, and the mark with them.

    Raises:
        InputError: if it holds any other file, or is one.
    """
    if ours or not out.exists():
        return
    left = [out / name for name in rest]
    files = (path for path in out.rglob("*") if not path.is_dir() and not any(map(path.is_relative_to, left)))
    first = next(files, None)
    if first is None and out.is_dir():
        return
    what = (
        "a link to other content"
        if out.is_symlink()
        else "a file"
        if first is None
        else f"{first.name} in it"
    )
    raise InputError(
        "will not replace what spheremap did not write",
        where=out,
        expected="nothing, an empty folder, or one that the same command wrote",
        found=what,
        fix="name another folder, or move away what is there",
    )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):  # on a read-only disk even removing nothing is an error
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


def write_csv(path: Path, frame: "pd.DataFrame") -> None:
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

    Raises:
        InputError: if there can be no directory that holds the lock.
    """
    lock = Path(lock)
    _make_folder(lock)
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that holds {lock}", file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
