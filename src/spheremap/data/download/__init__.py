"""Data sets from the network: downloaded, checked, unpacked, and published as one folder.

An entry of params.yaml's `downloads` lists the files of one data set. `fetch_entry` brings them in and writes
`<out>/.spheremap.json`, a manifest of what they were and how much came out of them. The downloaded files stay
in the work folder, so that a lost or changed output is unpacked again without the network; to save space,
they may be deleted.
"""

import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spheremap.base.errors import InputError
from spheremap.base.files import atomic_path, exclusive, read_json, sha256_file, write_json
from spheremap.config.data_sets import Download as DownloadEntry
from spheremap.config.data_sets import Limits, RemoteFile
from spheremap.data.download.archive import ArchiveRefused, Unpacked, safe_parts, unpack
from spheremap.data.download.client import Client, Expected, Source, disk_errors, shown
from spheremap.data.download.digests import Digest, record_digest, recorded_digest
from spheremap.data.download.drive import drive_url

MANIFEST = ".spheremap.json"
OWNED = ".spheremap-fetch"  # marks a folder that may be replaced as a whole; outlives a deleted manifest
SCHEMES = ("http", "https", "file")


def fetch_entry(
    entry: DownloadEntry,
    *,
    name: str,
    out: Path,
    work: Path,
    digests: Path | None = None,
    client: Client | None = None,
    where: Path | str = "params.yaml",
) -> dict[str, Any]:
    """Make the folder `out` hold the data set; nothing is done if it does already.

    Args:
        entry: what to fetch.
        name: its name in `downloads`; the digests are filed under it.
        out: folder to publish; it appears complete or not at all.
        work: folder for downloads, complete and partial, that survives interruptions.
        digests: JSON file, tracked by Git, for digests of files that publish none.
        client: downloads the files.
        where: where the entry stands, for messages.

    Returns:
        The manifest.

    Raises:
        InputError: if the entry is malformed, a file cannot be downloaded or is not the one expected, an
            archive is refused, the disk is full, or `out` is a folder that this function did not make.
    """
    check_entry(entry, where)
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    with exclusive(work / "lock"):
        manifest = _manifest_in_place(entry, name, out, digests)
        if manifest is not None:
            _say(f"{name} is in place at {out}: {manifest['files']} files, {manifest['bytes']:,} bytes")
            return manifest
        _check_replaceable(out)
        missing = [file for file in entry.files if not (work / file.name).exists()]
        if missing:
            _say(notice(entry, name))
        fetched = {
            file.name: _fetch_file(file, f"{name}/{file.name}", work, digests, client or Client())
            for file in entry.files
        }
        return _publish(entry, name, out, work, digests, fetched)


def notice(entry: DownloadEntry, name: str) -> str:
    """What a user should know before the download begins."""
    labelled = (("licence", entry.licence), ("please cite", entry.citation), ("see", entry.homepage))
    lines = [f"downloading {name}", *(f"  {label}: {text.strip()}" for label, text in labelled)]
    return "\n".join(lines)


def check_entry(entry: DownloadEntry, where: Path | str) -> None:
    """Check what the types of the entry do not say.

    Raises:
        InputError: naming the file and the field.
    """

    def reject(key: str, expected: str, found: object) -> None:
        raise InputError(f"wrong value for {key!r}", where=where, expected=expected, found=repr(found))

    for i, file in enumerate(entry.files):
        key = f"files[{i}]"
        parts = safe_parts(file.name)
        if parts is None or len(parts) != 1 or file.name.startswith(".") or file.name == "lock":
            reject(f"{key}.name", "the plain name of a file", file.name)
        if file.name in (other.name for other in entry.files[:i]):
            reject(f"{key}.name", "each name once", file.name)
        if safe_parts(file.into) is None:
            reject(f"{key}.into", "a folder inside the data set's", file.into)
        if not file.urls and not file.drive:
            reject(f"{key}.urls", "an address, or the id of a file of Google Drive as `drive`", [])
        for url in file.urls:
            if not _is_address(url):
                reject(f"{key}.urls", "addresses that begin with http://, https:// or file:///", shown(url))
            if "@" in urlsplit(url).netloc:
                reject(f"{key}.urls", "addresses without user and password: Git keeps this file", shown(url))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return False
    if not url.isprintable() or " " in url or parts.scheme not in SCHEMES:
        return False
    if parts.scheme == "file":
        return parts.netloc in ("", "localhost") and parts.path.startswith("/")
    return bool(parts.hostname)


# --- the files ----------------------------------------------------------------------------------------------


def _fetch_file(file: RemoteFile, key: str, work: Path, digests: Path | None, client: Client) -> Digest:
    """Have a complete and checked copy of a file in the work folder."""
    final = work / file.name
    expected = _expected(file, key, digests)
    if final.exists() and not _is_as_expected(final, expected):
        _say(f"{final} is not the file expected and is downloaded again")
        final.unlink()
    if final.exists():
        sha256 = expected.sha256 or sha256_file(final)
    else:
        sources = [Source(url) for url in file.urls]
        if file.drive is not None:
            sources.append(Source(drive_url(file.drive), drive=True))
        sha256 = client.fetch(sources, final, expected)
    return Digest(sha256, final.stat().st_size)


def _expected(file: RemoteFile, key: str, digests: Path | None) -> Expected:
    if file.sha256 is not None:
        return Expected(file.size, file.sha256, f"in params.yaml ({file.sha256})")
    known = recorded_digest(digests, key) if digests is not None else None
    if known is None:
        return Expected(file.size)
    size = file.size if file.size is not None else known.size
    origin = f"that the first download wrote down in {digests} ({known.sha256}); if the authors really "
    return Expected(size, known.sha256, origin + "published another version, remove its line there")


def _is_as_expected(path: Path, expected: Expected) -> bool:
    if expected.size is not None and path.stat().st_size != expected.size:
        return False
    return expected.sha256 is None or sha256_file(path) == expected.sha256


def _trust(key: str, digest: Digest, digests: Path | None) -> None:
    """Write down the digest of a first download, and say so."""
    lines = [
        f"!! nobody publishes a digest of {key}; this first download is trusted:",
        f"!!   sha256 {digest.sha256}, {digest.size} bytes",
    ]
    if digests is None:
        lines.append(
            "!! it is written down nowhere (see --digests), so the next download is trusted likewise"
        )
    else:
        record_digest(digests, key, digest)
        lines.append(f"!! written down in {digests}: commit that file, and every later download is compared")
    _say("\n".join(lines))


# --- the folder ---------------------------------------------------------------------------------------------


def _publish(
    entry: DownloadEntry,
    name: str,
    out: Path,
    work: Path,
    digests: Path | None,
    fetched: dict[str, Digest],
) -> dict[str, Any]:
    # beside the output, hence on its disk; always of the same name, so that a killed run leaves no rest
    staging = out.with_name(f".{out.name}.unpacking")
    _remove_folder(staging)
    try:
        with disk_errors(staging):
            staging.mkdir(parents=True)
        files = {}
        for file in entry.files:
            unpacked = _place(file, work / file.name, staging, entry.limits, trusted=file.sha256 is not None)
            digest = fetched[file.name]
            files[file.name] = {
                **asdict(digest),
                "into": file.into,
                "unpack": file.unpack,
                **_counts(unpacked),
            }
        for file in entry.files:  # only now, since a file that cannot be used is not to be trusted
            key = f"{name}/{file.name}"
            known = digests is not None and recorded_digest(digests, key) is not None
            if file.sha256 is None and not known:
                _trust(key, fetched[file.name], digests)
        manifest = {
            "name": name,
            "licence": entry.licence,
            "citation": entry.citation,
            "homepage": entry.homepage,
            "downloads": files,
            **_counts(_inventory(staging)),
        }
        with disk_errors(staging):
            (staging / OWNED).write_text(
                "Made by `spheremap fetch`, which may replace this folder as a whole.\n", encoding="utf-8"
            )
            write_json(staging / MANIFEST, manifest)
            if out.is_dir() and not any(out.iterdir()):
                out.rmdir()
            with atomic_path(out) as temporary:
                staging.rename(temporary)
    finally:
        _remove_folder(staging)
    return manifest


def _place(file: RemoteFile, path: Path, staging: Path, limits: Limits, *, trusted: bool) -> Unpacked:
    """Unpack a downloaded file into the new folder, or copy it there."""
    target = staging / file.into
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    if file.unpack:
        try:
            return unpack(path, target, limits)
        except ArchiveRefused:
            if not trusted:  # another download may differ
                path.unlink()
            raise
    if (target / file.name).exists():
        raise InputError(
            f"two files of the download are called {file.into}/{file.name}",
            where=path,
            fix="give one of them another `into` in params.yaml",
        )
    with disk_errors(target):
        shutil.copyfile(path, target / file.name)
    return Unpacked(1, path.stat().st_size)


def _remove_folder(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _inventory(folder: Path) -> Unpacked:
    """Count the files below a folder and their bytes, without what `fetch_entry` itself writes."""
    files = size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if Path(parent) == folder and name in (MANIFEST, OWNED):
                continue
            files += 1
            size += (Path(parent) / name).lstat().st_size
    return Unpacked(files, size)


def _counts(unpacked: Unpacked) -> dict[str, int]:
    return {"files": unpacked.files, "bytes": unpacked.bytes}


def _manifest_in_place(
    entry: DownloadEntry, name: str, out: Path, digests: Path | None
) -> dict[str, Any] | None:
    """The manifest of the folder if it holds just what the entry asks for."""
    if not (out / MANIFEST).exists():
        return None
    manifest = read_json(out / MANIFEST)
    downloads = manifest.get("downloads") if isinstance(manifest, dict) else None
    if not isinstance(downloads, dict) or set(downloads) != {file.name for file in entry.files}:
        return None
    for file in entry.files:
        known = downloads[file.name]
        expected = _expected(file, f"{name}/{file.name}", digests)
        same = (
            isinstance(known, dict)
            and (known.get("into"), known.get("unpack")) == (file.into, file.unpack)
            and expected.size in (None, known.get("size"))
            and expected.sha256 in (None, known.get("sha256"))
        )
        if not same:
            return None
    counts = _counts(_inventory(out))
    return manifest if {key: manifest.get(key) for key in counts} == counts else None


def _check_replaceable(out: Path) -> None:
    """Refuse to replace what a user put there."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        found = "a link" if out.is_symlink() else "a file"
    elif out.exists() and any(out.iterdir()) and not (out / OWNED).exists():
        found = "a folder with other content"
    else:
        return
    raise InputError(
        "the place of the data set is taken",
        where=out,
        expected="nothing, or a folder that `spheremap fetch` made",
        found=found,
        fix="to use what is there, remove `download` from the data set's entry in params.yaml; "
        "else move it away",
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
