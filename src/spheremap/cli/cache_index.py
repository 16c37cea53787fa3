"""`spheremap cache-index`: one file that presents the shards of a feature cache as one."""

import argparse
from pathlib import Path

HELP = "write the index of a feature cache: one small HDF5 file that presents all shards as one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--shards", type=Path, nargs="+", required=True, help="all shards of the cache")
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")


def run(args: argparse.Namespace) -> None:
    """Check the shards and write the index."""
    from spheremap.base.files import check_outputs
    from spheremap.features.cache.index import write_index

    check_outputs({"--out": args.out}, args.shards)
    records = write_index(args.shards, args.out)
    print(f"{args.out}: {records} records in {len(args.shards)} shards")
