"""`spheremap preset`: choose a named group of settings."""

import argparse
from pathlib import Path

from spheremap.base.errors import InputError
from spheremap.config.presets import apply_preset, preset_names

HELP = "write the settings of a preset into params.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", help="a file of the folder presets/, without its ending: spair-71k or demo")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters to change")
    parser.add_argument("--presets", type=Path, default=Path("presets"), help="folder of presets")


def run(args: argparse.Namespace) -> None:
    """Apply the preset and print what changed."""
    names = preset_names(args.presets)
    if args.name not in names:
        raise InputError(
            f"no preset is called {args.name!r}",
            where=args.presets,
            expected=f"one of {', '.join(names)}" if names else "a folder of presets",
            fix="run the command in the project's top folder" if not names else None,
        )
    changes = apply_preset(args.presets / f"{args.name}.yaml", args.params)
    print("\n".join(changes) if changes else f"{args.params} has the settings of {args.name} already")
