"""Command-line arguments that the commands for one's own photographs share."""

import argparse
from pathlib import Path

from spheremap.device import HELP as DEVICE_HELP
from spheremap.inference.matcher import Matcher, load


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the model is loaded."""
    parser.add_argument("--model", type=Path, required=True, help="bundle, as `spheremap bundle` writes it")
    parser.add_argument(
        "--weights", type=Path, help="weights of the backbone (default: the bundle's own, else their source)"
    )
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument(
        "--size",
        type=int,
        help="side of the network's input in px, a multiple of the patch (default: bundle's)",
    )


def load_model(args: argparse.Namespace) -> Matcher:
    """Load what the arguments name."""
    return load(args.model, weights=args.weights, device=args.device, size=args.size)
