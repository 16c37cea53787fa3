"""`spheremap weights`: fetch a backbone's weights and bring them into timm's layout."""

import argparse
from pathlib import Path

HELP = "fetch, check and convert the weights of a backbone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--params", type=Path, required=True, help="JSON with `model` and `weights` of a backbone"
    )
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")


def run(args: argparse.Namespace) -> None:
    """Write the weights."""
    from spheremap.config.backbone import ModelSpec
    from spheremap.config.slices import read_slice
    from spheremap.features.backbones.weights import fetch_weights

    spec = read_slice(args.params, ModelSpec)
    count = fetch_weights(spec, args.out)
    print(f"{args.out}: {spec.model}, {count:,} parameters")
