"""Data sets from the network: downloaded, checked, unpacked, and published as one folder.

An entry of params.yaml's `downloads` lists the files of one data set. `fetch_entry` brings them in and writes
`<out>/.spheremap.json`, a manifest of what they were and how much came out of them. The downloaded files stay
in the work folder, so that a lost or changed output is unpacked again without the network; to save space,
they may be deleted.
"""

import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from spheremap.base.errors import InputError
from spheremap.base.files import atomic_path, exclusive, read_json, refuse_foreign, sha256_file, write_json
from spheremap.config.data_sets import Download as DownloadEntry
from spheremap.config.data_sets import Limits, RemoteFile, Terms
from spheremap.config.fields import STRICT, Sha256
from spheremap.config.slices import read_slice
from spheremap.data.download import drive
from spheremap.data.download.archive import ArchiveRefused, inside, unpack
from spheremap.data.download.client import Expected, download, say, shown

MANIFEST = ".spheremap.json"
OWNED = ".spheremap-fetch"  # marks a folder that may be replaced as a whole; outlives a deleted manifest
_ADDRESS = re.compile(r"https?://[^\s/?#@]+([/?#]\S*)?|file:///\S+")


@dataclass(frozen=True, config=STRICT)
class Digest:
    """Identity of a downloaded file."""

    sha256: Sha256
    size: int  # bytes


def fetch_entry(
    entry: DownloadEntry, *, name: str, out: Path, work: Path, digests: Path | None = None
) -> dict[str, Any]:
    """Make the folder `out` hold the data set; nothing is done if it does already.

    Args:
        entry: what to fetch.
        name: its name in `downloads`; the digests are filed under it.
        out: folder to publish; it appears complete or not at all.
        work: folder for downloads, complete and partial, that survives interruptions.
        digests: JSON file, tracked by Git, for digests of files that publish none.

    Returns:
        The manifest.

    Raises:
        InputError: if an address or a folder is refused, a file cannot be downloaded or is not the one
            expected, an archive is refused, or `out` is a folder that this function did not make.
    """
    _check(entry.files)
    with exclusive(work / ".lock"):
        expected = {file.name: expected_of(file, f"{name}/{file.name}", digests) for file in entry.files}
        manifest = _manifest_in_place(entry, out, expected)
        if manifest is not None:
            say(f"{name} is in place at {out}: {manifest['files']} files, {manifest['bytes']:,} bytes")
            return manifest
        refuse_foreign(out, (out / OWNED).exists())
        if out.exists() and any(out.iterdir()):
            say(f"{out} is unpacked anew; what else is in it will be gone")
        if not all((work / file.name).exists() for file in entry.files):
            announce(name, entry)
        fetched = {file.name: fetch_file(file, work, expected[file.name]) for file in entry.files}
        with atomic_path(out) as folder:
            folder.mkdir()
            for file in entry.files:
                _place(file, work / file.name, folder, entry.limits)
            for file in entry.files:  # only now, since a file that cannot be used is not to be trusted
                if expected[file.name].sha256 is None:
                    trust(f"{name}/{file.name}", fetched[file.name], digests)
            manifest = {
                "name": name,
                **{key: getattr(entry, key) for key in ("licence", "citation", "homepage")},
                "downloads": {
                    file.name: {**asdict(fetched[file.name]), "into": file.into, "unpack": file.unpack}
                    for file in entry.files
                },
                **_inventory(folder),
            }
            owned = "Made by `spheremap fetch`, which may replace this folder as a whole.\n"
            (folder / OWNED).write_text(owned, encoding="utf-8")
            write_json(folder / MANIFEST, manifest)
    return manifest


def _check(files: tuple[RemoteFile, ...]) -> None:
    """What leads elsewhere, or is a secret that Git would keep, is refused: parameters may be another's."""
    expected = "http://, https:// or file:///, without user and password, since Git keeps this file"
    for i, file in enumerate(files):
        for url in file.urls:
            if not _ADDRESS.fullmatch(url):
                raise InputError(f"wrong value for 'files[{i}].urls'", expected=expected, found=shown(url))
        if not inside(file.into):
            where = "a folder inside the data set's"
            raise InputError(f"wrong value for 'files[{i}].into'", expected=where, found=repr(file.into))


# --- the files ----------------------------------------------------------------------------------------------


def announce(name: str, terms: Terms) -> None:
    """Say what a user should know before a download begins."""
    labelled = (("licence", terms.licence), ("please cite", terms.citation), ("see", terms.homepage))
    say("\n".join([f"downloading {name}", *(f"  {label}: {text.strip()}" for label, text in labelled)]))


def fetch_file(file: RemoteFile, work: Path, expected: Expected) -> Digest:
    """Have a complete and checked copy of a file in the work folder.

    Raises:
        InputError: if it cannot be downloaded or is not the one expected.
    """
    final = work / file.name
    if final.exists():
        digest = Digest(sha256_file(final), final.stat().st_size)
        if expected.size in (None, digest.size) and expected.sha256 in (None, digest.sha256):
            return digest
        say(f"{final} is not the file expected and is downloaded again")
        final.unlink()
    urls = (*file.urls, *([drive.ADDRESS.format(file.drive)] if file.drive else []))
    return Digest(download(urls, final, expected), final.stat().st_size)


def expected_of(file: RemoteFile, key: str, digests: Path | None, where: str = "params.yaml") -> Expected:
    """What is known of a file: its published digest, which stands in `where`, or that of its first download.

    Raises:
        InputError: if the file that keeps the digests is malformed.
    """
    if file.sha256 is not None:
        return Expected(file.size, file.sha256, f"in {where} ({file.sha256})")
    known = read_digests(digests).get(key) if digests is not None else None
    if known is None:
        return Expected(file.size)
    origin = f"that the first download wrote down in {digests} ({known.sha256}); if the authors really "
    origin += "published another version, remove its line there"
    return Expected(known.size if file.size is None else file.size, known.sha256, origin)


def read_digests(path: Path) -> dict[str, Digest]:
    """Digests of first downloads by "<entry>/<file>", from the file that keeps them.

    Raises:
        InputError: if the file is malformed.
    """
    return read_slice(path, dict[str, Digest]) if path.exists() else {}


def trust(key: str, digest: Digest, digests: Path | None) -> None:
    """Write down the digest of a first download, and say so."""
    kept = "it is written down nowhere (see --digests), so the next download is trusted likewise"
    if digests is not None:
        # other data sets may be fetched at the same time
        with exclusive(digests.with_name(f".{digests.name}.lock")):
            known = read_digests(digests) | {key: digest}
            write_json(digests, {name: asdict(value) for name, value in known.items()})
        kept = f"written down in {digests} (commit it, if Git tracks it): every later download is compared"
    say(
        f"!! nobody publishes a digest of {key}; this first download is trusted:\n"
        f"!!   sha256 {digest.sha256}, {digest.size} bytes\n!! {kept}"
    )


# --- the folder ---------------------------------------------------------------------------------------------


def _place(file: RemoteFile, path: Path, folder: Path, limits: Limits) -> None:
    """Unpack a downloaded file into the new folder, or copy it there."""
    target = folder / file.into
    target.mkdir(parents=True, exist_ok=True)
    if not file.unpack:
        shutil.copyfile(path, target / file.name)
        return
    try:
        unpack(path, target, limits)
    except ArchiveRefused:
        if file.sha256 is None:  # another download may differ
            path.unlink()
        raise


def _inventory(folder: Path) -> dict[str, int]:
    """Number of files below a folder and their bytes, without what `fetch_entry` itself writes."""
    paths = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    sizes = [path.lstat().st_size for path in paths if path not in (folder / MANIFEST, folder / OWNED)]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _manifest_in_place(
    entry: DownloadEntry, out: Path, expected: dict[str, Expected]
) -> dict[str, Any] | None:
    """The manifest of the folder if it holds what the entry asks for, perhaps beside the user's own."""
    if not (out / MANIFEST).exists():
        return None
    manifest: dict[str, Any] = read_json(out / MANIFEST)
    try:
        same = set(manifest["downloads"]) == set(expected) and all(
            (known["into"], known["unpack"]) == (file.into, file.unpack)
            and expected[file.name].size in (None, known["size"])
            and expected[file.name].sha256 in (None, known["sha256"])
            for file in entry.files
            for known in [manifest["downloads"][file.name]]
        )
        whole = all(count >= manifest[what] for what, count in _inventory(out).items())
    except (KeyError, TypeError):  # not as `fetch_entry` writes it
        return None
    return manifest if same and whole else None
