"""Unpacking of archives from the network: plain files and folders inside the target, and nothing else.

tarfile and zipfile do the work. A whole archive is refused for one member that is absolute, leads upwards or
is a link, device or pipe, and if it holds more than the limits allow. Links are refused even where they point
inside: no data set needs them, and tarfile's filter has been led astray by them.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm.utils import CallbackIOWrapper

from spheremap.base.errors import InputError
from spheremap.base.progress import progress
from spheremap.base.shortage import shortage_of
from spheremap.config.data_sets import Limits

FREE_BYTES = 1 << 20  # unpacked bytes that no ratio forbids: small archives of empty pictures shrink a lot
LARGEST_HEADER = 1 << 16  # bytes of what a tar archive holds beside files and folders: names, times, …


class ArchiveRefused(InputError):
    """The archive is damaged, no archive, or holds what must not be unpacked."""


def unpack(archive: Path, target: Path, limits: Limits) -> None:
    """Unpack a zip or tar archive (plain or compressed; told by its content) into a folder.

    Raises:
        ArchiveRefused: naming archive and member. What was unpacked until then stays in the target, which
            the caller discards.
        InputError: if it is beyond the limits, likewise.
    """
    checks = _Checks(archive, limits)
    size = archive.stat().st_size
    with (
        archive.open("rb") as file,
        progress(total=size, desc=f"unpack {archive.name}", unit="B", unit_scale=True) as bar,
    ):
        is_zip = file.read(4) in (b"PK\3\4", b"PK\5\6")  # the second is that of an empty one
        file.seek(0)
        stream: Any = CallbackIOWrapper(bar.update, file, "read")
        try:
            (_unpack_zip if is_zip else _unpack_tar)(stream, target, checks)
        except InputError:
            raise
        except Exception as error:  # the libraries raise anything for a broken archive
            if shortage_of(error):
                raise
            raise ArchiveRefused(
                "the archive is damaged or of an unknown kind",
                where=archive,
                expected="a whole zip or tar archive, without encryption",
                found=" ".join(str(error).split()) or type(error).__name__,
                fix="if it is a plain file, set `unpack: false` in its entry; else run the command again",
            ) from error


def inside(name: str) -> bool:
    """Whether a relative name stays below its folder."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name)


class _Checks:
    """What is checked of each member before it is written."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self._archive = archive
        self._allowed = min(limits.bytes, max(int(limits.ratio * archive.stat().st_size), FREE_BYTES))
        self._limits = limits
        self._members = self._bytes = 0

    def admit(self, name: str, size: int, plain: bool) -> None:
        """Count a member of so many bytes, if it is a plain file or folder with a name inside the target."""
        if not plain or not inside(name) or size < 0:
            raise ArchiveRefused(
                "the archive is refused",
                where=f"{self._archive}, member {name!r}",
                expected="plain files and folders with relative names",
                found="a name that leads elsewhere" if plain else "a link, device or pipe",
                fix="do not use this archive; tell the authors of the data set",
            )
        self._members += 1
        self._bytes += size
        if self._members > self._limits.members or self._bytes > self._allowed:
            raise InputError(
                "the archive is too large",
                where=self._archive,
                expected=f"at most {self._limits.members} members and {self._allowed} bytes",
                found=f"{self._members} members and {self._bytes} bytes or more",
                fix="if this is a data set that large, raise `limits` of its download in params.yaml",
            )


def _unpack_zip(stream: IO[bytes], target: Path, checks: _Checks) -> None:
    with zipfile.ZipFile(stream) as package:
        for info in package.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            checks.admit(info.orig_filename, info.file_size, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        package.extractall(target)


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """As tarfile's, but refuse what it would read into memory next, if that is large."""
        header = super().frombuf(buf, encoding, errors)
        plain = header.isreg() or header.isdir()
        if not plain and not 0 <= header.size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def _unpack_tar(stream: IO[bytes], target: Path, checks: _Checks) -> None:
    def admitted(package: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in package:
            checks.admit(member.name, member.size, member.isreg() or member.isdir())
            member.mode = 0o755 if member.isdir() else 0o644
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            member.pax_headers = {}  # kept for every member otherwise
            yield member

    with tarfile.open(fileobj=stream, tarinfo=_Header) as package:
        # the first releases of Python 3.11 have no filter; what is admitted is safe without one, too
        package.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        package.extractall(target, members=admitted(package))
        # tarfile takes a broken header for the end, and does not read on to the last checksum
        content: Any = package.fileobj
        content.seek(package.offset)
        if content.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it breaks off, or a header in the middle is broken")
        while content.read(1 << 20):
            continue
