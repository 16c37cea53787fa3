"""Archives: what is unpacked, and what is refused without leaving anything behind."""

import bz2
import gzip
import io
import lzma
import os
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
from spheremap.data.download import archive as archive_module
from spheremap.data.download.archive import ArchiveRefused, BeyondLimits, Limits, Unpacked, safe_parts, unpack

CONTENT = {
    "set/a.txt": b"alpha",
    "set/deep/er/b.bin": bytes(range(256)) * 40,
    "set/empty": b"",
    "ü.txt": b"x",
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def make_tar(members: list[tuple[tarfile.TarInfo, bytes]], *, format: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as package:
        for info, content in members:
            info.size = len(content) if info.isreg() else info.size
            package.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def plain(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_zip(members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members:
            package.writestr(name, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def zip_info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def unpack_bytes(data: bytes, folder: Path, limits: Limits | None = None) -> Unpacked:
    """Unpack into `folder`/target."""
    target = folder / "target"
    target.mkdir(exist_ok=True)
    (folder / "archive").write_bytes(data)
    return unpack(folder / "archive", target, limits or Limits())


# --- what is unpacked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*COMPRESS, "zip"])
def test_files_come_out_as_they_went_in(tmp_path: Path, kind: str) -> None:
    if kind == "zip":
        data = make_zip([("set/", b""), ("set/none/", b""), *CONTENT.items()])
    else:
        folders = [(special(name, tarfile.DIRTYPE), b"") for name in ("./", "./set", "set/none")]
        data = COMPRESS[kind](make_tar([*folders, *((plain(n), c) for n, c in CONTENT.items())]))
    counts = unpack_bytes(data, tmp_path)
    assert tree(tmp_path / "target") == CONTENT
    assert (tmp_path / "target" / "set" / "none").is_dir()
    assert counts == Unpacked(len(CONTENT), sum(map(len, CONTENT.values())))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_full_blocks(tmp_path: Path, format: int) -> None:
    long = "x" * 90 + "/" + "y" * 60 + "/" + "z" * 70
    if format != tarfile.USTAR_FORMAT:
        long += "/" + "w" * 200
    # 1,048,576 bytes are a multiple of tar's block, so that nothing stands between them and the next header
    content = {long: b"a", "block": random.Random(0).randbytes(1 << 20), "./last": b"b"}
    unpack_bytes(
        gzip.compress(make_tar([(plain(n), c) for n, c in content.items()], format=format), 1), tmp_path
    )
    assert tree(tmp_path / "target") == {name.removeprefix("./"): c for name, c in content.items()}


def test_permissions_and_owners_stay_behind(tmp_path: Path) -> None:
    info = plain("tool")
    info.mode, info.uid = 0o4777, 12345
    unpack_bytes(make_tar([(info, b"#!")]), tmp_path)
    found = (tmp_path / "target" / "tool").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_IXUSR | stat.S_IXOTH)
    assert found.st_uid == os.getuid()


def test_archives_share_a_folder_but_no_file(tmp_path: Path) -> None:
    unpack_bytes(make_zip([("set/a", b"1")]), tmp_path)
    unpack_bytes(make_tar([(special("set", tarfile.DIRTYPE), b""), (plain("set/b"), b"2")]), tmp_path)
    assert tree(tmp_path / "target") == {"set/a": b"1", "set/b": b"2"}
    with pytest.raises(ArchiveRefused, match="second member of this name"):
        unpack_bytes(make_tar([(plain("set/a"), b"3")]), tmp_path)
    assert tree(tmp_path / "target")["set/a"] == b"1"


# --- what is refused ----------------------------------------------------------------------------------------

LINKS = {
    "symlink out": special("set/x", tarfile.SYMTYPE, "../../outside"),
    "symlink absolute": special("set/x", tarfile.SYMTYPE, "/etc/passwd"),
    "symlink inside": special("set/x", tarfile.SYMTYPE, "a.txt"),
    "hard link": special("set/x", tarfile.LNKTYPE, "set/a.txt"),
    "hard link out": special("set/x", tarfile.LNKTYPE, "../outside"),
    "character device": special("set/x", tarfile.CHRTYPE),
    "block device": special("set/x", tarfile.BLKTYPE),
    "pipe": special("set/x", tarfile.FIFOTYPE),
    "unheard of": special("set/x", b"Q"),
}
NAMES = {
    "absolute": "/tmp/evil",
    "up": "../evil",
    "up in the middle": "set/../../evil",
    "up at the end": "set/..",
    "drive": "C:/evil",
    "backslash": "set\\..\\..\\evil",
    "twice": "set/a.txt",
    "twice in other words": "set/./a.txt",
    "below a file": "set/a.txt/b",
    "too long": "n" * 300,
}


def malicious() -> dict[str, bytes]:
    """Archives of a good file followed by a bad one, by what is bad."""
    good = (plain("set/a.txt"), b"alpha")
    archives = {f"tar, {why}": make_tar([good, (plain(name), b"evil")]) for why, name in NAMES.items()}
    archives |= {f"tar, {why}": make_tar([good, (info, b"")]) for why, info in LINKS.items()}
    archives["tar, a link and a file below it"] = make_tar(
        [good, (special("set/x", tarfile.SYMTYPE, "/tmp"), b""), (plain("set/x/evil"), b"evil")]
    )
    archives["tar, a folder named as a file"] = make_tar([good, (special("set/a.txt", tarfile.DIRTYPE), b"")])
    archives["tar, undecodable name"] = make_tar(
        [good, (plain("a\udcff"), b"evil")], format=tarfile.GNU_FORMAT
    )
    for why, name in NAMES.items():
        if why != "twice":  # zipfile warns when it writes that
            archives[f"zip, {why}"] = make_zip([("set/a.txt", b"alpha"), (name, b"evil")])
    archives["zip, twice"] = make_zip([("set/a.txt", b"alpha"), ("set/b.txt", b"evil")]).replace(
        b"set/b.txt", b"set/a.txt"
    )
    archives["zip, NUL"] = make_zip([("set/a.txt", b"alpha"), ("set/b.txt", b"evil")]).replace(
        b"set/b.txt", b"set/b\0txt"
    )
    for why, mode in {
        "symlink": stat.S_IFLNK,
        "character device": stat.S_IFCHR,
        "block device": stat.S_IFBLK,
        "pipe": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
    }.items():
        archives[f"zip, {why}"] = make_zip([("set/a.txt", b"alpha"), (zip_info("set/x", mode | 0o644), b"/")])
    archives["zip, encrypted"] = encrypted_zip()
    return archives


def encrypted_zip() -> bytes:
    """A zip file whose second member says that it is encrypted."""
    data = bytearray(make_zip([("set/a.txt", b"alpha"), ("set/b.txt", b"evil")]))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature, data.index(signature) + 1) + offset
        data[at : at + 2] = struct.pack("<H", 1)
    return bytes(data)


ARCHIVES = malicious()


@pytest.mark.parametrize("why", ARCHIVES)
def test_malicious_archives_leave_nothing_behind(tmp_path: Path, why: str) -> None:
    """Through the whole of `fetch`, since it is that which cleans up."""
    served, out, work = tmp_path / "served", tmp_path / "data" / "set", tmp_path / "work"
    served.write_bytes(ARCHIVES[why])
    entry = DownloadEntry("licence", "citation", "home", (RemoteFile("evil", (served.as_uri(),)),))
    digests = tmp_path / "digests.json"
    with pytest.raises(ArchiveRefused) as caught:
        fetch_entry(entry, name="set", out=out, work=work, digests=digests)
    assert str(work / "evil") in str(caught.value)
    assert "found: " in str(caught.value)
    # neither the folder nor a rest of it, no download, no digest; and nothing beside them
    assert sorted(tmp_path.iterdir()) == [tmp_path / "data", served, work]
    assert list((tmp_path / "data").iterdir()) == []
    assert sorted(work.iterdir()) == [work / "lock"]
    assert not Path("/tmp/evil").exists()


def test_an_encrypted_file_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match=r"(?s)member 'set/b\.txt'.*an encrypted file"):
        unpack_bytes(encrypted_zip(), tmp_path)


def test_the_good_member_alone_is_accepted(tmp_path: Path) -> None:
    """So that the refusals above are due to the bad members."""
    for data in (make_tar([(plain("set/a.txt"), b"alpha")]), make_zip([("set/a.txt", b"alpha")])):
        (tmp_path / str(len(data))).mkdir()
        assert unpack_bytes(data, tmp_path / str(len(data))) == Unpacked(1, 5)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b", ("a", "b")),
        ("./a//b/", ("a", "b")),
        ("a..b/...", ("a..b", "...")),
        ("ab:c", ("ab:c",)),
        (".", ()),
        ("//a", None),
        ("a/..", None),
        ("c:a", None),
        ("a\0b", None),
        ("\udc80", None),
    ],
)
def test_safe_names(name: str, parts: tuple[str, ...] | None) -> None:
    assert safe_parts(name) == parts


# --- bombs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*COMPRESS, "zip"])
def test_bombs_are_stopped_early(tmp_path: Path, kind: str) -> None:
    zeros = bytes(32 << 20)
    if kind == "zip":
        data = make_zip([("bomb", zeros)])
    else:
        data = COMPRESS[kind](make_tar([(plain("bomb"), zeros)]))
    limits = Limits(bytes=8 << 20) if kind == "tar" else Limits()
    with pytest.raises(BeyondLimits, match=r"(?s)too large.*archive.*expected.*`limits`"):
        unpack_bytes(data, tmp_path, limits)
    assert sum(map(len, tree(tmp_path / "target").values())) <= 8 << 20
    # and with limits that allow it, it is an archive like any other
    (tmp_path / "again").mkdir()
    assert unpack_bytes(data, tmp_path / "again", Limits(ratio=1e6)).bytes == len(zeros)


def test_many_small_files_are_a_bomb_too(tmp_path: Path) -> None:
    names = [f"{i}" for i in range(20)]
    for i, data in enumerate(
        (make_zip([(n, b"") for n in names]), make_tar([(plain(n), b"") for n in names]))
    ):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(BeyondLimits, match="at most 19 members"):
            unpack_bytes(data, tmp_path / str(i), Limits(members=19))
        (tmp_path / f"{i} again").mkdir()
        assert unpack_bytes(data, tmp_path / f"{i} again", Limits(members=20)).files == 20


def test_many_files_add_up(tmp_path: Path) -> None:
    data = make_tar([(plain(str(i)), bytes(1000)) for i in range(10)])
    with pytest.raises(BeyondLimits, match="at most 9999 bytes"):
        unpack_bytes(data, tmp_path, Limits(bytes=9999))
    (tmp_path / "again").mkdir()
    assert unpack_bytes(data, tmp_path / "again", Limits(bytes=10_000)).bytes == 10_000


def test_a_header_cannot_fill_the_memory(tmp_path: Path) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        header = special("x", kind)
        header.size = 1 << 30
        data = header.tobuf(tarfile.USTAR_FORMAT) + bytes(8 << 20)
        with pytest.raises(ArchiveRefused, match=r"(?s)damaged.*a header of \d+ bytes"):
            unpack_bytes(gzip.compress(data, 1), tmp_path)


def test_a_zip_that_understates_its_size(tmp_path: Path) -> None:
    data = bytearray(make_zip([("a", bytes(100_000))]))
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 10)
    with pytest.raises(ArchiveRefused, match="damaged"):
        unpack_bytes(bytes(data), tmp_path)
    assert all(len(content) <= 10 for content in tree(tmp_path / "target").values())


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"<html>", b"PK", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", bytes(1024)])
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ArchiveRefused, match=r"(?s)(not an|damaged).*found: "):
        unpack_bytes(data, tmp_path)


@pytest.mark.parametrize("kind", COMPRESS)
def test_an_archive_that_breaks_off(tmp_path: Path, kind: str) -> None:
    """Even where it breaks off between two members, which tarfile takes for a regular end."""
    whole = make_tar([(plain("a"), b"1" * 512), (plain("b"), b"2" * 512)])
    compressed = COMPRESS[kind](whole)
    within = compressed[: min(len(compressed) * 2 // 5, 1500)]
    for i, data in enumerate((COMPRESS[kind](whole[:1024]), COMPRESS[kind](whole[:2048]), within)):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(ArchiveRefused, match="damaged"):
            unpack_bytes(data, tmp_path / str(i))


def test_a_broken_header_in_the_middle(tmp_path: Path) -> None:
    data = bytearray(make_tar([(plain("a"), b"1"), (plain("b"), b"2"), (plain("c"), b"3")]))
    data[1024 + 148 : 1024 + 156] = b"0000000\0"  # the checksum of the second header
    with pytest.raises(ArchiveRefused, match="in the middle"):
        unpack_bytes(bytes(data), tmp_path)


@pytest.mark.parametrize("kind", [*COMPRESS, "zip"])
def test_mutated_archives_are_unpacked_or_refused(tmp_path: Path, kind: str) -> None:
    """Never an error from inside a library, never a file outside the target, never one with other content."""
    if kind == "zip":
        whole = make_zip(list(CONTENT.items()))
    else:
        whole = COMPRESS[kind](make_tar([(plain(n), c) for n, c in CONTENT.items()]))
    generator = random.Random(0)
    refusals: dict[Path, str] = {}
    for i in range(150):
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
        folder.mkdir()
        try:
            counts = unpack_bytes(bytes(data), folder)
        except InputError as error:
            refusals[folder] = str(error)
        else:
            found = tree(folder / "target")
            assert counts == Unpacked(len(found), sum(map(len, found.values())))
        assert {path.name for path in folder.iterdir()} == {"archive", "target"}
    assert all(str(folder / "archive") in message for folder, message in refusals.items())
    assert len(refusals) > 75


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(stream: object, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module, "write_all", full)
    with pytest.raises(InputError, match=r"(?s)the disk is full.*target/a") as caught:
        unpack_bytes(make_tar([(plain("a"), b"1")]), tmp_path)
    assert not isinstance(caught.value, ArchiveRefused)  # it is not the archive's fault
