"""Command `score`: score predictions that any program made."""

import argparse
import sys
from pathlib import Path

HELP = "score predictions of any program, a CSV, NPZ or JSON file, under any protocol (docs/score.md)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "predictions",
        type=Path,
        help="file with source, target, keypoint_id, x and y in pixels of the target: .csv, .csv.gz, "
        ".csv.xz, .npz or .json; or results of GeoAware-SC, .pkl",
    )
    parser.add_argument(
        "--dataset", required=True, help="entry of `datasets` in params.yaml; its tables are made if need be"
    )
    parser.add_argument(
        "--split",
        choices=["train", "val", "test"],
        help="whose pairs are scored (default: that of params.yaml)",
    )
    parser.add_argument(
        "--protocol",
        help="a preset without its `protocol-`, such as geoaware, or all (default: that of params.yaml)",
    )
    parser.add_argument(
        "--seed", type=int, help="whose predictions are scored, where a column `seed` has several"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave out points without a prediction, and say so"
    )
    parser.add_argument("--out", type=Path, help="folder for the results (default: results/NAME-on-DATASET)")


def run(args: argparse.Namespace) -> None:
    """Score, write the results and print the tables."""
    from spheremap.api.score_predictions import score_predictions
    from spheremap.metrics.results import METRICS
    from spheremap.metrics.table import format_file

    written = score_predictions(
        args.predictions,
        args.dataset,
        args.out,
        split=args.split,
        protocol=args.protocol,
        seed=args.seed,
        allow_missing=args.allow_missing,
    )
    texts = {folder: format_file(folder / METRICS)[0] for folder in written}
    print("\n\n".join(f"{folder.name}\n{text}" if len(texts) > 1 else text for folder, text in texts.items()))
    print(f"all results are in {', '.join(map(str, written))}", file=sys.stderr)
