"""Archives: what is unpacked, and what is refused without leaving anything behind."""

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spheremap.base.errors import InputError
from spheremap.data.download import DownloadEntry, RemoteFile, fetch_entry
from spheremap.data.download.archive import ArchiveRefused, Limits, inside, unpack

CONTENT = {
    "set/a.txt": b"alpha",
    "set/deep/er/b.bin": bytes(range(256)) * 40,
    "set/empty": b"",
    "ü.txt": b"x",
    "x" * 90 + "/" + "y" * 60 + "/" + "z" * 70: b"a long name",
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def make_tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as package:
        for info, content in members:
            info.size = len(content) if info.isreg() else info.size
            package.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **attributes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def make_zip(*members: tuple[str, bytes], mode: int = 0) -> bytes:
    """A zip file, of which the last member may be of another kind."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if mode and (name, content) == members[-1]:
                info.create_system, info.external_attr = 3, mode << 16
            package.writestr(info, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def rewrite(data: bytes, fields: dict[bytes, int], value: bytes) -> bytes:
    """Other bytes at some distance behind the last of each signature."""
    changed = bytearray(data)
    for signature, offset in fields.items():
        at = data.rindex(signature) + offset
        changed[at : at + len(value)] = value
    return bytes(changed)


def pack(kind: str, content: dict[str, bytes]) -> bytes:
    if kind == "zip":
        return make_zip(*content.items())
    return COMPRESS[kind](make_tar(*((member(name), data) for name, data in content.items())))


def unpacked(data: bytes, folder: Path, limits: Limits | None = None) -> dict[str, bytes]:
    """The files that come out, by name; they come into `folder`/target."""
    target = folder / "target"
    target.mkdir(parents=True)
    (folder / "archive").write_bytes(data)
    unpack(folder / "archive", target, limits or Limits())
    files = [path for path in target.rglob("*") if path.is_file()]
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", [*COMPRESS, "zip"])
def test_files_come_out_as_they_went_in(tmp_path: Path, kind: str) -> None:
    assert unpacked(pack(kind, CONTENT), tmp_path) == CONTENT


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats_of_tar(tmp_path: Path, format: int) -> None:
    # 1,048,576 bytes are a multiple of tar's block, so that nothing stands between them and the next header
    content = CONTENT | {"block": random.Random(0).randbytes(1 << 20), "./last": b"b"}
    data = make_tar(*((member(name), part) for name, part in content.items()), format=format)
    content["last"] = content.pop("./last")
    assert unpacked(gzip.compress(data, 1), tmp_path) == content


def test_permissions_and_owners_stay_behind(tmp_path: Path) -> None:
    unpacked(make_tar((member("tool", mode=0o4777, uid=12345), b"#!")), tmp_path)
    found = (tmp_path / "target" / "tool").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_IXUSR | stat.S_IXOTH | stat.S_IWOTH)
    assert found.st_uid == tmp_path.stat().st_uid


# --- what is refused ----------------------------------------------------------------------------------------

GOOD = (member("set/a.txt"), b"alpha")
TARS: dict[str, tuple[tarfile.TarInfo, ...]] = {
    "absolute": (member("/tmp/evil"),),
    "up in the middle": (member("set/../../evil"),),
    "backslash": (member("set\\..\\..\\evil"),),
    "below a file": (member("set/a.txt/b"),),
    "too long": (member("n" * 300),),
    "symlink absolute": (member("set/x", tarfile.SYMTYPE, "/etc/passwd"),),
    "symlink inside": (member("set/x", tarfile.SYMTYPE, "a.txt"),),
    "a link and a file below it": (member("set/x", tarfile.SYMTYPE, "/tmp"), member("set/x/evil")),
    "hard link": (member("set/x", tarfile.LNKTYPE, "set/a.txt"),),
    "hard link out": (member("set/x", tarfile.LNKTYPE, "../outside"),),
    "device": (member("set/x", tarfile.CHRTYPE),),
    "pipe": (member("set/x", tarfile.FIFOTYPE),),
    "unheard of": (member("set/x", b"Q"),),
}
KINDS = {"symlink": stat.S_IFLNK, "device": stat.S_IFCHR, "pipe": stat.S_IFIFO, "socket": stat.S_IFSOCK}


def hostile() -> dict[str, bytes]:
    """Archives of a good file followed by a bad one, by what is bad."""
    found = {f"tar, {why}": make_tar(GOOD, *((info, b"") for info in bad)) for why, bad in TARS.items()}
    for name in ("/tmp/evil", "../evil", "set/../../evil", "set\\..\\evil", "set/a.txt/b", "n" * 300):
        found[f"zip, {name[:20]}"] = make_zip(("set/a.txt", b"alpha"), (name, b"evil"))
    for why, mode in KINDS.items():
        found[f"zip, {why}"] = make_zip(("set/a.txt", b"alpha"), ("set/x", b"/"), mode=mode | 0o644)
    two = make_zip(("set/a.txt", b"alpha"), ("set/b.txt", b"evil"))
    found["zip, NUL"] = two.replace(b"set/b.txt", b"set/b\0txt")
    found["zip, encrypted"] = rewrite(two, {b"PK\3\4": 6, b"PK\1\2": 8}, struct.pack("<H", 1))
    return found


HOSTILE = hostile()


@pytest.mark.parametrize("why", HOSTILE)
def test_hostile_archives_leave_nothing_behind(tmp_path: Path, why: str) -> None:
    """Through the whole of `fetch`, since it is that which cleans up."""
    served, out, work = tmp_path / "served", tmp_path / "data" / "set", tmp_path / "work"
    served.write_bytes(HOSTILE[why])
    entry = DownloadEntry("licence", "citation", "home", (RemoteFile("evil", (served.as_uri(),)),))
    with pytest.raises(ArchiveRefused, match=str(work / "evil")):
        fetch_entry(entry, name="set", out=out, work=work, digests=tmp_path / "digests.json")
    # neither the folder nor a rest of it, no download, no digest; and nothing beside them
    assert sorted(tmp_path.iterdir()) == [tmp_path / "data", served, work]
    assert list((tmp_path / "data").iterdir()) == []
    assert sorted(work.iterdir()) == [work / ".lock"]
    assert not Path("/tmp/evil").exists()


def test_names_inside() -> None:
    assert all(map(inside, ("a/b", "./a//b/", "a..b/...", "ab:c", ".")))
    assert not any(map(inside, ("//a", "a/..", "..", "a\0b", "a\\b")))


@pytest.mark.parametrize("kind", [*COMPRESS, "zip"])
def test_bombs_are_stopped_before_they_are_written(tmp_path: Path, kind: str) -> None:
    data = pack(kind, {"bomb": bytes(8 << 20)})
    limits = Limits(bytes=2 << 20) if kind == "tar" else Limits()
    with pytest.raises(InputError, match=r"(?s)archive.*`limits`"):
        unpacked(data, tmp_path / "1", limits)
    assert list((tmp_path / "1" / "target").iterdir()) == []
    # and with limits that allow it, it is an archive like any other
    assert len(unpacked(data, tmp_path / "2", Limits(ratio=1e6))["bomb"]) == 8 << 20


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_many_files_add_up(tmp_path: Path, kind: str) -> None:
    data = pack(kind, {str(i): bytes(1000) for i in range(10)})
    for i, limits in enumerate((Limits(members=9), Limits(bytes=9999))):
        with pytest.raises(InputError, match="`limits`"):
            unpacked(data, tmp_path / str(i), limits)
    assert len(unpacked(data, tmp_path / "all", Limits(members=10, bytes=10_000))) == 10


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_cannot_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    header = member("x", kind, size=1 << 30).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(ArchiveRefused, match="header of 1073741824 bytes"):
        unpacked(gzip.compress(header + bytes(8 << 20), 1), tmp_path)


def test_a_zip_that_understates_its_size(tmp_path: Path) -> None:
    data = make_zip(("a", bytes(100_000)))
    with pytest.raises(ArchiveRefused, match="CRC"):
        unpacked(rewrite(data, {b"PK\3\4": 22, b"PK\1\2": 24}, struct.pack("<I", 10)), tmp_path)
    assert (tmp_path / "target" / "a").stat().st_size <= 10


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"<html>", b"PK", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"PK\3\4"])
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ArchiveRefused, match=str(tmp_path / "archive")):
        unpacked(data, tmp_path)


@pytest.mark.parametrize("kind", COMPRESS)
def test_an_archive_that_breaks_off(tmp_path: Path, kind: str) -> None:
    """Even where it breaks off between two members, which tarfile takes for a regular end."""
    whole = make_tar((member("a"), b"1" * 512), (member("b"), b"2" * 512))
    compressed = COMPRESS[kind](whole)
    within = compressed[: min(len(compressed) * 2 // 5, 1500)]
    for i, data in enumerate((COMPRESS[kind](whole[:1024]), COMPRESS[kind](whole[:2048]), within)):
        with pytest.raises(ArchiveRefused, match="damaged"):
            unpacked(data, tmp_path / str(i))


def test_a_broken_header_in_the_middle(tmp_path: Path) -> None:
    data = make_tar((member("a"), b"1"), (member("b"), b"2"), (member("c"), b"3"))
    broken = data[: 1024 + 148] + b"0000000\0" + data[1024 + 156 :]  # the checksum of the second header
    with pytest.raises(ArchiveRefused, match="in the middle"):
        unpacked(broken, tmp_path)


@pytest.mark.parametrize("kind", [*COMPRESS, "zip"])
def test_mutated_archives_are_unpacked_or_refused(tmp_path: Path, kind: str) -> None:
    """Never an error from inside a library, never a file outside the target."""
    whole, generator, refusals = pack(kind, CONTENT), random.Random(0), {}
    for i in range(100):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            at = generator.randrange(len(data))
            match generator.randrange(3):
                case 0:
                    data[at] = generator.randrange(256)
                case 1:
                    del data[at : at + generator.randint(1, 600)]
                case 2:
                    data[at:at] = generator.randbytes(generator.randint(1, 40))
        folder = tmp_path / str(i)
        try:
            unpacked(bytes(data), folder)
        except InputError as error:
            refusals[folder] = str(error)
        assert {path.name for path in folder.iterdir()} == {"archive", "target"}
    assert len(refusals) > 50
    assert all(str(folder / "archive") in message for folder, message in refusals.items())
