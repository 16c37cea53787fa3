"""Downloads from a server that fails as real ones do, and what `spheremap fetch` makes of them."""

import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from data_checks import refusal
from faulty_server import Fault, FaultyServer, Resource, faulty_server

from spheremap.base.files import read_json
from spheremap.cli import main
from spheremap.data.download import MANIFEST, DownloadEntry, RemoteFile, client, drive, fetch_entry
from spheremap.data.download.client import Expected, download

DATA, OTHER = (random.Random(seed).randbytes(3_000_000) for seed in (0, 1))
HALF = 1_500_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(client, "RETRY", client.RETRY.new(backoff_factor=0))
    monkeypatch.setattr(client, "TIMEOUT", 0.4)
    with faulty_server() as running:
        yield running


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


EXPECTED = Expected(len(DATA), sha256(DATA))


class Task:
    """The download of /f, in a folder of its own."""

    def __init__(self, server: FaultyServer, folder: Path) -> None:
        self.server = server
        self.final = folder / "f.bin"

    def serve(self, *faults: Fault, **resource: Any) -> Resource:
        self.server.requests.clear()
        self.server.resources["/f"] = Resource(**{"content": DATA, "faults": list(faults), **resource})
        return self.server.resources["/f"]

    def run(self, expected: Expected = EXPECTED, *more: str) -> str:
        return download([self.server.url(path) for path in ("/f", *more)], self.final, expected)

    def fail(self, *parts: str, expected: Expected = EXPECTED, more: tuple[str, ...] = ()) -> None:
        with refusal(*parts):
            self.run(expected, *more)
        assert not self.final.exists()

    def break_off(self, expected: Expected = EXPECTED, **resource: Any) -> Resource:
        """Have half of the file; each attempt of a run ends there."""
        served = self.serve(Fault(cut=HALF), *[Fault(cut=0)] * client.ATTEMPTS, **resource)
        self.fail(self.server.url("/f"), expected=expected)
        served.faults.clear()
        self.server.requests.clear()
        return served

    def assert_done(self, data: bytes = DATA) -> None:
        """The file is there, and no rest of any attempt; it is taken away again."""
        assert self.final.read_bytes() == data
        assert [path.name for path in self.final.parent.iterdir()] == ["f.bin"]
        self.final.unlink()

    @property
    def ranges(self) -> list[str | None]:
        return self.server.ranges_of("/f")


@pytest.fixture
def task(server: FaultyServer, tmp_path: Path) -> Task:
    return Task(server, tmp_path)


# --- connections --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "chunked"), [(Expected(), True), (Expected(len(DATA)), False), (EXPECTED, True)]
)
def test_a_file(task: Task, expected: Expected, chunked: bool) -> None:
    task.serve(chunked=chunked)
    assert task.run(expected) == sha256(DATA)
    task.assert_done()
    assert task.ranges == [None]


def test_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(DATA)
    url = (tmp_path / "a b.bin").as_uri()
    assert download([url + "x", url], tmp_path / "f", EXPECTED) == sha256(DATA)
    assert (tmp_path / "f").read_bytes() == DATA


def test_what_is_sent_compressed_is_kept_so(task: Task) -> None:
    """Some servers say of an archive that gzip is its encoding."""
    data = gzip.compress(DATA)
    task.serve(Fault(headers={"Content-Encoding": "gzip"}), content=data)
    task.run(Expected(len(data), sha256(data)))
    task.assert_done(data)


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("expected", [Expected(), EXPECTED])
def test_a_broken_connection_is_resumed(task: Task, expected: Expected, hold: bool) -> None:
    task.serve(Fault(cut=HALF, hold=hold))
    task.run(expected)
    task.assert_done()
    assert task.ranges == [None, f"bytes={HALF}-"]
    assert task.server.requests[1].headers["If-Range"] == '"v1"'


def test_a_connection_that_breaks_all_the_time_still_gets_there(task: Task) -> None:
    task.serve(*(Fault(cut=300_000) for _ in range(9)))
    task.run()  # more failures than `ATTEMPTS`, but each brings something
    task.assert_done()
    assert task.ranges == [None, *(f"bytes={i * 300_000}-" for i in range(1, 10))]


@pytest.mark.parametrize("resource", [{"ranges": False}, {"chunked": True}])
def test_a_server_without_ranges_or_lengths(task: Task, resource: dict[str, Any]) -> None:
    task.serve(Fault(cut=HALF), Fault(cut=HALF), **resource)
    task.run()
    task.assert_done()
    # breaking at the same place again is no progress, so such a server is given up in the end
    task.serve(*[Fault(cut=HALF)] * 9, **resource)
    task.fail(f"{client.ATTEMPTS} attempts")


def test_passing_answers_of_a_busy_server(task: Task) -> None:
    task.serve(Fault(status=500), Fault(status=503, headers={"Retry-After": "1"}), Fault(status=429))
    start = time.monotonic()
    task.run()
    task.assert_done()
    assert time.monotonic() - start > 1
    task.serve(*[Fault(status=503)] * 9)
    task.fail("503")
    assert len(task.ranges) == 6


@pytest.mark.parametrize(
    ("fault", "part"),
    [(Fault(status=403), "answers 403"), (Fault(page="<html>please log in</html>"), "web page")],
)
def test_a_refusal_is_final(task: Task, fault: Fault, part: str) -> None:
    task.serve(fault)
    task.fail(part)
    assert len(task.ranges) == 1


# --- wrong files --------------------------------------------------------------------------------------------


def test_another_size(task: Task) -> None:
    task.serve()
    task.fail("3000000 bytes instead of 77", expected=Expected(77))
    task.serve(chunked=True)
    task.fail("more than 77 bytes", expected=Expected(77))
    task.fail("3000000 of 4000000 bytes", expected=Expected(4_000_000))


def test_no_length_at_all(task: Task) -> None:
    task.serve(Fault(no_length=True), Fault(no_length=True, cut=HALF))
    task.fail("how long the file is", expected=Expected())
    task.run()  # here the missing half is noticed by the size
    task.assert_done()


def test_a_wrong_digest(task: Task) -> None:
    task.serve(content=OTHER)
    task.fail(sha256(OTHER), sha256(DATA), "in params.yaml", task.server.url("/f"))
    assert len(task.ranges) == 1  # the same server would send the same again
    assert list(task.final.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [("etag", '"v1"', '"v2"'), ("last_modified", "Mon, 01 Jan 2024", "Tue, 02 Jan 2024")],
)
def test_a_file_that_changes_between_runs(task: Task, key: str, old: str, new: str) -> None:
    served = task.break_off(Expected(), **{"content": OTHER, "etag": None, key: old})
    served.content = DATA
    setattr(served, key, new)
    task.run(Expected())
    task.assert_done()
    assert task.server.requests[0].headers["If-Range"] == old


@pytest.mark.parametrize(
    ("content", "expected"),
    [(DATA, EXPECTED), (DATA[: HALF - 7], Expected()), (DATA + OTHER[:7], Expected())],
    ids=["of the same length", "shorter", "longer"],
)
def test_another_file_that_the_server_passes_off_as_the_same(
    task: Task, content: bytes, expected: Expected
) -> None:
    served = task.break_off(expected, content=OTHER)
    served.content = content
    task.run(expected)
    task.assert_done(content)
    assert task.ranges == [f"bytes={HALF}-", None]


def test_without_a_way_to_tell_versions_apart_nothing_is_continued(task: Task) -> None:
    for etag in (None, 'W/"weak"'):
        task.break_off(Expected(), etag=etag)
        task.run(Expected())
        task.assert_done()
        assert task.ranges == [None]
    task.break_off(etag=None)  # with a digest it would be noticed, so there it is
    task.run()
    assert task.ranges == [f"bytes={HALF}-"]


def test_complete_but_unchecked_bytes_need_no_network(task: Task) -> None:
    """As after a crash between the last byte and the renaming."""
    for content, ranges in ((DATA, []), (OTHER, [None])):
        task.break_off()
        task.final.with_name("f.bin.partial").write_bytes(content)
        task.run()  # what turns out wrong is downloaded again
        task.assert_done()
        assert task.ranges == ranges


# --- mirrors and redirects ----------------------------------------------------------------------------------


def test_mirrors_in_their_order(task: Task) -> None:
    task.serve(Fault(cut=HALF), *[Fault(status=500)] * 6)
    task.server.resources["/wrong"] = Resource(OTHER)
    task.server.resources["/c"] = Resource(DATA)
    task.run(EXPECTED, "/missing", "/wrong", "/c", "/d")
    task.assert_done()
    assert task.server.paths() == ["/f"] * 7 + ["/missing", "/wrong", "/c"]
    assert task.server.ranges_of("/c") == [None]  # bytes of one mirror are never continued by another
    task.serve(content=OTHER)
    wrong = f"{task.server.url('/f')}: 3000000 bytes with SHA-256 {sha256(OTHER)}"
    task.fail(wrong, f"{task.server.url('/missing')}: the server answers 404", more=("/missing",))


@pytest.mark.parametrize("status", [301, 307])
def test_redirects_are_followed_also_when_resuming(task: Task, status: int) -> None:
    task.serve(*[Fault(status=status, headers={"Location": "/real"})] * 2)
    task.server.resources["/real"] = Resource(DATA, faults=[Fault(cut=HALF)])
    task.run()
    task.assert_done()
    assert task.server.ranges_of("/real") == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("to", ["/f", "file:///etc/passwd", "http://["])
def test_redirects_that_lead_nowhere(task: Task, to: str) -> None:
    task.serve(*[Fault(status=302, headers={"Location": to})] * 40)
    task.fail(task.server.url("/f"))
    assert len(task.ranges) <= 11


def test_no_redirect_away_from_https(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    task.serve()
    get = client.requests.Session.get

    def pretend(session: Any, url: str, **options: Any) -> Any:
        """Answer as if an encrypted connection had led to this plain one."""
        return get(session, url.replace("https:", "http:"), **options)

    monkeypatch.setattr(client.requests.Session, "get", pretend)
    with refusal("away from https"):
        download([task.server.url("/f").replace("http:", "https:")], task.final, EXPECTED)


# --- Google Drive -------------------------------------------------------------------------------------------

WARNING = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<form id="download-form" action="{action}" method="get">
<input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="ID-1"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="a&amp;b"></form></body></html>"""
QUOTA = """<html><body><p class="uc-error-caption">Sorry, you can&#39;t view or download this file.</p>
<p class="uc-error-subcaption">Too many users have viewed or
downloaded this file recently.</p></body></html>"""


@pytest.fixture
def from_drive(task: Task, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A download of /uc, which stands for Google Drive."""
    monkeypatch.setattr(drive, "ADDRESS", task.server.url("/uc?export=download&id={}"))

    def run(*faults: Fault) -> str:
        task.server.resources["/uc"] = Resource(DATA, faults=list(faults))
        return download([drive.ADDRESS.format("ID-1")], task.final, EXPECTED)

    return run


def test_drive_confirms_large_files(task: Task, from_drive: Callable[..., str]) -> None:
    page = Fault(page=WARNING.format(action="/download"), headers={"Set-Cookie": "warned=yes"})
    task.server.resources["/download"] = Resource(DATA, faults=[Fault(cut=HALF)])
    from_drive(page, page)
    task.assert_done()
    assert task.server.ranges_of("/uc") == [None, None]
    assert task.server.ranges_of("/download") == [None, f"bytes={HALF}-"]
    confirmed = task.server.requests[1]
    assert confirmed.query == "id=ID-1&export=download&confirm=t&uuid=a%26b"
    assert confirmed.headers["Cookie"] == "warned=yes"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (QUOTA, "Too many users have viewed or downloaded this file recently."),
        ("<html>Sign in</html>", "without a download form"),
        (WARNING.format(action="/again"), "a web page instead of the file"),
    ],
)
def test_drive_refuses(task: Task, from_drive: Callable[..., str], page: str, message: str) -> None:
    task.server.resources["/again"] = Resource(b"", faults=[Fault(page=page)])
    with refusal(message):
        from_drive(Fault(page=page))


# --- the command --------------------------------------------------------------------------------------------


def zipped(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        for name, data in content.items():
            package.writestr(name, data)
    return stream.getvalue()


PICTURES = {"set/a.png": DATA[:50_000], "set/b.png": DATA[50_000:90_000]}
ZIP, BIG = zipped(PICTURES), zipped({"set/a.png": DATA})
LIST = b"a b\n"


class Fetch:
    """`spheremap fetch` of a data set of a zip file and a list."""

    def __init__(self, server: FaultyServer, folder: Path) -> None:
        self.server = server
        self.out, self.work = folder / "data" / "set", folder / "work" / "set"
        self.params, self.digests = folder / "params.json", folder / "tracked" / "digests.json"
        server.resources = {"/set.zip": Resource(ZIP), "/list.txt": Resource(LIST)}
        self.entry: dict[str, Any] = {
            "licence": "CC BY 4.0",
            "citation": "Nobody et al. 2024",
            "homepage": "https://example.org/set",
            "files": [
                {"name": "set.zip", "urls": [server.url("/set.zip")]},
                {"name": "list.txt", "urls": [server.url("/list.txt")], "unpack": False, "into": "set/lists"},
            ],
        }

    def arguments(self) -> list[str]:
        self.params.write_text(json.dumps(self.entry))
        names = {"params": self.params, "out": self.out, "work": self.work, "digests": self.digests}
        return ["fetch", "--name", "set", *(word for k, v in names.items() for word in (f"--{k}", str(v)))]

    def run(self) -> int:
        self.server.requests.clear()
        return main(self.arguments())

    def again(self) -> None:
        """Succeed without the network."""
        assert self.run() == 0
        assert self.server.requests == []
        self.assert_done()

    def forget(self) -> None:
        """Be another machine, with the tracked file alone."""
        shutil.rmtree(self.out)
        shutil.rmtree(self.work)

    def assert_done(self) -> None:
        found = {p.relative_to(self.out).as_posix(): p for p in self.out.rglob("*") if p.is_file()}
        contents = {name: path.read_bytes() for name, path in found.items() if not name.startswith(".")}
        assert contents == {**PICTURES, "set/lists/list.txt": LIST}
        assert [path.name for path in self.out.parent.iterdir()] == ["set"]


@pytest.fixture
def fetch(server: FaultyServer, tmp_path: Path) -> Fetch:
    return Fetch(server, tmp_path)


def test_fetch(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.run() == 0
    fetch.assert_done()
    shown = capsys.readouterr()
    assert "3 files, 90,004 bytes" in shown.out
    for text in ("CC BY 4.0", "Nobody et al. 2024", "https://example.org/set"):
        assert 0 <= shown.err.index(text) < shown.err.index("set.zip:")  # before the download's bar
    assert read_json(fetch.out / MANIFEST) == {
        **{"name": "set", **{key: fetch.entry[key] for key in ("licence", "citation", "homepage")}},
        **{"files": 3, "bytes": 90_004},
        "downloads": {
            "set.zip": {"sha256": sha256(ZIP), "size": len(ZIP), "into": ".", "unpack": True},
            "list.txt": {"sha256": sha256(LIST), "size": 4, "into": "set/lists", "unpack": False},
        },
    }


def test_a_second_fetch_does_nothing(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.run() == 0
    before = {path: path.stat().st_mtime_ns for path in fetch.out.rglob("*")}
    capsys.readouterr()
    shutil.rmtree(fetch.work)
    fetch.again()
    assert {path: path.stat().st_mtime_ns for path in fetch.out.rglob("*")} == before
    assert "CC BY" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["manifest", "file", "content", "empty manifest"])
def test_a_changed_folder_is_unpacked_again_without_the_network(fetch: Fetch, damage: str) -> None:
    assert fetch.run() == 0
    name = MANIFEST if "manifest" in damage else "set/a.png"
    if damage in ("manifest", "file"):  # Snakemake deletes the manifest before it runs a rule again
        (fetch.out / name).unlink()
    else:
        (fetch.out / name).write_bytes(b"{}" if "manifest" in damage else b"")
    fetch.again()


def test_what_a_user_adds_stays(fetch: Fetch) -> None:
    assert fetch.run() == 0
    (fetch.out / "notes.txt").write_text("mine")
    assert fetch.run() == 0
    assert (fetch.out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "changes",
    [{"name": "../up.txt"}, {"name": "/up.txt"}, {"name": ".lock"}, {"name": "set.zip"}, {"urls": []}],
)
def test_files_without_a_name_or_an_address_of_their_own(fetch: Fetch, changes: dict[str, Any]) -> None:
    fetch.entry["files"][1] |= changes
    assert fetch.run() == 1
    assert not fetch.out.parent.exists()


def test_a_folder_of_the_user_is_left_alone(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.out.mkdir(parents=True)
    assert fetch.run() == 0  # an empty folder is nobody's
    shutil.rmtree(fetch.out)
    fetch.out.mkdir()
    (fetch.out / "precious").write_text("mine")
    assert fetch.run() == 1
    assert str(fetch.out) in capsys.readouterr().err
    assert [path.name for path in fetch.out.iterdir()] == ["precious"]
    (fetch.out / "precious").rename(fetch.out.parent / "elsewhere")
    fetch.out.rmdir()
    fetch.out.symlink_to(fetch.out.parent)
    assert fetch.run() == 1
    assert "a link" in capsys.readouterr().err


def test_a_first_download_is_trusted_aloud(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.run() == 0
    shown = capsys.readouterr().err
    assert sha256(ZIP) in shown
    assert str(fetch.digests) in shown
    assert read_json(fetch.digests) == {
        "set/list.txt": {"sha256": sha256(LIST), "size": 4},
        "set/set.zip": {"sha256": sha256(ZIP), "size": len(ZIP)},
    }
    # another machine with the tracked file gets the same, or nothing
    fetch.forget()
    assert fetch.run() == 0
    assert "!!" not in capsys.readouterr().err
    fetch.forget()
    changed = bytearray(ZIP)
    changed[len(ZIP) // 2] ^= 1
    fetch.server.resources["/set.zip"] = Resource(bytes(changed))
    assert fetch.run() == 1
    error = capsys.readouterr().err
    for part in (sha256(bytes(changed)), sha256(ZIP), str(fetch.digests)):
        assert part in error
    assert not fetch.out.exists()
    assert [path.name for path in fetch.work.iterdir()] == [".lock"]


def test_a_published_digest_is_not_written_down(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    for file, data in zip(fetch.entry["files"], (ZIP, LIST), strict=True):
        file |= {"sha256": sha256(data), "size": len(data)}
    assert fetch.run() == 0
    assert "!!" not in capsys.readouterr().err
    assert not fetch.digests.exists()
    # once the entry expects another file, what is in place does not count any more
    fetch.entry["files"][0] |= {"sha256": sha256(DATA), "size": None}
    assert fetch.run() == 1
    assert fetch.server.paths() == ["/set.zip"]
    fetch.assert_done()  # but it stays until there is a better one


def test_an_archive_that_cannot_be_used_is_not_trusted(fetch: Fetch) -> None:
    fetch.server.resources["/set.zip"] = Resource(ZIP[:-30])
    assert fetch.run() == 1
    assert not fetch.digests.exists()
    fetch.server.resources["/set.zip"] = Resource(ZIP)
    assert fetch.run() == 0  # so that the right one is, later
    assert fetch.server.paths() == ["/set.zip"]
    fetch.assert_done()


def test_limits_keep_the_download(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.entry["limits"] = {"bytes": 80_000}
    assert fetch.run() == 1
    assert "`limits`" in capsys.readouterr().err
    assert not fetch.out.exists()
    del fetch.entry["limits"]
    fetch.again()


def test_drive_is_the_last_resort(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "ADDRESS", fetch.server.url("/uc?id={}"))
    fetch.server.resources["/uc"] = Resource(ZIP)
    for urls, paths in ([fetch.server.url("/missing")], ["/missing", "/uc"]), ([], ["/uc"]):
        fetch.entry["files"][0] |= {"urls": urls, "drive": "ID"}
        assert fetch.run() == 0
        assert fetch.server.paths() == [*paths, "/list.txt"]
        fetch.forget()


def test_digests_of_many_at_once(tmp_path: Path) -> None:
    (tmp_path / "served").write_bytes(LIST)
    file = RemoteFile("list.txt", ((tmp_path / "served").as_uri(),), unpack=False)
    entry = DownloadEntry("l", "c", "h", (file,))
    digests = tmp_path / "digests.json"

    def run(name: str) -> None:
        fetch_entry(entry, name=name, out=tmp_path / name, work=tmp_path / "work" / name, digests=digests)

    threads = [threading.Thread(target=run, args=(f"set{i}",)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    digest = {"sha256": sha256(LIST), "size": len(LIST)}
    assert read_json(digests) == {f"set{i}/list.txt": digest for i in range(10)}


# --- the machine --------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_has_arrived(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real limit, of the kernel; the process lives to tell."""
    fetch.server.resources["/set.zip"] = Resource(BIG)
    code = (
        "import resource, sys; from spheremap.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({HALF}, {HALF}))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *fetch.arguments()]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    partial = fetch.work / "set.zip.partial"
    assert str(partial) in done.stderr
    assert "Traceback" not in done.stderr
    assert partial.read_bytes() == BIG[:HALF]
    # the same while unpacking: nothing is left of it, and the download stays
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(full))
        assert fetch.run() == 1
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert str(fetch.out) in error
    assert list(fetch.out.parent.iterdir()) == []
    assert fetch.server.ranges_of("/set.zip") == [f"bytes={HALF}-"]
    assert fetch.run() == 0
    assert fetch.server.paths() == []


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "no_proxy": "127.0.0.1"}


@contextlib.contextmanager
def running(fetch: Fetch, stderr: int) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process that does not outlive the block, whatever happens in it."""
    command = [sys.executable, "-m", "spheremap", *fetch.arguments()]
    with subprocess.Popen(command, env=environment(), stderr=stderr, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_half(fetch: Fetch) -> None:
    partial = fetch.work / "set.zip.partial"
    deadline = time.monotonic() + 120  # a busy machine takes long to start a process
    while not partial.exists() or partial.stat().st_size < HALF:
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def test_kill_and_restart(fetch: Fetch) -> None:
    fetch.server.resources["/set.zip"] = Resource(BIG, faults=[Fault(cut=HALF, hold=True)])
    with running(fetch, subprocess.DEVNULL) as process:
        wait_for_half(fetch)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not fetch.out.exists()
    assert fetch.run() == 0
    assert fetch.server.ranges_of("/set.zip") == [f"bytes={HALF}-"]
    assert (fetch.out / "set" / "a.png").read_bytes() == DATA
    assert sorted(path.name for path in fetch.work.iterdir()) == [".lock", "list.txt", "set.zip"]


def test_two_processes_share_one_download(fetch: Fetch) -> None:
    fetch.server.resources["/set.zip"] = Resource(BIG, faults=[Fault(cut=HALF, hold=True)])
    with running(fetch, subprocess.DEVNULL) as first:
        wait_for_half(fetch)
        with running(fetch, subprocess.PIPE) as second:
            assert second.stderr is not None
            assert str(fetch.work / ".lock") in second.stderr.readline()
            first.kill()
            second.stderr.read()
            assert second.wait() == 0
    assert (fetch.out / "set" / "a.png").read_bytes() == DATA


def test_a_download_starts_without_torch() -> None:
    code = "import sys; import spheremap.cli.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0
