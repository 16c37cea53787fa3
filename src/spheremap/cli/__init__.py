"""The command line: each command is a module here with HELP, add_arguments(parser) and run(args)."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

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
        The exit code: 0 success, 1 an error with a message, 2 wrong usage, 130 interrupted (Ctrl-C).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="spheremap", description=(sys.modules["spheremap"].__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--version", action="store_true", help="print version, licence and the paper")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in command_names():
        # only the chosen command is imported, since some pull in torch
        chosen = name in arguments[:1] or not arguments or arguments[0] in ("-h", "--help")
        if not chosen:
            commands.add_parser(name)
            continue
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    if arguments[:1] == ["--version"]:
        print(f"spheremap {own_version()}\n  licence: {LICENCE}\n  please cite: {PAPER}\n  see: {HOMEPAGE}")
        return 0
    args = parser.parse_args(arguments)
    try:
        with lasting_interrupts():
            args.run(args)
    except SpheremapError as error:
        print(f"spheremap {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"spheremap {args.command}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        shortage = shortage_of(error)
        if shortage is None:  # a fault of the program: the traceback is wanted
            raise
        print(f"spheremap {args.command}: {shortage}", file=sys.stderr)
        return 1
    return 0
