"""The command line: each command is a module here with HELP, add_arguments(parser) and run(args).

Modules import at their top only what is quick to import: `spheremap --help` reads HELP of all.
"""

import argparse
import importlib
import io
import os
import pkgutil
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spheremap.base.about import HOMEPAGE, LICENCE, PAPER, own_version
from spheremap.base.errors import SpheremapError
from spheremap.base.interruption import lasting_interrupts
from spheremap.base.shortage import shortage_of


def command_names() -> list[str]:
    """Names of all commands, as typed by the user."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 success, 1 an error with a message, 2 wrong usage, 130 interrupted (Ctrl-C), 141
        nobody reads the output any more (`| head`).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    speaker = " ".join(["spheremap", *arguments[:1]])
    # read by PyTorch: large arrays on large pages (Linux); caching and training are about a tenth faster
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to stop
    try:
        with lasting_interrupts():
            try:
                _run(arguments)
            finally:
                if sys.stdout is not None:  # closed by `>&-`
                    sys.stdout.flush()  # a reader that has gone is noticed here, not when Python ends
    except SpheremapError as error:
        print(f"{speaker}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{speaker}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141
        told = shortage_of(error) or _not_installed(error)
        if told is None:  # a fault of the program: the traceback is wanted
            raise
        print(f"{speaker}: {told}", file=sys.stderr)
        return 1
    return 0


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["--version"]:
        print(f"spheremap {own_version()}\n  licence: {LICENCE}\n  please cite: {PAPER}\n  see: {HOMEPAGE}")
        return
    args = _parser(arguments).parse_args(arguments)
    for name, value in vars(args).items():
        setattr(args, name, _at_home(value))
    args.run(args)


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser of the command that is asked for; of all, by name and sentence alone, where none is."""
    parser = argparse.ArgumentParser(
        prog="spheremap", description=(sys.modules["spheremap"].__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--version", action="store_true", help="print version, licence and the paper")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    names = command_names()
    chosen = arguments[0] if arguments and arguments[0] in names else None
    for name in names if chosen is None else [chosen]:
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        if chosen is not None:
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _at_home(value: Any) -> Any:
    """Paths with ~ for the home folder, which the shell leaves as it is in --option=~/file."""
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    return value.expanduser() if isinstance(value, Path) else value


def _nobody_reads() -> bool:
    """Whether standard output or error is a pipe without a reader; if so, nothing more is written there."""
    poll = select.poll()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        poll.register(stream.fileno(), 0)
    gone = [number for number, event in poll.poll(0) if event & select.POLLERR]
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        for number in gone:
            os.dup2(nothing.fileno(), number)
    return bool(gone)


def _not_installed(error: BaseException) -> SpheremapError | None:
    """What to install, where a package of an extra is missing."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "spheremap").startswith("spheremap"):
        return None
    return SpheremapError(
        "a package that this command needs is not installed",
        found=f"no module {error.name!r}",
        fix="pip install 'spheremap[workflow]'",
    )
