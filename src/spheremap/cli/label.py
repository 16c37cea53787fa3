"""`spheremap label`: one's own photographs in the browser, to label them."""

import argparse
from pathlib import Path

HELP = "label photographs of one's own in the browser, on this machine only: keypoints, viewpoints, boxes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("folder", type=Path, help="folder with photographs, which the tables are written to")
    parser.add_argument(
        "--keypoints",
        default="",
        metavar="NAME,NAME",
        help="names of keypoints with which a new category begins; more can be added on the page",
    )
    parser.add_argument(
        "--upright",
        action="store_true",
        help="first turn the pixels of photographs that are stored sideways; rewrites these files",
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a random free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, but open no browser")


def run(args: argparse.Namespace) -> None:
    """Serve until interrupted."""
    import hashlib
    import sys

    from spheremap.api.label_server import LabelServer
    from spheremap.base.files import cache_folder, exclusive
    from spheremap.config.fields import Distinct
    from spheremap.config.slices import parse
    from spheremap.data.labels import Labels, Text, left_out, turn_upright

    names = [name.strip() for name in args.keypoints.split(",")] if args.keypoints else []
    names = parse(names, Distinct[Text], where="--keypoints")
    folder = hashlib.sha256(str(args.folder.resolve()).encode()).hexdigest()
    with exclusive(cache_folder() / "label" / f"{folder}.lock"):
        if args.upright:
            print(f"turned upright: {turn_upright(args.folder)}")
        if others := left_out(args.folder):
            print(f"left out, save them as JPEG or PNG: {', '.join(others)}", file=sys.stderr)
        with LabelServer(Labels(args.folder), names, args.port) as server:
            server.show(browser=not args.no_browser)
