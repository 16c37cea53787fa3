"""Downloads from a server that fails in every way we know, and what `spheremap fetch` makes of them."""

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
from faulty_server import Fault, FaultyServer, Resource, faulty_server

from spheremap.base.errors import InputError
from spheremap.base.files import read_json
from spheremap.cli import main
from spheremap.config.slices import parse
from spheremap.data.download import MANIFEST, DownloadEntry, RemoteFile, client, drive, fetch_entry
from spheremap.data.download.archive import ArchiveRefused, Limits
from spheremap.data.download.client import Client, Expected, Policy, Source
from spheremap.data.download.digests import Digest, record_digest, recorded_digest

DATA = random.Random(0).randbytes(3_000_000)
OTHER = random.Random(1).randbytes(3_000_000)
HALF = 1_500_000
PATIENCE = Policy(attempts=4, stall_seconds=0.4, stall_bytes=1000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with faulty_server() as running:
        yield running


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def expect(data: bytes = DATA) -> Expected:
    return Expected(len(data), sha256(data), "in params.yaml")


class Download:
    """A download with its server, and with sleeping replaced by taking notes."""

    def __init__(self, server: FaultyServer, folder: Path, *faults: Fault, **resource: Any) -> None:
        self.server = server
        self.resource = Resource(**{"content": DATA, "faults": list(faults), **resource})
        server.resources["/f"] = self.resource
        self.final = folder / "f.bin"
        self.slept: list[float] = []

    def run(self, expected: Expected | None = None, *more: str, policy: Policy = PATIENCE) -> str:
        downloader = Client(policy, sleep=self.slept.append, jitter=lambda: 1.0)
        sources = [Source(self.server.url(path)) for path in ("/f", *more)]
        return downloader.fetch(sources, self.final, expected or Expected())

    def assert_done(self, data: bytes = DATA) -> None:
        assert self.final.read_bytes() == data
        assert [path.name for path in self.final.parent.iterdir()] == ["f.bin"]  # no rest of any attempt

    def assert_nothing(self) -> None:
        assert list(self.final.parent.iterdir()) == []

    @property
    def ranges(self) -> list[str | None]:
        return self.server.ranges_of("/f")


@pytest.fixture
def download(server: FaultyServer, tmp_path: Path) -> Callable[..., Download]:
    def prepare(*faults: Fault, **resource: Any) -> Download:
        return Download(server, tmp_path, *faults, **resource)

    return prepare


def partial_of(final: Path) -> Path:
    (found,) = final.parent.glob(f"{final.name}.*.partial")
    return found


# --- good connections ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [Expected(), Expected(len(DATA)), expect()])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file(download: Callable[..., Download], expected: Expected, chunked: bool) -> None:
    task = download(chunked=chunked)
    assert task.run(expected) == sha256(DATA)
    task.assert_done()
    assert task.ranges == [None]
    assert task.slept == []


def test_an_empty_file(download: Callable[..., Download]) -> None:
    task = download(content=b"")
    assert task.run() == sha256(b"")
    task.assert_done(b"")


def test_progress_in_bytes(download: Callable[..., Download], capsys: pytest.CaptureFixture[str]) -> None:
    download().run()
    error = capsys.readouterr().err
    assert "f.bin: 100%" in error
    assert "3.00M/3.00M" in error


def test_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(DATA)
    url = (tmp_path / "a b.bin").as_uri()
    (tmp_path / "work").mkdir()
    final = tmp_path / "work" / "f"
    assert Client().fetch([Source(url)], final, expect()) == sha256(DATA)
    assert list(final.parent.iterdir()) == [final]
    assert final.read_bytes() == DATA
    with pytest.raises(InputError, match=r"(?s)cannot download g.*No such file"):
        Client().fetch([Source(url + "x")], tmp_path / "work" / "g", Expected())


# --- bad connections ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [Fault(cut=HALF, reset=True), Fault(cut=HALF), Fault(cut=HALF, hold=True)], ids=str
)
def test_a_broken_connection_is_resumed(download: Callable[..., Download], fault: Fault) -> None:
    task = download(fault)
    task.run()
    task.assert_done()
    # a reset may swallow what was under way
    begin = int((task.ranges[1] or "").removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= HALF
    assert fault.reset or begin == HALF
    assert task.server.requests[1].if_range == '"v1"'
    assert task.slept == [1.0]


def test_a_connection_that_breaks_all_the_time_still_gets_there(download: Callable[..., Download]) -> None:
    task = download(*(Fault(cut=100_000) for _ in range(25)))
    task.run()  # more failures than `attempts`, but each brings something
    task.assert_done()
    assert task.ranges == [None, *(f"bytes={i * 100_000}-" for i in range(1, 26))]
    assert set(task.slept) == {1.0}


def test_a_broken_chunked_answer_is_resumed(download: Callable[..., Download]) -> None:
    task = download(Fault(cut=HALF), chunked=True)
    task.run()
    task.assert_done()
    assert len(task.ranges) == 2


@pytest.mark.parametrize("ranges", ["none", "ignored"])
def test_a_server_without_ranges(download: Callable[..., Download], ranges: str) -> None:
    task = download(Fault(cut=HALF), Fault(cut=HALF), ranges=ranges)
    task.run(expect())
    task.assert_done()
    assert task.ranges == [None, f"bytes={HALF}-", f"bytes={HALF}-"]
    # breaking at the same place again is no progress, so such a server is given up in the end
    task = download(*(Fault(cut=HALF) for _ in range(9)), ranges=ranges)
    with pytest.raises(InputError, match=r"ended after 1500000 of 3000000 bytes \(4 attempts\)"):
        task.run()


def test_a_server_that_answers_another_range(download: Callable[..., Download]) -> None:
    task = download(Fault(cut=HALF), Fault(shift=7))
    task.run(expect())
    task.assert_done()
    assert task.ranges == [None, f"bytes={HALF}-", None]


def test_500_then_200(download: Callable[..., Download]) -> None:
    task = download(Fault(status=500), Fault(status=503, headers={"Retry-After": "7"}), Fault(status=429))
    task.run()
    task.assert_done()
    assert task.slept == [1, 7, 4]  # doubled each time; longer where the server asks for it


def test_patience_ends(download: Callable[..., Download]) -> None:
    task = download(*(Fault(status=500) for _ in range(9)))
    with pytest.raises(
        InputError, match=r"(?s)cannot download f.bin.*answers 500.*4 attempts.*to do"
    ) as caught:
        task.run()
    assert task.server.url("/f") in str(caught.value)
    assert task.slept == [1, 2, 4]
    task.assert_nothing()


def test_waiting_is_bounded_and_spread(server: FaultyServer, tmp_path: Path) -> None:
    server.resources["/f"] = Resource(
        DATA, faults=[Fault(status=500, headers={"Retry-After": "99999"}), *[Fault(status=500)] * 8]
    )
    slept: list[float] = []
    policy = Policy(attempts=9, backoff=4, longest_backoff=10)
    downloader = Client(policy, sleep=slept.append, jitter=lambda: 0.5)
    with pytest.raises(InputError):
        downloader.fetch([Source(server.url("/f"))], tmp_path / "f", Expected())
    assert slept == [10, 6, *[7.5] * 6]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_final(download: Callable[..., Download], status: int) -> None:
    task = download(Fault(status=status))
    with pytest.raises(InputError, match=f"answers {status}"):
        task.run()
    assert len(task.ranges) == 1
    assert task.slept == []
    task.assert_nothing()


def test_nobody_listens(tmp_path: Path, server: FaultyServer) -> None:
    with faulty_server() as gone:
        url = gone.url("/f")
    slept: list[float] = []
    with pytest.raises(InputError, match=r"refused \(4 attempts\)"):
        Client(PATIENCE, sleep=slept.append).fetch([Source(url)], tmp_path / "f", Expected())
    assert len(slept) == 3


def test_a_slow_drip(download: Callable[..., Download]) -> None:
    task = download(Fault(drip=0.02))
    task.run()
    task.assert_done()
    assert task.slept == [1.0]
    assert (task.ranges[1] or "").startswith("bytes=")
    # and one that never gets faster is given up, although each attempt brings some bytes
    task = download(*(Fault(drip=0.02) for _ in range(9)))
    start = time.monotonic()
    with pytest.raises(InputError, match=r"only \d+ bytes in .*4 attempts"):
        task.run()
    assert time.monotonic() - start < 6


# --- wrong files --------------------------------------------------------------------------------------------


def test_a_truncated_body_is_no_file(download: Callable[..., Download]) -> None:
    task = download(*(Fault(cut=HALF) for _ in range(9)), ranges="none", etag=None)
    with pytest.raises(InputError, match="ended after 1500000 of 3000000 bytes"):
        task.run()
    assert not task.final.exists()


def test_a_length_that_is_too_long(download: Callable[..., Download]) -> None:
    task = download(*(Fault(length=len(DATA) + 5) for _ in range(9)))
    with pytest.raises(InputError, match=r"3000000 of 3000005 bytes|another file|answers 416"):
        task.run()
    assert not task.final.exists()


def test_a_length_that_is_too_short(download: Callable[..., Download]) -> None:
    task = download(*(Fault(length=HALF) for _ in range(9)))
    with pytest.raises(InputError, match="a file of 1500000 bytes instead of 3000000"):
        task.run(expect())
    with pytest.raises(InputError, match=r"not the one in params\.yaml"):
        task.run(Expected(None, sha256(DATA), "in params.yaml"))
    task.assert_nothing()


def test_another_size_is_noticed_before_the_download(download: Callable[..., Download]) -> None:
    task = download()
    with pytest.raises(InputError, match="a file of 3000000 bytes instead of 77"):
        task.run(Expected(77))
    task.assert_nothing()


@pytest.mark.parametrize(
    ("size", "message"), [(77, "more than 77 bytes"), (4_000_000, "ended after 3000000 of 4000000 bytes")]
)
def test_another_size_where_the_server_states_none(
    download: Callable[..., Download], size: int, message: str
) -> None:
    task = download(chunked=True, ranges="none")
    with pytest.raises(InputError, match=message):
        task.run(Expected(size))
    assert not task.final.exists()


def test_no_length_at_all(download: Callable[..., Download]) -> None:
    task = download(Fault(length=None), Fault(length=None, cut=HALF), Fault(length=None))
    with pytest.raises(InputError, match="does not say how long the file is"):
        task.run()
    task.run(expect())  # here the missing half is noticed by the size
    task.assert_done()


def test_a_wrong_digest(download: Callable[..., Download]) -> None:
    task = download(content=OTHER)
    with pytest.raises(InputError) as caught:
        task.run(expect())
    for part in (sha256(OTHER), sha256(DATA), "in params.yaml", task.server.url("/f")):
        assert part in str(caught.value)
    assert len(task.ranges) == 1  # the same server would send the same again
    task.assert_nothing()


def test_pieces_of_two_files_are_not_the_last_word(download: Callable[..., Download]) -> None:
    """The file changes, and the server does not tell; a download in one piece is right."""
    task = download(Fault(cut=HALF), etag=None, content=OTHER)
    with pytest.raises(InputError):
        task.run(expect(), policy=Policy(attempts=1))
    assert partial_of(task.final).stat().st_size == HALF
    task.resource.content = DATA
    task.run(expect())
    task.assert_done()
    assert task.ranges == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("validator", ["etag", "last_modified"])
def test_a_file_that_changes_between_attempts(download: Callable[..., Download], validator: str) -> None:
    old = {"etag": None, validator: "Mon, 01 Jan 2024 00:00:00 GMT" if validator != "etag" else '"v1"'}
    task = download(Fault(cut=HALF), content=OTHER, **old)
    with pytest.raises(InputError):
        task.run(policy=Policy(attempts=1))
    task.resource.content = DATA
    setattr(task.resource, validator, "Tue, 02 Jan 2024 00:00:00 GMT" if validator != "etag" else '"v2"')
    task.run()
    task.assert_done()
    assert task.server.requests[1].if_range == old[validator]


@pytest.mark.parametrize("validator", ["etag", "last_modified", "length"])
def test_a_changed_file_of_a_server_that_ignores_if_range(
    download: Callable[..., Download], validator: str
) -> None:
    task = download(Fault(cut=HALF), content=OTHER, ranges="always", last_modified="Mon")
    with pytest.raises(InputError):
        task.run(policy=Policy(attempts=1))
    task.resource.content = DATA
    match validator:
        case "etag":
            task.resource.etag = '"v2"'
        case "last_modified":
            task.resource.last_modified = "Tue"
        case "length":
            task.resource.content = DATA + b"more"
    task.run()
    task.assert_done(task.resource.content)
    assert task.ranges == [None, f"bytes={HALF}-", None]


def test_without_a_way_to_tell_versions_apart_nothing_is_continued(download: Callable[..., Download]) -> None:
    for etag in (None, 'W/"weak"'):
        task = download(Fault(cut=HALF), etag=etag)
        task.server.requests.clear()
        task.run()
        assert task.ranges == [None, None]
        task.final.unlink()
    # with a digest it would be noticed, so there it is
    task = download(Fault(cut=HALF), etag=None)
    task.server.requests.clear()
    task.run(expect())
    assert task.ranges == [None, f"bytes={HALF}-"]


def test_a_damaged_state_file_starts_over(download: Callable[..., Download]) -> None:
    task = download(Fault(cut=HALF))
    with pytest.raises(InputError):
        task.run(policy=Policy(attempts=1))
    partial_of(task.final).with_suffix(".json").write_text("{")
    task.run()
    task.assert_done()
    assert task.ranges == [None, None]


def test_more_bytes_than_the_file_has_start_over(download: Callable[..., Download]) -> None:
    task = download(Fault(cut=HALF))
    with pytest.raises(InputError):
        task.run(policy=Policy(attempts=1))
    with partial_of(task.final).open("ab") as stream:
        stream.write(OTHER)
    task.run()
    task.assert_done()


def test_complete_but_unchecked_bytes_need_no_network(download: Callable[..., Download]) -> None:
    """As after a crash between the last byte and the renaming."""
    for content, requests in ((DATA, 1), (OTHER, 2)):
        task = download(Fault(cut=HALF))
        task.server.requests.clear()
        with pytest.raises(InputError):
            task.run(policy=Policy(attempts=1))
        with partial_of(task.final).open("wb") as stream:
            stream.write(content)
        task.run(expect())  # what turns out wrong is downloaded again
        task.assert_done()
        assert len(task.ranges) == requests
        task.final.unlink()


def test_a_web_page_is_not_the_file(download: Callable[..., Download]) -> None:
    task = download(Fault(page="<html>please log in</html>"))
    with pytest.raises(InputError, match="a web page instead of the file"):
        task.run()
    task.assert_nothing()


# --- mirrors and redirects ----------------------------------------------------------------------------------


def test_mirrors_in_their_order(download: Callable[..., Download]) -> None:
    task = download(Fault(cut=HALF), *(Fault(status=500) for _ in range(9)))
    task.server.resources["/c"] = Resource(DATA)
    task.server.resources["/d"] = Resource(DATA)
    task.run(expect(), "/missing", "/c", "/d")
    task.assert_done()  # what /f had sent is gone, too
    paths = [request.path for request in task.server.requests]
    assert paths == ["/f"] * 4 + ["/missing", "/c"]
    assert task.server.ranges_of("/c") == [None]  # bytes of one mirror are never continued by another


def test_a_mirror_with_a_wrong_file(download: Callable[..., Download]) -> None:
    task = download(content=OTHER)
    task.server.resources["/c"] = Resource(DATA)
    task.run(expect(), "/c")
    task.assert_done()


def test_every_mirror_is_named_if_all_fail(download: Callable[..., Download]) -> None:
    task = download(content=OTHER)
    with pytest.raises(InputError) as caught:
        task.run(expect(), "/missing")
    assert f"{task.server.url('/f')}: the file has SHA-256" in str(caught.value)
    assert f"{task.server.url('/missing')}: the server answers 404" in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_when_resuming(download: Callable[..., Download], status: int) -> None:
    to = {"Location": "/real"}
    task = download(Fault(status=status, headers=to), Fault(status=status, headers=to))
    task.server.resources["/real"] = Resource(DATA, faults=[Fault(cut=HALF)])
    task.run()
    task.assert_done()
    assert task.server.ranges_of("/real") == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("to", ["/f", "file:///etc/passwd", "ftp://127.0.0.1/f", "data:,x", "http://["])
def test_redirects_that_lead_nowhere(download: Callable[..., Download], to: str) -> None:
    task = download(*(Fault(status=302, headers={"Location": to}) for _ in range(40)))
    with pytest.raises(InputError, match="cannot download"):
        task.run()
    assert len(task.ranges) <= 11
    task.assert_nothing()


def test_no_redirect_away_from_https() -> None:
    import urllib.error
    import urllib.request

    redirects = client._Redirects()
    request = urllib.request.Request("https://example.org/f")
    with pytest.raises(urllib.error.URLError, match="away from https"):
        redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://example.org/f")
    kept = redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://example.com/g")
    assert kept is not None
    assert kept.full_url == "https://example.com/g"


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


def drive_source(server: FaultyServer, monkeypatch: pytest.MonkeyPatch, *faults: Fault) -> Source:
    monkeypatch.setattr(drive, "ADDRESS", server.url("/uc?export=download&id={}"))
    server.resources["/uc"] = Resource(b"page", faults=list(faults))
    return Source(drive.drive_url("ID-1"), drive=True)


def test_drive_confirms_large_files(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Fault(page=WARNING.format(action="/download?at=1"), headers={"Set-Cookie": "warned=yes"})
    source = drive_source(server, monkeypatch, page, page)
    server.resources["/download"] = Resource(DATA, faults=[Fault(cut=HALF)])
    Client(PATIENCE, sleep=lambda _: None).fetch([source], tmp_path / "f.zip", expect())
    assert (tmp_path / "f.zip").read_bytes() == DATA
    assert [(r.path, r.query, r.range) for r in server.requests] == [
        ("/uc", "export=download&id=ID-1", None),
        ("/download", "at=1&id=ID-1&export=download&confirm=t&uuid=a%26b", None),
        ("/uc", "export=download&id=ID-1", None),
        ("/download", "at=1&id=ID-1&export=download&confirm=t&uuid=a%26b", f"bytes={HALF}-"),
    ]
    assert server.requests[1].cookie == "warned=yes"


def test_drive_sends_small_files_at_once(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = drive_source(server, monkeypatch)
    server.resources["/uc"].content = DATA
    Client(PATIENCE).fetch([source], tmp_path / "f.zip", expect())
    assert (tmp_path / "f.zip").read_bytes() == DATA


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (QUOTA, "Google Drive says: Too many users have viewed or downloaded this file recently."),
        ("<html>Sign in</html>", "without a download form"),
        (WARNING.format(action="http://evil.example/f"), "leads to evil.example"),
        (WARNING.format(action="http://drive.google.com/f"), "leads to drive.google.com"),  # not encrypted
        (WARNING.format(action="https://drive.google.com.evil.example/f"), "leads to drive.google.com.evil"),
        (WARNING.format(action="/again"), "a web page instead of the file"),
    ],
)
def test_drive_refuses(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, message: str
) -> None:
    source = drive_source(server, monkeypatch, Fault(page=page))
    server.resources["/again"] = Resource(b"", faults=[Fault(page=page)])
    slept: list[float] = []
    with pytest.raises(InputError, match=message):
        Client(PATIENCE, sleep=slept.append).fetch([source], tmp_path / "f.zip", Expected())
    assert slept == []


def test_drive_of_today() -> None:
    """The address that real pages lead to."""
    page = WARNING.format(action="https://drive.usercontent.google.com/download")
    assert drive.confirmed_url(page, drive.drive_url("ID-1")) == (
        "https://drive.usercontent.google.com/download?id=ID-1&export=download&confirm=t&uuid=a%26b"
    )


# --- a full disk --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_what_has_arrived(
    download: Callable[..., Download], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write_all, written = client.write_all, 0

    def fill_up(stream: Any, chunk: bytes) -> None:
        nonlocal written
        room = HALF - written
        write_all(stream, chunk[:room])
        written += len(chunk[:room])
        if room < len(chunk):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(client, "write_all", fill_up)
    task = download()
    with pytest.raises(InputError, match=r"(?s)the disk is full.*f\.bin.*free some space"):
        task.run()
    assert task.slept == []  # waiting frees no space
    assert partial_of(task.final).read_bytes() == DATA[:HALF]
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    task.run()
    task.assert_done()
    assert task.ranges == [None, f"bytes={HALF}-"]


def test_a_place_that_cannot_be_written(download: Callable[..., Download], tmp_path: Path) -> None:
    task = download()
    (tmp_path / "file").write_text("")
    task.final = tmp_path / "file" / "f.bin"
    with pytest.raises(InputError, match=r"(?s)cannot write.*file/f.bin"):
        task.run()


@pytest.mark.parametrize("place", ["work", "out", "digests"])
def test_places_of_the_command_that_cannot_be_written(
    fetch: "Fetch", tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("")
    setattr(fetch, place, tmp_path / "file" / "below" / place)
    assert fetch.run() == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert str(tmp_path / "file" / "below") in error
    assert "Traceback" not in error
    assert place == "out" or not fetch.out.exists()


# --- the command --------------------------------------------------------------------------------------------


def zipped(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        for name, data in content.items():
            package.writestr(name, data)
    return stream.getvalue()


PICTURES = {"set/a.png": DATA[:50_000], "set/b.png": DATA[50_000:90_000]}
ZIP = zipped(PICTURES)
LIST = b"a b\n"


class Fetch:
    """`spheremap fetch` of a data set of a zip file and a list."""

    def __init__(self, server: FaultyServer, folder: Path) -> None:
        self.server = server
        self.out, self.work = folder / "data" / "set", folder / "work"
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

    def requested(self) -> list[str]:
        return [request.path for request in self.server.requests]

    def assert_done(self) -> None:
        found = {p.relative_to(self.out).as_posix(): p for p in self.out.rglob("*") if p.is_file()}
        assert {name: path.read_bytes() for name, path in found.items() if not name.startswith(".")} == {
            **PICTURES,
            "set/lists/list.txt": LIST,
        }
        assert [path.name for path in self.out.parent.iterdir()] == ["set"]


@pytest.fixture
def fetch(server: FaultyServer, tmp_path: Path) -> Fetch:
    return Fetch(server, tmp_path)


def test_fetch(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.run() == 0
    fetch.assert_done()
    shown = capsys.readouterr()
    assert "set: 3 files, 90,004 bytes" in shown.out
    for text in ("CC BY 4.0", "Nobody et al. 2024", "https://example.org/set"):
        assert 0 <= shown.err.index(text) < shown.err.index("set.zip:")  # before the download's bar
    manifest = read_json(fetch.out / MANIFEST)
    assert manifest == {
        "name": "set",
        "licence": "CC BY 4.0",
        "citation": "Nobody et al. 2024",
        "homepage": "https://example.org/set",
        "files": 3,
        "bytes": 90_004,
        "downloads": {
            "set.zip": {
                "sha256": sha256(ZIP),
                "size": len(ZIP),
                "into": ".",
                "unpack": True,
                "files": 2,
                "bytes": 90_000,
            },
            "list.txt": {
                "sha256": sha256(LIST),
                "size": 4,
                "into": "set/lists",
                "unpack": False,
                "files": 1,
                "bytes": 4,
            },
        },
    }


def test_a_second_fetch_does_nothing(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.run() == 0
    before = {path: path.stat().st_mtime_ns for path in fetch.out.rglob("*")}
    capsys.readouterr()
    shutil.rmtree(fetch.work)
    assert fetch.run() == 0
    assert fetch.requested() == []
    assert {path: path.stat().st_mtime_ns for path in fetch.out.rglob("*")} == before
    shown = capsys.readouterr().err
    assert "in place" in shown
    assert "CC BY" not in shown


@pytest.mark.parametrize("damage", ["manifest", "file", "content", "more"])
def test_a_changed_folder_is_unpacked_again_without_the_network(fetch: Fetch, damage: str) -> None:
    assert fetch.run() == 0
    match damage:
        case "manifest":
            (fetch.out / MANIFEST).unlink()  # as Snakemake does before it runs a rule again
        case "file":
            (fetch.out / "set" / "a.png").unlink()
        case "content":
            (fetch.out / "set" / "a.png").write_bytes(b"")
        case "more":
            (fetch.out / "set" / "c.png").write_bytes(b"")
    assert fetch.run() == 0
    assert fetch.requested() == []
    fetch.assert_done()


def test_a_folder_of_the_user_is_left_alone(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.out.mkdir(parents=True)
    assert fetch.run() == 0  # an empty folder is nobody's
    shutil.rmtree(fetch.out)
    fetch.out.mkdir()
    (fetch.out / "precious").write_text("mine")
    assert fetch.run() == 1
    assert "the place of the data set is taken" in capsys.readouterr().err
    assert [path.name for path in fetch.out.iterdir()] == ["precious"]
    (fetch.out / "precious").rename(fetch.out.parent / "elsewhere")
    fetch.out.rmdir()
    fetch.out.symlink_to(fetch.out.parent)
    assert fetch.run() == 1
    assert "a link" in capsys.readouterr().err


def test_rests_of_a_killed_run_are_cleared(fetch: Fetch) -> None:
    rest = fetch.out.parent / ".set.unpacking"
    (rest / "set").mkdir(parents=True)
    (rest / "set" / "half.png").write_bytes(b"half")
    assert fetch.run() == 0
    fetch.assert_done()


# --- trust on first use -------------------------------------------------------------------------------------


def test_a_first_download_is_trusted_aloud(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.run() == 0
    shown = capsys.readouterr().err
    assert f"!!   sha256 {sha256(ZIP)}, {len(ZIP)} bytes" in shown
    assert f"written down in {fetch.digests}" in shown
    assert read_json(fetch.digests) == {
        "set/list.txt": {"sha256": sha256(LIST), "size": 4},
        "set/set.zip": {"sha256": sha256(ZIP), "size": len(ZIP)},
    }
    assert [path.name for path in fetch.digests.parent.iterdir()] == ["digests.json"]
    # another machine with the tracked file gets the same, or nothing
    shutil.rmtree(fetch.out)
    shutil.rmtree(fetch.work)
    assert fetch.run() == 0
    assert "!!" not in capsys.readouterr().err
    shutil.rmtree(fetch.out)
    shutil.rmtree(fetch.work)
    changed = bytearray(ZIP)
    changed[len(ZIP) // 2] ^= 1
    fetch.server.resources["/set.zip"] = Resource(bytes(changed))
    assert fetch.run() == 1
    error = capsys.readouterr().err
    for part in (sha256(bytes(changed)), sha256(ZIP), str(fetch.digests), "remove its line"):
        assert part in error
    assert not fetch.out.exists()
    assert [path.name for path in fetch.work.iterdir()] == ["lock"]


def test_without_a_file_for_digests_it_is_said(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = fetch.arguments()
    at = arguments.index("--digests")
    assert main(arguments[:at] + arguments[at + 2 :]) == 0
    shown = capsys.readouterr().err
    assert sha256(ZIP) in shown
    assert "written down nowhere" in shown


def test_a_published_digest_is_not_written_down(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    for file, data in zip(fetch.entry["files"], (ZIP, LIST), strict=True):
        file |= {"sha256": sha256(data), "size": len(data)}
    assert fetch.run() == 0
    assert "!!" not in capsys.readouterr().err
    assert not fetch.digests.exists()
    # once the entry expects another file, what is in place does not count any more
    fetch.entry["files"][0] |= {"sha256": sha256(DATA), "size": None}
    assert fetch.run() == 1
    assert fetch.requested() == ["/set.zip"]
    fetch.assert_done()  # but it stays until there is a better one


def test_an_archive_that_cannot_be_used_is_not_trusted(fetch: Fetch) -> None:
    fetch.server.resources["/set.zip"] = Resource(ZIP[:-30])
    assert fetch.run() == 1
    assert not fetch.digests.exists()
    fetch.server.resources["/set.zip"] = Resource(ZIP)
    assert fetch.run() == 0  # so that the right one is, later
    assert fetch.requested() == ["/set.zip"]
    fetch.assert_done()


def test_limits_keep_the_download(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.entry["limits"] = {"bytes": 80_000}
    assert fetch.run() == 1
    assert "raise `limits`" in capsys.readouterr().err
    assert not fetch.out.exists()
    del fetch.entry["limits"]
    assert fetch.run() == 0
    assert fetch.requested() == []
    fetch.assert_done()


def test_two_files_of_one_name(fetch: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.entry["files"].append(
        {"name": "a.png", "urls": [fetch.server.url("/list.txt")], "unpack": False, "into": "set"}
    )
    assert fetch.run() == 1
    assert "two files of the download are called set/a.png" in capsys.readouterr().err
    assert list(fetch.out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"files": []}, ["files: "]),
        ({"licence": None}, ["licence: "]),
        ({"limits": {"ratio": 0}}, ["limits.ratio: "]),
        ({"limits": {"size": 1}}, ["limits", "'size'"]),
        ({"name": "../x"}, ["'files[0].name'", "'../x'"]),
        ({"name": ""}, ["files.0.name: "]),
        ({"name": ".hidden"}, ["'files[0].name'"]),
        ({"name": "list.txt"}, ["'files[1].name'", "each name once"]),
        ({"into": "/tmp"}, ["'files[0].into'"]),
        ({"into": "a/../.."}, ["'files[0].into'"]),
        ({"urls": []}, ["'files[0].urls'", "Google Drive"]),
        ({"urls": ["ftp://example.org/f"]}, ["'files[0].urls'", "https://"]),
        ({"urls": ["example.org/f"]}, ["'files[0].urls'"]),
        ({"urls": ["http://example.org:x/f"]}, ["'files[0].urls'"]),
        ({"urls": ["http://["]}, ["'files[0].urls'"]),
        ({"urls": ["http://example.org/a b"]}, ["'files[0].urls'"]),
        ({"urls": ["file://example.org/f"]}, ["'files[0].urls'"]),
        ({"url": []}, ["files.0", "'url'", "'urls'"]),
        ({"size": -1}, ["files.0.size: "]),
        ({"size": "big"}, ["files.0.size: "]),
        ({"sha256": "abc"}, ["files.0.sha256: "]),
        ({"sha256": sha256(ZIP).upper()}, ["files.0.sha256: "]),
    ],
)
def test_malformed_entries(
    fetch: Fetch, capsys: pytest.CaptureFixture[str], change: dict[str, Any], parts: list[str]
) -> None:
    known = set(fetch.entry) | {"limits"}
    (fetch.entry if set(change) <= known else fetch.entry["files"][0]).update(change)
    assert fetch.run() == 1
    error = capsys.readouterr().err
    for part in [str(fetch.params), *parts]:
        assert part in error
    assert "Traceback" not in error
    assert fetch.requested() == []
    assert not fetch.out.exists()


# --- digests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": {"sha256": "x", "size": 1}}'])
def test_a_malformed_digest_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "digests.json"
    path.write_text(content)
    with pytest.raises(InputError, match=str(path)):
        recorded_digest(path, "a")


def test_digests_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "digests.json"
    first = Digest(sha256(DATA), len(DATA))
    record_digest(path, "set/a", first)
    record_digest(path, "set/a", first)
    with pytest.raises(InputError, match="two downloads of set/a differ"):
        record_digest(path, "set/a", Digest(sha256(OTHER), len(OTHER)))
    assert recorded_digest(path, "set/a") == first
    assert recorded_digest(path, "set/b") is None


def test_digests_of_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "digests.json"
    threads = [
        threading.Thread(target=record_digest, args=(path, f"set/{i}", Digest(sha256(b""), i)))
        for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {recorded_digest(path, f"set/{i}") for i in range(20)} == {
        Digest(sha256(b""), i) for i in range(20)
    }


# --- whole processes ----------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "no_proxy": "127.0.0.1"}


@contextlib.contextmanager
def running(command: list[str], stderr: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that does not outlive the block, whatever happens in it."""
    with subprocess.Popen(command, env=environment(), stderr=stderr, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120  # a busy machine takes long to start a process
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def test_kill_and_restart(fetch: Fetch) -> None:
    big = zipped({"set/a.png": DATA})
    fetch.server.resources["/set.zip"] = Resource(big, faults=[Fault(cut=HALF, hold=True)])
    command = [sys.executable, "-m", "spheremap", *fetch.arguments()]
    with running(command, subprocess.DEVNULL) as process:
        wait_for(lambda: sum(p.stat().st_size for p in fetch.work.glob("set.zip.*.partial")) == HALF)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not fetch.out.exists()
    assert fetch.run() == 0
    assert fetch.server.ranges_of("/set.zip") == [f"bytes={HALF}-"]
    assert (fetch.out / "set" / "a.png").read_bytes() == DATA
    assert sorted(path.name for path in fetch.work.iterdir()) == ["list.txt", "lock", "set.zip"]


def test_a_file_that_may_not_grow(fetch: Fetch) -> None:
    """A real limit, of the kernel; the process lives to tell."""
    fetch.server.resources["/set.zip"] = Resource(zipped({"set/a.png": DATA}))
    code = (
        "import resource, sys; from spheremap.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({HALF}, {HALF}))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *fetch.arguments()]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(p.stat().st_size for p in fetch.work.glob("set.zip.*.partial")) == HALF
    assert fetch.run() == 0
    assert fetch.server.ranges_of("/set.zip") == [f"bytes={HALF}-"]


def test_two_processes_share_one_download(fetch: Fetch) -> None:
    fetch.server.resources["/set.zip"].faults = [Fault(cut=50_000, hold=True)]
    command = [sys.executable, "-m", "spheremap", *fetch.arguments()]
    with running(command, subprocess.DEVNULL) as first:
        wait_for(lambda: sum(p.stat().st_size for p in fetch.work.glob("set.zip.*.partial")) == 50_000)
        with running(command, subprocess.PIPE) as second:
            assert second.stderr is not None
            assert "waiting for another run" in second.stderr.readline()
            first.kill()
            second.stderr.read()
            assert second.wait() == 0
    fetch.assert_done()


def test_a_download_starts_without_torch() -> None:
    code = "import sys; import spheremap.cli.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


def test_entries_are_read_by_type() -> None:
    file = {"name": "a.tar.gz", "drive": "ID"}
    entry = parse(
        {"licence": "l", "citation": "c", "homepage": "h", "files": [file], "limits": {"members": 5}},
        DownloadEntry,
        where="params",
    )
    assert entry == DownloadEntry("l", "c", "h", (RemoteFile("a.tar.gz", drive="ID"),), Limits(members=5))


def test_drive_is_the_last_resort(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "ADDRESS", fetch.server.url("/uc?id={}"))
    fetch.server.resources["/uc"] = Resource(ZIP)
    fetch.entry["files"][0] |= {"urls": [fetch.server.url("/missing")], "drive": "ID"}
    assert fetch.run() == 0
    assert fetch.requested() == ["/missing", "/uc", "/list.txt"]
    fetch.entry["files"][0] |= {"urls": []}
    shutil.rmtree(fetch.work)
    shutil.rmtree(fetch.out)
    assert fetch.run() == 0
    assert fetch.requested() == ["/uc", "/list.txt"]


def test_a_page_compressed_as_archive_is_refused(fetch: Fetch) -> None:
    entry = DownloadEntry("l", "c", "h", (RemoteFile("set.zip", (fetch.server.url("/set.zip"),)),))
    fetch.server.resources["/set.zip"] = Resource(gzip.compress(b"<html>moved</html>" * 100))
    with pytest.raises(ArchiveRefused, match="damaged"):
        fetch_entry(entry, name="set", out=fetch.out, work=fetch.work)
