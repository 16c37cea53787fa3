"""`spheremap map`: colour a photograph by position on the sphere."""

import argparse
from pathlib import Path

HELP = "colour a photograph by position on the sphere: the same colour means the same part"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from spheremap.api.arguments import add_model_arguments

    parser.add_argument("image", type=Path, help="photograph")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, such as map.png")
    parser.add_argument(
        "--mask", type=Path, help="picture of the photograph's size: darken where it is black"
    )
    parser.add_argument(
        "--side", type=int, default=768, help="longer side of the picture in px (default: 768)"
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Map and draw."""
    import numpy as np

    from spheremap.api.arguments import load_model, say_weight
    from spheremap.api.results import check_picture, save_picture
    from spheremap.base.errors import InputError
    from spheremap.base.files import check_outputs
    from spheremap.data.images import load_photograph

    if args.side < 1:
        raise InputError("bad value for --side", expected="1 or more", found=str(args.side))
    check_picture(args.out)
    check_outputs({"--out": args.out}, [args.image, args.mask, args.model, args.weights])
    mask = None if args.mask is None else np.any(load_photograph(args.mask).pixels, axis=2)
    model = load_model(args)
    photograph = model.describe(args.image)
    save_picture(model.map(photograph).picture(mask, args.side), args.out)
    say_weight(model, {args.image: photograph.share})
