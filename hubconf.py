"""For torch.hub: `torch.hub.load(REPOSITORY, "matcher", "spair-71k")` is `spheremap.load("spair-71k")`."""

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


def matcher(bundle: str = "spair-71k", **options: Any) -> Any:
    """A `spheremap.Matcher` of a published head or of a bundle; the options are those of `spheremap.load`."""
    import spheremap

    return spheremap.load(bundle, **options)
