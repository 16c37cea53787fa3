"""Command-line arguments that the commands for one's own photographs share."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from spheremap.api.matcher import Description, Matcher, load
from spheremap.api.weight import SphereWeight
from spheremap.base.device import HELP as DEVICE_HELP
from spheremap.features.cache.views import Fit
from spheremap.methods.engine.readout import ReadoutKind
from spheremap.methods.engine.sampling import Sampling


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the model is loaded."""
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="bundle, as `spheremap bundle` writes it, or a published head, such as spair-71k",
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
        help="of a place from similarities: argmax, window (soft-argmax in one) or kernel (under a Gaussian) "
        "(default: bundle's)",
    )
    parser.add_argument(
        "--window", type=int, help="side of the read-out's window in patches, odd (default: bundle's)"
    )
    parser.add_argument("--temperature", type=float, help="of either soft-argmax (default: bundle's)")
    parser.add_argument(
        "--sigma", type=float, help="of the read-out's Gaussian, in patches (default: bundle's)"
    )


def say_weight(model: Matcher, photographs: Mapping[Path, Description], asked: float | None = None) -> None:
    """Say on standard error which weight the sphere has, and why, and what is unlike the training images."""
    print(model.weight if asked is None else SphereWeight(asked, "call"), file=sys.stderr)
    for path, photograph in photographs.items():
        if photograph.share < 1:
            does = f"the sphere has {photograph.share:.0%} of that weight" if asked is None else "beware"
            print(f"{path} is unlike the images that the head was trained on: {does}", file=sys.stderr)


def load_model(args: argparse.Namespace) -> Matcher:
    """Load what the arguments name; options that a command does not have are the bundle's."""
    names = ("weights", "device", "size", "fit", "readout", "window", "temperature", "sigma")
    options: dict[str, Any] = {name: vars(args).get(name) for name in names}
    return load(args.model, source=vars(args).get("sampling"), **options)
