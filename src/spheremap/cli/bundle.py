"""`spheremap bundle`: a trained head and what it needs of its backbone as one portable file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spheremap.api.weight import SphereWeight

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
        "--sphere-weight",
        type=float,
        help="of the sphere in [0, 1] (default: the best on validation, see results; else params.yaml's)",
    )
    parser.add_argument(
        "--embed",
        action="store_true",
        help="put the backbone's weights in as well: works without any network",
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="keep the sphere mapper alone, in float16: an eighth of the size, and all that matching needs",
    )


def run(args: argparse.Namespace) -> None:
    """Write the file."""
    from spheremap.api.bundle import write_bundle
    from spheremap.api.project import read_domain
    from spheremap.api.protocol import Protocol
    from spheremap.base.files import check_outputs
    from spheremap.config import load_params
    from spheremap.model.head import load_head

    params = load_params(args.params)
    models, name = args.params.parent / "models", params.features.backbone
    head = args.head or models / params.dataset / "head.safetensors"
    weights = args.weights or models / "backbones" / f"{name}.safetensors"
    check_outputs({"--out": args.out}, [args.params, head, weights])
    trained, backbone = load_head(head), params.backbones[name]
    weight, why = _weight(args, head, float(params.methods["fused"]["sphere_weight"]))
    domain = read_domain(params.methods, head, trained.dim)
    write_bundle(
        args.out,
        trained,
        backbone,
        weights,
        where=head,
        precision=params.features.precision,
        weight=weight,
        protocol=Protocol.of(params),
        domain=domain,
        credits=params.credits(),
        embed=args.embed,
        compact=args.compact,
    )
    weights_inside, domain_inside = ("with" if inside else "without" for inside in (args.embed, domain))
    print(
        f"{args.out}: head {head}, {domain_inside} its domain, "
        f"backbone {backbone.model}, {weights_inside} weights"
    )
    print(f"{weight}{why}", file=sys.stderr)


def _weight(args: argparse.Namespace, head: Path, constant: float) -> "tuple[SphereWeight, str]":
    """The sphere's weight: that of the option, else the best on validation, else the constant; and why."""
    from spheremap.api.weight import SphereWeight, validated_weight
    from spheremap.base.errors import InputError

    if args.sphere_weight is None:
        found = validated_weight(args.params.parent / "results", head)
        return (SphereWeight(constant, "params"), f": {found}") if isinstance(found, str) else (found, "")
    if not 0 <= args.sphere_weight <= 1:
        raise InputError(
            "bad value for --sphere-weight", expected="a share in [0, 1]", found=str(args.sphere_weight)
        )
    return SphereWeight(args.sphere_weight, "option"), ""
