"""Unpacking of archives from the network: plain files and folders inside the target, and nothing else.

A whole archive is refused for one member that is absolute, leads upwards, is named twice, is a link, device
or pipe, or is encrypted; and if it holds more members or bytes than the limits allow. Links are refused even
where they point inside, since no data set needs them. Permissions, owners and times are not taken over.
"""

import bz2
import contextlib
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from spheremap.base.errors import InputError
from spheremap.base.progress import progress
from spheremap.config.data_sets import Limits
from spheremap.data.download.client import disk_errors, write_all

CHUNK = 1 << 20  # bytes per read
LARGEST_HEADER = 1 << 22  # bytes of one tar header with its extensions; these are held in memory
FREE_BYTES = 1 << 20  # unpacked bytes that no ratio forbids: small archives of empty pictures shrink a lot
_DECOMPRESSORS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive."""

    files: int
    bytes: int


class ArchiveRefused(InputError):
    """The archive is damaged, no archive, or holds what must not be unpacked."""


class BeyondLimits(InputError):
    """The archive holds more than the limits allow."""


def unpack(archive: Path, target: Path, limits: Limits) -> Unpacked:
    """Unpack a zip or tar archive (plain, gzip, bzip2 or xz; told by its content) into a folder.

    The folder may hold files of other archives already, but none of the same name.

    Raises:
        ArchiveRefused: naming archive and member. What was unpacked until then stays in the target, which
            the caller discards.
        BeyondLimits: if it is too large, likewise.
        InputError: if the disk is full.
    """
    with archive.open("rb") as stream:
        head = stream.read(262)
    task = _Task(archive, target, limits)
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return _unpack_zip(task)
    opener = next((opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None)
    if opener is None and head[257:262] != b"ustar":
        raise ArchiveRefused(
            "not an archive",
            where=archive,
            expected="a zip file, or a tar file, plain or compressed with gzip, bzip2 or xz",
            found=f"a file that begins with {head[:8]!r}",
        )
    return _unpack_tar(task, opener)


def safe_parts(name: str) -> tuple[str, ...] | None:
    """The components of a relative name that stays below its folder; None if it does not."""
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or drive or ".." in path.parts or "\\" in name or "\0" in name:
        return None
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # the name is in no known encoding
        return None
    return path.parts


class _Task:
    """The unpacking of one archive: counts, checks and writes."""

    def __init__(self, archive: Path, target: Path, limits: Limits) -> None:
        self.archive = archive
        self.target = target
        self.limits = limits
        by_ratio = max(int(limits.ratio * archive.stat().st_size), FREE_BYTES)
        self.allowed = min(limits.bytes, by_ratio)  # unpacked bytes
        self.files = self.bytes = self.members = 0

    def refuse(self, member: str, found: str) -> ArchiveRefused:
        return ArchiveRefused(
            "the archive is refused",
            where=f"{self.archive}, member {member!r}",
            expected="plain files and folders with relative names, each once",
            found=found,
            fix="do not use this archive; tell the authors of the data set",
        )

    def damaged(self, found: str) -> ArchiveRefused:
        return ArchiveRefused(
            "the archive is damaged",
            where=self.archive,
            found=found,
            fix="run the command again to download it anew",
        )

    def beyond(self, what: str, limit: str) -> BeyondLimits:
        return BeyondLimits(
            "the archive is too large",
            where=self.archive,
            expected=limit,
            found=what,
            fix="if this is a data set that large, raise `limits` of its download in params.yaml",
        )

    def admit(self, name: str) -> Path:
        """Check a member's name and count it; the path to write it to."""
        self.members += 1
        if self.members > self.limits.members:
            raise self.beyond("more members", f"at most {self.limits.members} members")
        parts = safe_parts(name)
        if parts is None:
            raise self.refuse(name, "a name that is absolute, leads upwards or is not portable")
        return self.target.joinpath(*parts)

    def admit_bytes(self, count: int) -> None:
        """Check that so many more bytes are allowed."""
        if self.bytes + count > self.allowed:
            limit = f"at most {self.allowed} bytes, from an archive of {self.archive.stat().st_size}"
            raise self.beyond(f"{self.bytes + count} bytes or more", limit)

    def make_folder(self, path: Path, member: str) -> None:
        try:
            with disk_errors(path):
                path.mkdir(parents=True, exist_ok=True)
        except InputError as error:
            raise self._named(error, member) from error

    def write(self, path: Path, member: str, source: IO[bytes]) -> None:
        """Copy one file; it must not exist."""
        if path == self.target:
            raise self.refuse(member, "a file without a name")
        self.make_folder(path.parent, member)
        try:
            with disk_errors(path):
                sink = path.open("xb", buffering=0)
        except InputError as error:
            raise self._named(error, member) from error
        with sink:
            while True:
                with self.reading():
                    chunk = source.read(CHUNK)
                if not chunk:
                    break
                self.admit_bytes(len(chunk))
                with disk_errors(path):
                    write_all(sink, chunk)
                self.bytes += len(chunk)
        self.files += 1

    def _named(self, error: InputError, member: str) -> InputError:
        """The error itself, or a refusal if it is due to the member's name."""
        cause = error.__cause__
        if isinstance(cause, FileExistsError | NotADirectoryError | IsADirectoryError):
            return self.refuse(member, "a second member of this name")
        if isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG:
            return self.refuse(member, "a name that is too long")
        return error

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn errors of the libraries that read archives into refusals."""
        try:
            yield
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            OSError,
            ValueError,
            ArithmeticError,
            LookupError,
            NotImplementedError,
            RecursionError,
            RuntimeError,
        ) as error:
            raise self.damaged(str(error) or type(error).__name__) from error


# --- zip ----------------------------------------------------------------------------------------------------


def _unpack_zip(task: _Task) -> Unpacked:
    with task.reading():
        package = zipfile.ZipFile(task.archive)
    with package:
        members = package.infolist()
        sizes = sum(member.file_size for member in members)
        task.admit_bytes(sizes)  # what the directory claims; what comes is counted, too
        with progress(total=sizes, desc=f"unpack {task.archive.name}", unit="B", unit_scale=True) as bar:
            for member in members:
                path = task.admit(member.orig_filename)
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise task.refuse(member.filename, "a link, device or pipe")
                if member.flag_bits & 1:
                    raise task.refuse(member.filename, "an encrypted file")
                if member.is_dir():
                    task.make_folder(path, member.filename)
                    continue
                with task.reading():
                    source = package.open(member)
                with source:
                    task.write(path, member.filename, source)
                bar.update(member.file_size)
    return Unpacked(task.files, task.bytes)


# --- tar ----------------------------------------------------------------------------------------------------


def _unpack_tar(task: _Task, opener: Any) -> Unpacked:
    with task.archive.open("rb") as raw, contextlib.ExitStack() as stack:
        stream = _Bounded(task, stack.enter_context(opener(raw)) if opener else raw)
        with task.reading():
            package = stack.enter_context(tarfile.TarFile(fileobj=stream))  # type: ignore[arg-type]
        size = task.archive.stat().st_size
        with progress(total=size, desc=f"unpack {task.archive.name}", unit="B", unit_scale=True) as bar:
            while True:
                with task.reading():
                    member = package.next()
                if member is None:
                    break
                path = task.admit(member.name)
                if member.isdir():
                    task.make_folder(path, member.name)
                elif member.isreg():
                    task.admit_bytes(member.size)
                    with task.reading():
                        source = package.extractfile(member)
                    assert source is not None  # since it is a plain file
                    with source:
                        task.write(path, member.name, source)
                else:
                    raise task.refuse(member.name, "a link, device or pipe")
                bar.update(raw.tell() - bar.n)
            _check_end(task, package, stream)
            bar.update(size - bar.n)
    return Unpacked(task.files, task.bytes)


def _check_end(task: _Task, package: tarfile.TarFile, stream: "_Bounded") -> None:
    """Check that the archive ends where it should: tarfile takes a damaged header for the end, too."""
    with task.reading():
        stream.seek(package.offset)
        block = stream.read(tarfile.BLOCKSIZE)
        if block != tarfile.NUL * tarfile.BLOCKSIZE:
            raise task.damaged("it breaks off, or a header in the middle is broken")
        while stream.read(CHUNK):  # up to the checksum of the compressed stream
            continue


class _Bounded:
    """A decompressed stream that neither runs on for ever nor fills the memory with one header."""

    def __init__(self, task: _Task, stream: IO[bytes]) -> None:
        self._task = task
        self._stream = stream
        self._end = task.allowed + 4 * tarfile.BLOCKSIZE * task.limits.members

    def read(self, size: int) -> bytes:
        if size > LARGEST_HEADER:
            raise self._task.damaged(f"it has a header of {size} bytes")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if position > self._end + CHUNK:
            raise self._task.beyond("a longer stream", f"at most {self._end} bytes, headers included")
