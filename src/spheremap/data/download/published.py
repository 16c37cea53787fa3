"""Files that others have published, fetched once into the user's cache, and what is to be known of them."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from spheremap.base.files import exclusive
from spheremap.config.data_sets import RemoteFile, Terms
from spheremap.config.fields import STRICT, Sha256
from spheremap.data.download import announce, expected_of, fetch_file


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Published(Terms):
    """A published file; its terms are shown before the first download.

    Attributes:
        urls: mirrors, in the order tried.
        sha256: as published; None: that of the first download is kept.
    """

    urls: tuple[str, ...]
    sha256: Sha256 | None


def fetch_published(name: str, entry: Published, folder: Path, registry: Path) -> Path:
    """Have the file `<name>.pth`, of a known SHA-256, in a folder of the cache.

    Raises:
        InputError: if it cannot be downloaded or is not the one expected.
    """
    assert entry.sha256 is not None
    file = RemoteFile(f"{name}.pth", entry.urls, sha256=entry.sha256, unpack=False)
    with exclusive(folder / "lock"):
        if not (folder / file.name).exists():
            announce(name, entry)
        fetch_file(file, folder, expected_of(file, name, None, registry.name))
    return folder / file.name
