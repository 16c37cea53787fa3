"""Downloads that survive bad connections: resumed, from several mirrors, checked, and atomic.

requests and urllib3 know proxies, redirects, cookies, and patience until an answer begins. What they do not
know is here: how to continue a body that breaks off. It arrives in `<name>.partial`; a note beside that keeps
what the server said of the file, so that a later attempt, or a later run, asks for the rest only, and only if
the file is still the same one (RFC 9110, section 14: Range, If-Range). Else the download starts over.
"""

import hashlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from spheremap.base.errors import InputError
from spheremap.base.files import read_json, sha256_file, write_json
from spheremap.base.progress import progress
from spheremap.data.download import drive

CHUNK = 1 << 18  # bytes per read
LARGEST_PAGE = 1 << 20  # bytes read of a page that stands in for the file
TIMEOUT = (20.0, 60.0)  # seconds: to connect; of silence
ATTEMPTS = 5  # at a mirror in a row, none of which brings anything new
RETRY = Retry(  # until an answer begins; pauses of 0, 2, 4, 8, 16 s
    total=5, backoff_factor=1, retry_after_max=60, status_forcelist=(408, 425, 429, 500, 502, 503, 504)
)


@dataclass(frozen=True)
class Expected:
    """What is known of a file beforehand."""

    size: int | None = None  # bytes
    sha256: str | None = None
    origin: str = "in params.yaml"  # where that is written down, for messages


class _Interrupted(Exception):
    """An attempt failed; the next one may succeed."""


class _MirrorFailed(Exception):
    """There is no point in asking this mirror again."""


def download(urls: Sequence[str], final: Path, expected: Expected) -> str:
    """Download a file from the first mirror that delivers it; it appears complete and checked or not at all.

    Returns:
        Its SHA-256.

    Raises:
        InputError: if no mirror delivers the file, saying why for each.
    """
    failures = []
    with _session() as session:
        for url in urls:
            partial = _Partial(final, url)
            try:
                digest = _download_from(session, partial, expected)
            except _MirrorFailed as failure:
                failures.append(f"{shown(url)}: {failure}")
                say(f"{final.name}: giving up on {failures[-1]}")
                continue
            partial.path.replace(final)
            partial.discard()
            return digest
    raise InputError(
        f"cannot download {final.name}",
        expected="a complete file" + (f" with SHA-256 {expected.sha256}" if expected.sha256 else ""),
        found="; ".join(failures),
        fix="check the network and run the command again (it resumes); or put the file at "
        f"{final} yourself; if the authors published another version, correct the file's entry",
    )


def shown(url: str) -> str:
    """An address as it may stand in a message: what can hold a secret (user, password, query) is left out."""
    address, mark, _ = url.partition("#")[0].partition("?")
    return re.sub("//[^/]*@", "//", address) + (mark and "?…")


def _download_from(session: requests.Session, partial: "_Partial", expected: Expected) -> str:
    """Bring in and check the file; its SHA-256."""
    failures = furthest = 0
    while True:
        try:
            resumed = _transfer(session, partial, expected)
            size, digest = partial.size(), sha256_file(partial.path)
            if expected.size in (None, size) and expected.sha256 in (None, digest):
                return digest
            partial.discard()
            if not resumed:
                raise _MirrorFailed(f"{size} bytes with SHA-256 {digest}, not those {expected.origin}")
            raise _Interrupted("what was put together is not the file expected")  # the whole may be
        except _Interrupted as reason:
            failures = 1 if partial.size() > furthest else failures + 1
            furthest = max(furthest, partial.size())
            if failures == ATTEMPTS:
                raise _MirrorFailed(f"{reason} ({failures} attempts)") from reason
            say(f"{partial.final.name}: {reason}; trying again")


def _transfer(session: requests.Session, partial: "_Partial", expected: Expected) -> bool:
    """Bring in what is missing; whether the file now holds bytes of an earlier attempt."""
    if partial.url.startswith("file:"):
        path = Path(unquote(urlsplit(partial.url).path))
        if not path.is_file():  # a device has no end
            raise _MirrorFailed("no such plain file")
        partial.discard()
        shutil.copyfile(path, partial.path)
        return False
    arrived = partial.size() if expected.sha256 or partial.validator else 0
    offset = arrived if partial.length is not None and arrived <= partial.length else 0
    if offset and offset == partial.length:
        return True
    # requests leaves out a header that is None
    headers = {"Range": f"bytes={offset}-", "If-Range": partial.validator or None} if offset else {}
    with _open(session, partial.url, headers) as response:
        if response.status_code == 200:  # the whole file, whether or not a part was asked for
            if _is_page(response):
                raise _MirrorFailed("the server sent a web page instead of the file")
            offset = 0
            partial.begin(response, expected)
        elif not (offset and partial.is_continued_by(response, offset)):
            partial.discard()
            raise _Interrupted("the server has another file by now")
        _receive(response, partial, offset, expected.size)
    return offset > 0


def _receive(response: requests.Response, partial: "_Partial", offset: int, size: int | None) -> None:
    """Append the body to the partial file, from byte `offset` on; `size` is that expected, in bytes."""
    total = partial.length if size is None else size
    options: dict[str, Any] = {"unit": "B", "unit_scale": True, "initial": offset}
    with (
        partial.path.open("ab") as stream,
        progress(total=total or 0, desc=partial.final.name, **options) as bar,
    ):
        while True:
            try:
                # as sent: an archive is not to be decompressed on the way
                chunk = response.raw.read1(CHUNK, decode_content=False)
            except HTTPError as error:
                raise _Interrupted(str(error.args[0])) from error
            if not chunk:
                break
            offset += len(chunk)
            if size is not None and offset > size:
                raise _MirrorFailed(f"the server has a file of more than {size} bytes")
            try:
                stream.write(chunk)
                stream.flush()
            except OSError as error:
                error.filename = str(partial.path)
                raise
            bar.update(len(chunk))
        os.fsync(stream.fileno())
    if total is not None and offset < total:
        raise _Interrupted(f"the connection ended after {offset} of {total} bytes")


class _Partial:
    """The bytes that have arrived of a file, and what the server said of it: length and validator."""

    def __init__(self, final: Path, url: str) -> None:
        self.final = final
        self.url = url
        self.path = final.with_name(f"{final.name}.partial")
        self._note = final.with_name(f"{final.name}.partial.json")
        note: dict[str, Any] = {}
        if self._note.exists():
            with suppress(InputError):  # half of it, after a power failure
                note = read_json(self._note)
        self._mirror = hashlib.sha256(url.encode()).hexdigest()  # the address may hold a secret
        ours = note.get("mirror") == self._mirror  # bytes of one mirror are never continued by another
        self.length: int | None = note["length"] if ours else None
        self.validator: str = note["validator"] if ours else ""

    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, response: requests.Response, expected: Expected) -> None:
        """Start over with the file that this answer brings."""
        text = response.headers.get("Content-Length", "")
        length = int(text) if text.isascii() and text.isdigit() else None
        if length is not None and expected.size not in (None, length):
            raise _MirrorFailed(f"the server has a file of {length} bytes instead of {expected.size}")
        if length is None and not response.raw.chunked and not (expected.size or expected.sha256):
            raise _MirrorFailed("the server does not say how long the file is; add its size to its entry")
        self.discard()
        self.length, self.validator = length, _validator(response)
        write_json(self._note, {"mirror": self._mirror, "length": length, "validator": self.validator})

    def is_continued_by(self, response: requests.Response, offset: int) -> bool:
        """Whether a partial answer is the rest of the same file."""
        rest = f"bytes {offset}-{(self.length or 0) - 1}/{self.length}"
        same = _validator(response) in ("", self.validator)
        return response.status_code == 206 and same and response.headers.get("Content-Range") == rest

    def discard(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.length, self.validator = None, ""


# --- talking to servers -------------------------------------------------------------------------------------


def _session() -> requests.Session:
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote addresses whole
    session = requests.Session()
    session.max_redirects = 10
    session.headers.update({"User-Agent": "spheremap", "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=RETRY))
    return session


def _open(session: requests.Session, url: str, headers: dict[str, Any]) -> requests.Response:
    """The answer that carries the file, behind Google Drive's page if need be."""
    if not url.startswith(drive.ADDRESS.format("")):
        return _get(session, url, headers)
    response = _get(session, url, {})  # a page is not to be asked for a part
    if not _is_page(response):
        return response
    with response:
        page = response.raw.read(LARGEST_PAGE).decode("utf-8", errors="replace")
    try:
        return _get(session, drive.confirmed_url(page, url), headers)
    except drive.DriveRefusal as refusal:
        raise _MirrorFailed(str(refusal)) from refusal


def _get(session: requests.Session, url: str, headers: dict[str, Any]) -> requests.Response:
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.RequestException, ValueError) as error:
        # only what is behind the error: its own text may quote the address
        cause = getattr(error.args[0], "reason", None) if error.args else None
        raise _MirrorFailed(str(cause or type(error).__name__)) from error
    steps = [answer.url for answer in (*response.history, response)]
    if url.startswith("https:") and not all(step.startswith("https:") for step in steps):
        problem = "a redirect away from https"
    elif response.status_code not in (200, 206, 416):
        problem = f"the server answers {response.status_code} {response.reason}"
    else:
        return response
    response.close()
    raise _MirrorFailed(problem)


def _is_page(response: requests.Response) -> bool:
    headers = response.headers
    page = headers.get("Content-Type", "").startswith("text/html")
    return page and "attachment" not in headers.get("Content-Disposition", "")


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from others: a strong ETag or the time of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def say(message: str) -> None:
    """Tell the user, on standard error, what goes on."""
    print(message, file=sys.stderr, flush=True)
