"""Command `table`: print the scores of an evaluation in the terminal."""

import argparse
import sys
from pathlib import Path

HELP = "print metrics.json as a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file",
        type=Path,
        help="metrics.json of an evaluation; the record and the tables beside it are read, too",
    )


def run(args: argparse.Namespace) -> None:
    """Print the table; files of the evaluation that are not there are named on standard error."""
    from spheremap.metrics.table import format_file

    text, absent = format_file(args.file)
    print(text)
    if absent:
        print("table: written by the same evaluation, but not there:", ", ".join(absent), file=sys.stderr)
