"""`spheremap fetch`: download a data set, check and unpack it."""

import argparse
from pathlib import Path

HELP = "download a data set, check and unpack it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--params", type=Path, required=True, help="JSON: its entry in params.yaml's `downloads`"
    )
    parser.add_argument("--name", required=True, help="name of the entry")
    parser.add_argument("--out", type=Path, required=True, help="folder to unpack to")
    parser.add_argument(
        "--digests", type=Path, help="JSON file that keeps the digests of first downloads; track it with Git"
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder that keeps downloads, to resume them and to unpack again",
    )


def run(args: argparse.Namespace) -> None:
    """Fetch, and say what came."""
    from spheremap.config.slices import read_slice
    from spheremap.data.download import DownloadEntry, fetch_entry

    entry = read_slice(args.params, DownloadEntry)
    manifest = fetch_entry(entry, name=args.name, out=args.out, work=args.work, digests=args.digests)
    print(f"{args.out}: {manifest['files']} files, {manifest['bytes']:,} bytes")
