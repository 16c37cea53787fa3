"""For torch.hub: `torch.hub.load(REPOSITORY, "matcher")` is `spheremap.load()`."""

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "src"))  # where spheremap is not installed

dependencies = [
    "h5py",
    "onnx",
    "pandas",
    "pydantic",
    "requests",
    "ruamel.yaml",
    "safetensors",
    "timm",
    "torch",
    "tqdm",
]


def matcher(bundle: str = "quadrupeds", **options: Any) -> Any:
    """A `spheremap.Matcher` of a head by name or of a bundle; the options are those of `spheremap.load`."""
    import spheremap

    return spheremap.load(bundle, **options)
