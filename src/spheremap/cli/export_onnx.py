"""`spheremap export-onnx`: the head as an ONNX model."""

import argparse
from pathlib import Path

HELP = "write the sphere mapper (or the prototypes) of a head as an ONNX model, checked against PyTorch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    head = parser.add_mutually_exclusive_group(required=True)
    head.add_argument("--model", type=Path, help="bundle that holds the head, or a head by name")
    head.add_argument("--head", type=Path, help="trained head")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument(
        "--part",
        choices=["mapper", "prototypes"],
        default="mapper",
        help="tokens to points on the sphere (default), or points and category to features",
    )


def run(args: argparse.Namespace) -> None:
    """Export."""
    from spheremap.api.bundle import read_bundle
    from spheremap.api.named_heads import find_bundle
    from spheremap.api.onnx_export import export_onnx
    from spheremap.base.files import check_outputs
    from spheremap.model.head import load_head

    check_outputs({"--out": args.out}, [args.model, args.head])
    head = load_head(args.head) if args.model is None else read_bundle(find_bundle(args.model)).head
    difference = export_onnx(head, args.out, args.part)
    print(f"{args.out}: {args.part}, largest difference to PyTorch {difference:.1e}")
