"""Command `report`: one self-contained page with scores, curves, spheres, matches and an explorer."""

import argparse
from pathlib import Path

HELP = "write the report page: scores, curves, spheres, matches and an explorer in one HTML file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--params", type=Path, required=True, help="JSON with the keys `dataset`, `report` and `evaluate`"
    )
    parser.add_argument("--tables", type=Path, required=True, help="folder of the canonical tables")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="feature cache of whole images")
    parser.add_argument("--head", type=Path, required=True, help="trained head")
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        help="folder of the evaluation, with training curves under training/",
    )
    parser.add_argument("--out", type=Path, required=True, help="HTML file to write")


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    import torch

    from spheremap.base.files import check_outputs
    from spheremap.config import ReportSlice
    from spheremap.config.slices import read_slice
    from spheremap.report.build import build_report

    results = [*args.results.glob("*.csv*"), *args.results.glob("*.json"), *args.results.glob("training/*")]
    check_outputs({"--out": args.out}, [args.params, args.head, *args.images, *results])
    torch.set_num_threads(1)  # sums, and so colours, must not depend on the machine's number of cores
    build_report(
        args.out,
        read_slice(args.params, ReportSlice),
        tables=args.tables,
        images=args.images,
        head=args.head,
        results=args.results,
    )
