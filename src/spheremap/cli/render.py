"""`spheremap render`: draw the embedded data set."""

import argparse
from pathlib import Path

HELP = "render the embedded data set: pictures, masks and canonical tables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--params", type=Path, required=True, help="JSON: the data set's entry in params.yaml"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write, complete or not at all")
    parser.add_argument("--jobs", type=int, default=1, help="processes; the result does not depend on it")


def run(args: argparse.Namespace) -> None:
    """Render."""
    from spheremap.config.slices import read_slice
    from spheremap.data.shapes.dataset import ShapesParams, render_dataset

    render_dataset(read_slice(args.params, ShapesParams), args.out, args.jobs)
