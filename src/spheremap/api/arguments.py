"""Command-line arguments that several commands share."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from spheremap.base.choices import DEFAULT_HEAD, Fit, ReadoutKind, Sampling

if TYPE_CHECKING:  # a command's --help is to need neither torch nor pandas
    from spheremap.api.matcher import Matcher

DEVICE_HELP = "where networks run: auto, cpu, cuda or cuda:N (default: auto)"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the model is loaded."""
    parser.add_argument(
        "--model",
        type=Path,
        default=Path(DEFAULT_HEAD),
        help="bundle, as `spheremap bundle` writes it, or a head by name: quadrupeds, which is in the "
        "package, or a published one, such as spair-71k (default: quadrupeds)",
    )
    parser.add_argument(
        "--weights", type=Path, help="weights of the backbone (default: the bundle's own, else their source)"
    )
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument(
        "--size",
        type=int,
        help="side of the network's input in px, a multiple of the patch (default: bundle's)",
    )
    parser.add_argument(
        "--fit",
        choices=get_args(Fit),
        help="how a photograph becomes the square input: pad (black borders), stretch, or original "
        "(resolution, black around) (default: bundle's)",
    )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what training reads, and where and within what it runs."""
    parser.add_argument("--tables", type=Path, required=True, help="directory of canonical tables")
    parser.add_argument("--views", type=Path, nargs="+", required=True, help="cache of training views")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="cache of whole images")
    parser.add_argument("--work", type=Path, required=True, help="directory that lets a killed run resume")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of this machine (default: 1)")
    parser.add_argument(
        "--memory",
        type=float,
        default=4.0,
        metavar="GIB",
        help="main memory of this machine for features (default: 4); those that need more are read batch by "
        "batch; half of the free memory of a GPU is used first",
    )


def add_matching_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how points are described and places read, beside `add_model_arguments`."""
    parser.add_argument(
        "--source",
        dest="sampling",  # the photograph has the name
        choices=get_args(Sampling),
        help="tokens that describe a point: of its patch, or a bilinear mixture of four (default: bundle's)",
    )
    parser.add_argument(
        "--readout",
        choices=get_args(ReadoutKind),
        help="how a place is read from the similarities: argmax, window (soft-argmax in one) or kernel "
        "(under a Gaussian) (default: bundle's)",
    )
    parser.add_argument(
        "--window", type=int, help="side of the read-out's window in patches, odd (default: bundle's)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        help="temperature of the soft-argmax (read-outs window and kernel) (default: bundle's)",
    )
    parser.add_argument(
        "--sigma",
        type=float,
        help="standard deviation of the Gaussian (read-out kernel), in patches (default: bundle's)",
    )


def say_weight(model: "Matcher", shares: Mapping[Path, float], asked: float | None = None) -> None:
    """Say on standard error which weight the sphere has, and why, and what is unlike the training images.

    Args:
        model: that matched.
        shares: of the photographs, as `Description.share`.
        asked: weight for the call; None: the model's.
    """
    from spheremap.api.weight import SphereWeight

    print(model.weight if asked is None else SphereWeight(asked, "call"), file=sys.stderr)
    less = "the sphere has {share:.0%} of that weight"
    say_unlike(
        shares,
        less
        if asked is None
        else "the sphere may mislead here; leave out --sphere-weight to let it count less",
    )


def say_unlike(shares: Mapping[Path, float], therefore: str) -> None:
    """Say on standard error which photographs are unlike the training images, and what follows.

    Args:
        shares: of the photographs, as `Description.share`.
        therefore: what follows; "{share:.0%}" becomes the share.
    """
    for path, share in shares.items():
        if share < 0.995:  # what would be 100% in whole percents is not worth a word
            follows = therefore.format(share=share)
            print(f"{path} is unlike the images that the head was trained on: {follows}", file=sys.stderr)


def load_model(args: argparse.Namespace) -> "Matcher":
    """Load what the arguments name; options that a command does not have are the bundle's."""
    from spheremap.api.matcher import load

    names = ("weights", "device", "size", "fit", "readout", "window", "temperature", "sigma")
    options: dict[str, Any] = {name: vars(args).get(name) for name in names}
    return load(args.model, source=vars(args).get("sampling"), **options)
