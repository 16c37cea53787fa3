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
        "--mask",
        type=Path,
        help="picture of the photograph's size: darken where it is black or, if it is a cut-out, transparent",
    )
    parser.add_argument(
        "--side", type=int, default=768, help="longer side of the picture in px (default: 768)"
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Map and draw."""
    from spheremap.api.arguments import load_model, say_unlike
    from spheremap.api.results import check_picture, save_picture
    from spheremap.base.errors import InputError
    from spheremap.base.files import check_outputs
    from spheremap.data.images import ANY_VALUE, load_mask

    if args.side < 1:
        raise InputError("bad value for --side", expected="1 or more", found=str(args.side))
    check_picture(args.out)
    check_outputs({"--out": args.out}, [args.image, args.mask, args.model, args.weights])
    model = load_model(args)
    photograph = model.describe(args.image)
    size = photograph.photograph.size
    mask = None if args.mask is None else load_mask(args.mask, ANY_VALUE, size, upright=True)
    save_picture(model.map(photograph).picture(mask, args.side), args.out)
    say_unlike({args.image: photograph.share}, "its colours may mislead")
