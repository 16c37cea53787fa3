"""`spheremap masks`: give the images of canonical tables other masks."""

import argparse
import sys
from pathlib import Path

HELP = "choose the foreground masks: the data set's own, those of Mask R-CNN, or none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--params", type=Path, required=True, help="JSON: `masks` of the data set")
    parser.add_argument("--tables", type=Path, required=True, help="directory of canonical tables to read")
    parser.add_argument("--out", type=Path, required=True, help="directory of canonical tables to write")
    parser.add_argument("--work", type=Path, required=True, help="finished masks, used again by later runs")
    parser.add_argument("--device", default="auto", help="where the detector runs: auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="threads of a detector on the CPU")


def run(args: argparse.Namespace) -> None:
    """Write the tables, and say which masks came of it; on standard error, which are wanting."""
    from spheremap.base.files import read_json
    from spheremap.config.data_sets import DetectedMasks, Masks, NoMasks
    from spheremap.config.slices import parse
    from spheremap.data.masks import write_masks
    from spheremap.data.remarks import mask_remarks
    from spheremap.data.tables import read_tables

    params = parse(read_json(args.params), Masks, where=args.params)
    detector = None
    if isinstance(params, DetectedMasks):
        import torch

        from spheremap.base.device import choose_device
        from spheremap.data.masks.detector import MaskRCNNDetector

        torch.set_num_threads(max(1, args.threads))
        detector = MaskRCNNDetector(params, choose_device(args.device))
    print(write_masks(params, args.tables, args.out, args.work, detector))
    if not isinstance(params, NoMasks):  # who chose none knows
        for line in mask_remarks(read_tables(args.out)):
            print(f"masks: {line}", file=sys.stderr)
