"""Command `table`: print the scores of an evaluation in the terminal."""

import argparse
import sys
from pathlib import Path

HELP = "print metrics.json as a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=Path("results"),
        help="metrics.json of an evaluation, or its folder (default: results); the record and the tables "
        "beside it are read, too",
    )


def run(args: argparse.Namespace) -> None:
    """Print the table; files of the evaluation that are not there are named on standard error."""
    from spheremap.base.errors import InputError
    from spheremap.metrics.results import METRICS, PROVENANCE
    from spheremap.metrics.table import format_file

    path = args.file / METRICS if args.file.is_dir() else args.file
    if not (path.exists() or path.with_name(PROVENANCE).exists()):
        raise InputError(
            "there is no evaluation", where=path, fix="name the metrics.json of one, or its folder"
        )
    text, absent = format_file(path)
    print(text)
    if absent:
        print("table: written by the same evaluation, but not there:", ", ".join(absent), file=sys.stderr)
