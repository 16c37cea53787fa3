"""The user's cache folder, in which fetched heads and weights are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/spheremap, or ~/.cache/spheremap."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spheremap"
