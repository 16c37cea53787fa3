"""`spheremap match`: find points of one photograph in another."""

import argparse
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spheremap.api.pairs import Pair

HELP = (
    "find points of one photograph in another; matches as JSON or CSV, a picture and a dense warp on request"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from spheremap.api.arguments import add_matching_arguments, add_model_arguments

    parser.add_argument("source", type=Path, nargs="?", help="photograph with the points")
    parser.add_argument("target", type=Path, nargs="?", help="photograph to find them in, or a folder")
    parser.add_argument(
        "--pairs",
        type=Path,
        help="instead of two photographs: a table (.csv) with the columns source,target or source,target,x,y",
    )
    parser.add_argument(
        "--points",
        help='points in pixels of the upright source: "x,y x,y …", or a file with lines x,y (or .json)',
    )
    parser.add_argument(
        "--out", type=Path, help="file for the matches, .json or .csv (default: standard output)"
    )
    parser.add_argument(
        "--format", choices=["json", "csv"], help="of the matches (default: that of --out; json without one)"
    )
    parser.add_argument(
        "--picture", type=Path, help="draw the matches, such as matches.png; of many pairs, into this folder"
    )
    parser.add_argument(
        "--warp",
        type=Path,
        help="match every patch: arrays in .npz, or a picture (.png) of the source redone",
    )
    parser.add_argument(
        "--padding",
        action="store_true",
        help="allow matches in the black padding around the photograph, as `spheremap evaluate` does",
    )
    parser.add_argument(
        "--about", action="store_true", help="match nothing; print licences and what to cite for the model"
    )
    parser.add_argument(
        "--sphere-weight",
        type=float,
        help="weight of the sphere in the fused similarity, 0 to 1 (default: the bundle's)",
    )
    add_model_arguments(parser)
    add_matching_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Match, and write what was asked for."""
    from spheremap.api.arguments import load_model, say_weight
    from spheremap.api.points import points_file, read_points
    from spheremap.api.results import check_picture, save_picture
    from spheremap.base.errors import InputError
    from spheremap.base.files import check_outputs
    from spheremap.config.fields import Share
    from spheremap.config.slices import parse

    if args.about:
        from spheremap.api.named_heads import credits_of
        from spheremap.config.credit import listed

        print(listed(credits_of(args.model)))
        return
    parse(args.sphere_weight, Share | None, where="--sphere-weight")
    pairs, many = _pairs(args)
    own = any(pair.points is not None for pair in pairs)  # in the table of pairs
    if args.points is None and not own and (args.warp is None or args.out or args.picture):
        raise InputError("no points to match", expected="--points, or --warp alone")
    if args.points is not None and own:
        raise InputError("points are given twice", found="--points, and columns x and y in --pairs")
    if many and args.warp is not None:
        raise InputError("a warp is of two photographs", found="--warp with many")
    form = args.format or _format_of(args.out)
    if args.picture is not None and not many:
        check_picture(args.picture)
    if args.warp is not None and not _is_npz(args.warp):
        check_picture(args.warp, "a name in .npz, .png or .jpg")
    photographs = list(dict.fromkeys(path for pair in pairs for path in (pair.source, pair.target)))
    check_outputs(
        {"--out": args.out, "--picture": None if many else args.picture, "--warp": args.warp},
        [*photographs, args.pairs, args.model, args.weights, points_file(args.points)],
    )
    given = None if args.points is None else read_points(args.points)
    model = load_model(args)
    describe = lru_cache(maxsize=2)(model.describe)  # a source that stands with many targets, once
    shares: dict[Path, float] = {}
    found: list[tuple[Pair, Any]] = []
    told: dict[str, int] = {}  # what went wrong, and with how many of the pairs
    for number, pair in enumerate(pairs, 1):
        points = given if pair.points is None else pair.points
        try:
            source, target = describe(pair.source), describe(pair.target)
            shares |= {pair.source: source.share, pair.target: target.share}
            matches = (
                None
                if points is None
                else model.match(
                    source, target, points, sphere_weight=args.sphere_weight, padding=args.padding
                )
            )
        except InputError as error:
            if not many:
                raise
            if str(error) not in told:
                print(f"{pair.source} and {pair.target}: {error}", file=sys.stderr)
            told[str(error)] = told.get(str(error), 0) + 1
            continue
        if matches is not None:
            if args.picture is not None:
                name = f"{number:03}-{pair.source.stem}-{pair.target.stem}.png"
                save_picture(matches.picture(), args.picture / name if many else args.picture)
            # as it is written: photographs of many pairs do not stay in memory
            found.append((pair, matches.to_json() if form == "json" else matches.to_frame()))
        if args.warp is not None:
            warp = model.warp(source, target, sphere_weight=args.sphere_weight)
            if _is_npz(args.warp):
                warp.save(args.warp)
            else:
                save_picture(warp.picture(), args.warp)
    if found:
        _write(found, many, form, args.out)
    say_weight(model, shares, args.sphere_weight)
    if told:
        raise InputError(
            "not all pairs could be matched",
            expected=f"{len(pairs)} pairs",
            found=f"{len(pairs) - sum(told.values())}",
            fix="mend what is said above; the others are matched",
        )


def _pairs(args: argparse.Namespace) -> "tuple[list[Pair], bool]":
    """The pairs that are asked for, and whether they are listed, be they one or many."""
    from spheremap.api.pairs import Pair, pairs_with, read_pairs
    from spheremap.base.errors import InputError

    if (args.pairs is None) == (args.target is None) or (args.pairs and args.source):
        raise InputError(
            "not clear what to match",
            expected="two photographs, or one and a folder, or --pairs; or --about alone",
        )
    if args.pairs is not None:
        return read_pairs(args.pairs), True
    if args.target.is_dir():
        if args.picture is not None and args.picture.resolve() == args.target.resolve():
            raise InputError(
                "the pictures would be drawn into the folder with the photographs",
                where=args.picture,
                fix="name another folder with --picture",
            )
        return pairs_with(args.source, args.target), True
    return [Pair(args.source, args.target)], False


def _write(found: "list[tuple[Pair, Any]]", many: bool, form: str, out: Path | None) -> None:
    """Write or print the matches, in JSON or tables: of many pairs with the names of the photographs."""
    import pandas as pd

    from spheremap.base.files import write_csv, write_json

    if form == "json":
        named = [
            {"source": str(pair.source), "target": str(pair.target), **matches} for pair, matches in found
        ]
        answer = named if many else named[0]
        if out is None:
            print(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            write_json(out, answer)
        return
    if many:
        for pair, frame in found:
            frame.insert(0, "source", str(pair.source))
            frame.insert(1, "target", str(pair.target))
    table = pd.concat([frame for _, frame in found])
    if out is None:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        write_csv(out, table)


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
