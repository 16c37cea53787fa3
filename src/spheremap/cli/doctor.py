"""`spheremap doctor`: what this machine has, in one screen to paste into an issue."""

import argparse
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

HELP = "say what this machine has: versions, GPU, disk, network, cache; to paste into an issue"
PACKAGES = ("timm", "numpy", "pandas", "pillow", "h5py", "onnx", "pydantic", "safetensors")
WORKFLOW = ("snakemake", "dvc", "matplotlib", "torchvision", "pillow-heif")
PATIENCE = 3.0  # s, for each host


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--offline", action="store_true", help="ask no host")


def run(args: argparse.Namespace) -> None:
    """Print what there is."""
    from spheremap.base.about import own_version

    tools = [f"{name} {'yes' if shutil.which(name) else 'no'}" for name in ("git", "make", "gcc")]
    lines = [
        ("spheremap", f"{own_version()} in {_short(Path(__file__).parents[1])}"),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        ("machine", f"{_cores()} cores, {_memory()} of memory"),
        *_torch(),
        ("packages", _versions(PACKAGES)),
        ("workflow", _versions(WORKFLOW)),
        ("tools", ", ".join(tools)),
        *_disk(),
        *([] if args.offline else _network()),
    ]
    for name, text in lines:
        print(f"{name:10} {text}")


def _short(path: Path) -> str:
    """A path without the name of the user."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if home != Path("/") and path.is_relative_to(home) else str(path)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    try:
        return _gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return "an unknown amount"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _versions(names: tuple[str, ...]) -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} –")
    return ", ".join(found)


def _torch() -> Iterator[tuple[str, str]]:
    from importlib.metadata import version

    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of CUDA is not there
        yield "torch", f"cannot be imported: {error}"
        return
    triton = f"Triton {version('triton')}" if importlib.util.find_spec("triton") else "no Triton"
    yield "torch", f"{torch.__version__}, {torch.get_num_threads()} threads, {triton}"
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(number)
            yield f"cuda:{number}", f"{gpu.name}, {_gib(gpu.total_memory)}, CUDA {torch.version.cuda}"
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    yield "GPU", f"none that torch can use ({built}): the CPU computes"


def _disk() -> Iterator[tuple[str, str]]:
    from spheremap.base.files import cache_folder

    cache = cache_folder()
    sizes = [path.stat().st_size for path in cache.rglob("*") if path.is_file()]
    yield "cache", f"{_short(cache)}, {len(sizes)} files, {_gib(sum(sizes))}"
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free = [_gib(shutil.disk_usage(path).free) for path in (Path(), there)]
    yield "free disk", f"{free[0]} here, {free[1]} at the cache"


def _network() -> Iterator[tuple[str, str]]:
    """Whether the hosts answer that weights come from."""
    import requests
    from huggingface_hub.constants import ENDPOINT

    for name, address in (("GitHub", "https://raw.githubusercontent.com"), ("model hub", ENDPOINT)):
        try:
            status = requests.head(address, timeout=PATIENCE).status_code
            yield "network", f"{name} answers ({status})"
        except requests.RequestException as error:
            yield "network", f"{name} does not answer: {type(error).__name__}"
