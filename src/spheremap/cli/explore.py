"""`spheremap explore`: two photographs in the browser; click a point and see its matches."""

import argparse
from pathlib import Path

HELP = "show two photographs in the browser, on this machine only: click a point and see its matches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from spheremap.api.arguments import add_matching_arguments, add_model_arguments

    parser.add_argument("source", type=Path, help="photograph to click in")
    parser.add_argument("target", type=Path, help="photograph to find points in")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a random free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, but open no browser")
    add_model_arguments(parser)
    add_matching_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from spheremap.api.arguments import load_model, say_weight
    from spheremap.api.server import Explorer, ExplorerServer

    model = load_model(args)
    source, target = model.describe(args.source), model.describe(args.target)
    explorer = Explorer(model, source, target)
    say_weight(model, {args.source: source.share, args.target: target.share})
    with ExplorerServer(explorer, (args.source.name, args.target.name), args.port) as server:
        server.show(browser=not args.no_browser)
