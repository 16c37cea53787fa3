"""`spheremap ingest`: read a data set from its own layout into the canonical tables."""

import argparse
import sys
from pathlib import Path

HELP = "read a data set from its own layout into the canonical tables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--params", type=Path, required=True, help="JSON: its entry in params.yaml")
    parser.add_argument("--out", type=Path, required=True, help="directory to write the tables to")


def run(args: argparse.Namespace) -> None:
    """Ingest, and say what came in; on standard error, what training will lack."""
    from spheremap.base.files import refuse_foreign
    from spheremap.data import adapters as datasets
    from spheremap.data.remarks import data_remarks
    from spheremap.data.tables import WRITERS, made_by, write_tables

    refuse_foreign(args.out, made_by(args.out, *WRITERS))
    tables, record = datasets.ingest(args.params)
    write_tables(args.out, tables, record)
    pairs = ", ".join(f"{n} {split}" for split, n in tables.pairs["split"].value_counts(sort=False).items())
    print(f"{len(tables.images)} images of {len(tables.categories)} categories, pairs: {pairs or 'none'}")
    for line in data_remarks(tables):
        print(f"ingest: {line}", file=sys.stderr)
