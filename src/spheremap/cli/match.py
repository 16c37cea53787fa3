"""`spheremap match`: find points of one photograph in another."""

import argparse
import json
import sys
from pathlib import Path

HELP = (
    "find points of one photograph in another; matches as JSON or CSV, a picture and a dense warp on request"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from spheremap.api.arguments import add_matching_arguments, add_model_arguments

    parser.add_argument("source", type=Path, nargs="?", help="photograph with the points")
    parser.add_argument("target", type=Path, nargs="?", help="photograph to find them in")
    parser.add_argument(
        "--points",
        metavar='"X,Y …"|FILE',
        help="points in pixels of the upright source: a text, or a file with a line x,y for each (or .json)",
    )
    parser.add_argument(
        "--out", type=Path, help="file for the matches, .json or .csv (default: standard output)"
    )
    parser.add_argument(
        "--format",
        choices=["json", "csv"],
        help="of the matches (default: that of --out; json without one)",
    )
    parser.add_argument("--picture", type=Path, help="draw the matches, such as matches.png")
    parser.add_argument(
        "--warp",
        type=Path,
        help="match every patch: arrays in .npz, or a picture (.png) of the source redone",
    )
    parser.add_argument(
        "--about", action="store_true", help="match nothing; print licences and what to cite for the model"
    )
    parser.add_argument("--sphere-weight", type=float, help="of the sphere in [0, 1] (default: the bundle's)")
    add_model_arguments(parser)
    add_matching_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Match, and write what was asked for."""
    from spheremap.api.arguments import load_model, say_weight
    from spheremap.api.points import points_file, read_points
    from spheremap.api.results import check_picture, save_picture
    from spheremap.base.errors import InputError
    from spheremap.base.files import check_outputs, write_csv, write_json

    if args.about:
        from spheremap.api.published import credits_of
        from spheremap.config.credit import listed

        print(listed(credits_of(args.model)))
        return
    if args.target is None:
        raise InputError("no photographs to match", expected="two photographs, or --about")
    if args.points is None and (args.warp is None or args.out or args.picture):
        raise InputError("no points to match", expected="--points, or --warp alone")
    form = args.format or _format_of(args.out)
    if args.picture is not None:
        check_picture(args.picture)
    if args.warp is not None and not _is_npz(args.warp):
        check_picture(args.warp, "a name in .npz, .png or .jpg")
    check_outputs(
        {"--out": args.out, "--picture": args.picture, "--warp": args.warp},
        [args.source, args.target, args.model, args.weights, points_file(args.points)],
    )
    points = None if args.points is None else read_points(args.points)
    model = load_model(args)
    source, target = model.describe(args.source), model.describe(args.target)
    if points is not None:
        matches = model.match(source, target, points, sphere_weight=args.sphere_weight)
        answer = {"source": str(args.source), "target": str(args.target), **matches.to_json()}
        if args.out is None and form == "json":
            print(json.dumps(answer, indent=2, ensure_ascii=False))
        elif args.out is None:
            matches.to_frame().to_csv(sys.stdout, index=False, lineterminator="\n")
        elif form == "json":
            write_json(args.out, answer)
        else:
            write_csv(args.out, matches.to_frame())
        if args.picture is not None:
            save_picture(matches.picture(), args.picture)
    if args.warp is not None:
        warp = model.warp(source, target, sphere_weight=args.sphere_weight)
        if _is_npz(args.warp):
            warp.save(args.warp)
        else:
            save_picture(warp.picture(), args.warp)
    say_weight(model, {args.source: source, args.target: target}, args.sphere_weight)


def _format_of(out: Path | None) -> str:
    """The format of the matches by the name of their file.

    Raises:
        InputError: if the name is in neither format.
    """
    from spheremap.base.errors import InputError

    suffix = ".json" if out is None else out.suffix.lower()
    if suffix not in (".json", ".csv"):
        raise InputError(
            "the format of the matches is unknown",
            where=out,
            expected="an --out that ends in .json or .csv, or --format json or csv",
            found=f"the ending {suffix!r}" if suffix else "a name without an ending",
        )
    return suffix.removeprefix(".")


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"
