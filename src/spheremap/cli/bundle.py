"""`spheremap bundle`: a trained head and what it needs of its backbone as one portable file."""

import argparse
from pathlib import Path

HELP = "put a trained head and the description of its backbone into one portable file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        help="parameters of the training (default: params.yaml)",
    )
    parser.add_argument("--head", type=Path, help="trained head (default: models/<dataset>/head.safetensors)")
    parser.add_argument(
        "--weights",
        type=Path,
        help="weights of the backbone (default: models/backbones/<backbone>.safetensors)",
    )
    parser.add_argument(
        "--embed",
        action="store_true",
        help="put the backbone's weights in as well: works without any network",
    )


def run(args: argparse.Namespace) -> None:
    """Write the file."""
    from spheremap.api.bundle import write_bundle
    from spheremap.api.project import read_project
    from spheremap.base.files import check_outputs
    from spheremap.model.head import load_head

    project = read_project(args.params)
    head = args.head or args.params.parent / "models" / project.dataset / "head.safetensors"
    weights = args.weights or args.params.parent / "models" / "backbones" / f"{project.backbone}.safetensors"
    check_outputs({"--out": args.out}, [args.params, head, weights])
    write_bundle(
        args.out,
        load_head(head),
        project.spec,
        weights,
        where=head,
        precision=project.precision,
        sphere_weight=project.sphere_weight,
        protocol=project.protocol,
        embed=args.embed,
    )
    inside = "with" if args.embed else "without"
    print(f"{args.out}: head {head}, backbone {project.spec.model}, {inside} weights")
