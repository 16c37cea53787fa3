"""Downloads that survive bad connections: resumed, retried, from several mirrors, checked, and atomic.

Bytes arrive in `<name>.<mirror>.partial`; beside it a small state file keeps what the server said of the file
(length, ETag, Last-Modified), so that a later attempt, or a later run after a crash, asks for the rest only,
and only if the file is still the same one (RFC 9110, section 14: Range, If-Range). Where the server offers no
ranges, ignores them, or has another file by then, the download starts over.
"""

import contextlib
import errno
import hashlib
import http.client
import os
import random
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from spheremap.base.errors import InputError
from spheremap.base.files import read_json, sha256_file, write_json
from spheremap.base.progress import progress
from spheremap.data.download.drive import DriveRefusal, confirmed_url

CHUNK = 1 << 18  # bytes per read
LARGEST_PAGE = 1 << 20  # bytes read of a page that stands in for the file
TRANSIENT = {408, 425, 429}  # besides all 5xx: answers worth asking for again
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Policy:
    """How patient a download is.

    `attempts` counts failures in a row of one mirror; an attempt that brought `stall_bytes` or more beyond
    what was there before starts the count anew. A connection is given up when it brings fewer than
    `stall_bytes` in `stall_seconds`.
    """

    attempts: int = 6
    backoff: float = 1.0  # seconds before the second attempt; doubles each time
    longest_backoff: float = 60.0  # seconds
    stall_seconds: float = 60.0
    stall_bytes: int = 1 << 14


def shown(url: str) -> str:
    """An address as it may stand in a message: what can hold a secret (user, password, query) is left out."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    netloc = "…@" * ("@" in parts.netloc) + parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path, "…" if parts.query else "", ""))


@dataclass(frozen=True)
class Source:
    """One place to get a file from."""

    url: str  # http, https or file
    drive: bool = False  # Google Drive, which may answer with a page that asks for confirmation


@dataclass(frozen=True)
class Expected:
    """What is known of a file beforehand."""

    size: int | None = None  # bytes
    sha256: str | None = None
    origin: str = ""  # where the SHA-256 is written down, for messages


class _Transient(Exception):
    """An attempt failed; the next one may succeed."""

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after  # seconds that the server asks for


class _MirrorFailed(Exception):
    """There is no point in asking this mirror again."""


class Client:
    """Downloads files one after the other.

    Args:
        policy: patience.
        sleep: waits for so many seconds between attempts.
        jitter: uniform random numbers in [0, 1), which spread the attempts of many clients.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy or Policy()
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock
        self._opener = _opener()

    def fetch(self, sources: Sequence[Source], final: Path, expected: Expected) -> str:
        """Download a file from the first source that delivers it; it appears complete and checked or not.

        Returns:
            Its SHA-256.

        Raises:
            InputError: if no source delivers the file, saying why for each; or if the disk is full.
        """
        with disk_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
        failures = []
        for source in sources:
            try:
                digest = self._fetch_from(source, _Partial(final, source.url), expected)
            except _MirrorFailed as failure:
                failures.append(f"{shown(source.url)}: {failure}")
                _say(f"{final.name}: giving up on {shown(source.url)}: {failure}")
                continue
            for other in sources:  # what other mirrors left behind is of no use any more
                _Partial(final, other.url).discard()
            return digest
        raise InputError(
            f"cannot download {final.name}",
            expected="a complete file" + (f" with SHA-256 {expected.sha256}" if expected.sha256 else ""),
            found="; ".join(failures),
            fix="check the network and run the command again (it resumes); or put the file at "
            f"{final} yourself; if the authors published another version, correct the entry in params.yaml",
        )

    def _fetch_from(self, source: Source, partial: "_Partial", expected: Expected) -> str:
        failures, furthest = 0, partial.size()
        while True:
            try:
                stitched = self._transfer(source, partial, expected)
                return self._publish(partial, expected, stitched)
            except _Transient as failure:
                gained = partial.size() - furthest
                furthest = max(furthest, partial.size())
                failures = 1 if gained >= self._policy.stall_bytes else failures + 1
                if failures >= self._policy.attempts:
                    raise _MirrorFailed(f"{failure} ({failures} attempts)") from failure
                delay = min(self._policy.backoff * 2 ** (failures - 1), self._policy.longest_backoff)
                delay *= 0.5 + 0.5 * self._jitter()
                delay = max(delay, min(failure.retry_after, self._policy.longest_backoff))
                _say(f"{partial.final.name}: {failure}; next attempt in {delay:.1f} s")
                self._sleep(delay)

    def _publish(self, partial: "_Partial", expected: Expected, stitched: bool) -> str:
        """Check the complete file and give it its name."""
        size = partial.size()
        if expected.size is not None and size != expected.size:
            partial.discard()
            raise _MirrorFailed(f"the file has {size} bytes instead of {expected.size}")
        digest = sha256_file(partial.path)
        if expected.sha256 is not None and digest != expected.sha256:
            partial.discard()
            reason = f"the file has SHA-256 {digest}, not the one {expected.origin}"
            # pieces of two versions of a file can be wrong where the whole is right
            raise _Transient(reason) if stitched else _MirrorFailed(reason)
        partial.publish()
        return digest

    def _transfer(self, source: Source, partial: "_Partial", expected: Expected) -> bool:
        """Bring in what is missing; whether the file now holds bytes of an earlier attempt."""
        if urlsplit(source.url).scheme == "file":
            self._copy_local(source.url, partial)
            return False
        offset = partial.resume_from(trusted=expected.sha256 is not None)
        if partial.complete():
            return True
        headers = {"Accept-Encoding": "identity"}  # ranges and lengths are those of the file itself
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if partial.validator():
                headers["If-Range"] = partial.validator()
        with self._open(source, partial, headers) as response:
            if response.status == 206 and offset:
                total = partial.check_range(response.headers, offset)
            elif response.status == 200:
                offset = 0  # the whole file, whether or not a part was asked for
                total = _content_length(response.headers)
                _check_length(total, response, expected)
                partial.begin(response.headers, total)
            else:
                raise _MirrorFailed(f"unexpected answer {response.status} {response.reason}")
            self._receive(response, partial, offset, total, expected.size)
        return offset > 0

    @contextlib.contextmanager
    def _open(
        self, source: Source, partial: "_Partial", headers: dict[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer that carries the file."""
        with contextlib.ExitStack() as stack:
            with _network(partial):
                # a page in between is not to be asked for a part
                first = {} if source.drive else headers
                response = stack.enter_context(self._request(source.url, first))
                if source.drive and _is_page(response):
                    page = response.read(LARGEST_PAGE).decode("utf-8", errors="replace")
                    try:
                        url = confirmed_url(page, source.url)
                    except DriveRefusal as refusal:
                        raise _MirrorFailed(str(refusal)) from refusal
                    response = stack.enter_context(self._request(url, headers))
            if _is_page(response) and partial.final.suffix not in (".html", ".htm"):
                raise _MirrorFailed("the server sent a web page instead of the file")
            yield response

    def _request(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers=headers)
        response: http.client.HTTPResponse = self._opener.open(request, timeout=self._policy.stall_seconds)
        return response

    def _receive(
        self,
        response: http.client.HTTPResponse,
        partial: "_Partial",
        offset: int,
        total: int | None,
        size: int | None,
    ) -> None:
        """Append the body to the partial file, from byte `offset` on.

        Args:
            total: length of the file that the server states, in bytes.
            size: the length expected; it counts where the server states none.
        """
        window_start, window_bytes = self._clock(), 0
        with (
            partial.appending() as stream,
            progress(
                total=total or size or 0, desc=partial.final.name, unit="B", unit_scale=True, initial=offset
            ) as bar,
        ):
            while total is None or offset < total:
                with _network(partial):
                    chunk = response.read1(CHUNK if total is None else min(CHUNK, total - offset))
                if not chunk:
                    break
                if total is None and size is not None and offset + len(chunk) > size:
                    raise _MirrorFailed(f"the server has a file of more than {size} bytes")
                with disk_errors(partial.path):
                    write_all(stream, chunk)
                offset += len(chunk)
                bar.update(len(chunk))
                window_bytes += len(chunk)
                now = self._clock()
                if now - window_start >= self._policy.stall_seconds:
                    if window_bytes < self._policy.stall_bytes:
                        raise _Transient(f"only {window_bytes} bytes in {now - window_start:.0f} s")
                    window_start, window_bytes = now, 0
        announced = total if total is not None else size
        if announced is not None and offset < announced:
            raise _Transient(f"the connection ended after {offset} of {announced} bytes")

    def _copy_local(self, url: str, partial: "_Partial") -> None:
        path = Path(urllib.request.url2pathname(urlsplit(url).path))
        try:
            if path.exists() and not path.is_file():  # a device has no end
                raise _MirrorFailed("not a plain file")
            source = path.open("rb")
        except OSError as error:
            raise _MirrorFailed(error.strerror or str(error)) from error
        with source:
            size = os.fstat(source.fileno()).st_size
            partial.begin(Message(), size)
            with (
                partial.appending() as stream,
                progress(total=size, desc=partial.final.name, unit="B", unit_scale=True) as bar,
            ):
                while chunk := source.read(CHUNK):
                    with disk_errors(partial.path):
                        write_all(stream, chunk)
                    bar.update(len(chunk))


class _Partial:
    """The bytes that have arrived from one mirror, and what the server said of the file they belong to."""

    def __init__(self, final: Path, url: str) -> None:
        mirror = hashlib.sha256(url.encode()).hexdigest()[:8]
        self.final = final
        self.path = final.with_name(f"{final.name}.{mirror}.partial")
        self._state_path = final.with_name(f"{final.name}.{mirror}.json")
        self._url = url
        self._state = self._read_state()

    def _read_state(self) -> dict[str, Any]:
        if self.path.exists() and self._state_path.exists():
            try:
                state = read_json(self._state_path)
            except InputError:
                state = None  # damaged: what has arrived cannot be trusted, and the download starts over
            if isinstance(state, dict) and state.get("url") == self._url:
                return state
        return {}

    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str:
        """What tells this version of the file from others: a strong ETag or the time of the last change."""
        etag = self._state.get("etag")
        if isinstance(etag, str) and etag.startswith('"'):
            return etag
        modified = self._state.get("last_modified")
        return modified if isinstance(modified, str) else ""

    def resume_from(self, *, trusted: bool) -> int:
        """The byte to go on from.

        Args:
            trusted: the SHA-256 is known, so that a wrong continuation would be noticed.
        """
        length = self._state.get("length")
        usable = bool(self._state) and (trusted or self.validator() != "")
        if not usable or (isinstance(length, int) and self.size() > length):
            self.discard()
        return self.size()

    def complete(self) -> bool:
        """Whether all the bytes are there that the server announced."""
        return bool(self._state) and self._state.get("length") == self.size()

    def begin(self, headers: Message, length: int | None) -> None:
        """Start over with the file that these headers describe."""
        state = {
            "url": self._url,
            "etag": headers["ETag"],
            "last_modified": headers["Last-Modified"],
            "length": length,
        }
        with disk_errors(self.path):
            self.path.write_bytes(b"")  # first, so that a state never belongs to bytes of another file
            write_json(self._state_path, state)
        self._state = state

    def check_range(self, headers: Message, offset: int) -> int | None:
        """Check that a partial answer continues the same file; the file's length.

        Raises:
            _Transient: after discarding what has arrived, if it does not.
        """
        match = _CONTENT_RANGE.fullmatch(headers["Content-Range"] or "")
        total = int(match[3]) if match and match[3] != "*" else self._state.get("length")
        same = (
            match is not None
            and int(match[1]) == offset
            and self._state.get("length") in (None, total)
            and headers["ETag"] in (None, self._state.get("etag"))
            and headers["Last-Modified"] in (None, self._state.get("last_modified"))
        )
        if not same:
            self.discard()
            raise _Transient("the server answered with a part of another file, so the download starts over")
        return total

    @contextlib.contextmanager
    def appending(self) -> Iterator[IO[bytes]]:
        """The file, open for more bytes; unbuffered, so that what was written counts at any moment."""
        with disk_errors(self.path):
            stream = self.path.open("ab", buffering=0)
        with stream:
            yield stream

    def publish(self) -> None:
        """Give the complete file its name."""
        with disk_errors(self.path):
            with self.path.open("rb") as stream:
                os.fsync(stream.fileno())
            self.path.replace(self.final)
        self._state_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)
        self._state = {}


def write_all(stream: IO[bytes], chunk: bytes) -> None:
    """Write to an unbuffered file, which may take only a part at a time."""
    view = memoryview(chunk)
    while view:
        view = view[stream.write(view) :]


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing into messages; what was written stays.

    Raises:
        InputError: if the disk is full or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in _DISK_FULL
        raise InputError(
            "the disk is full" if full else "cannot write",
            where=path,
            found=error.strerror or str(error),
            fix="free some space and run the command again: it goes on from where it stopped"
            if full
            else "correct the permissions or choose another place",
        ) from error


@contextlib.contextmanager
def _network(partial: _Partial) -> Iterator[None]:
    """Sort what can go wrong on the network into what may pass and what will not."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            reason = f"the server answers {error.code} {error.reason}".splitlines()[0]
            if error.code == 416:  # the part asked for is beyond the end, so this is another file
                partial.discard()
                raise _Transient(reason) from error
            if error.code in TRANSIENT or error.code >= 500:
                raise _Transient(reason, retry_after=_retry_after(error.headers)) from error
            raise _MirrorFailed(reason) from error
    except urllib.error.URLError as error:
        lasting = isinstance(
            error.reason, str | ssl.SSLCertVerificationError
        )  # a text: not an http(s) address
        raise (_MirrorFailed if lasting else _Transient)(_reason(error.reason)) from error
    except (http.client.InvalidURL, ValueError) as error:
        # its text would quote the address, user and password included
        raise _MirrorFailed("an address that cannot be used") from error
    except (http.client.HTTPException, OSError) as error:
        raise _Transient(_reason(error)) from error


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from an encrypted to a plain connection."""

    max_redirections = 10

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            fp.close()
            raise urllib.error.URLError(f"a redirect away from https, to {shown(newurl)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https addresses only (a redirect leads nowhere else); keeps cookies; honours proxies."""
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPCookieProcessor(),
        _Redirects(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "spheremap")]
    return opener


def _is_page(response: http.client.HTTPResponse) -> bool:
    headers = response.headers
    return headers.get_content_type() == "text/html" and "attachment" not in headers.get(
        "Content-Disposition", ""
    )


def _content_length(headers: Message) -> int | None:
    text = headers["Content-Length"]
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _check_length(total: int | None, response: http.client.HTTPResponse, expected: Expected) -> None:
    if total is not None and expected.size is not None and total != expected.size:
        raise _MirrorFailed(f"the server has a file of {total} bytes instead of {expected.size}")
    checkable = total is not None or response.chunked or expected.size is not None or expected.sha256
    if not checkable:
        raise _MirrorFailed(
            "the server does not say how long the file is, so that a broken download could not be told; "
            "add its size or sha256 in params.yaml"
        )


def _retry_after(headers: Message) -> float:
    text = headers["Retry-After"] or ""
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
