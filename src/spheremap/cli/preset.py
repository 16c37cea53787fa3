"""`spheremap preset`: choose a named group of settings."""

import argparse
from pathlib import Path

from spheremap.base.errors import InputError

HELP = "write the settings of a preset into params.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "name", nargs="?", help="a file of the folder presets/, without its ending (default: list them)"
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters to change")
    parser.add_argument("--presets", type=Path, default=Path("presets"), help="folder of presets")


def run(args: argparse.Namespace) -> None:
    """Apply the preset and print what changed, or list all."""
    from spheremap.config.presets import apply_preset, preset_names

    names = preset_names(args.presets)
    if args.name is None and names:
        for name in names:
            first = (args.presets / f"{name}.yaml").read_text("utf-8", "replace").partition("\n")[0]
            print(f"{name:30}{first.removeprefix('# ')}")
        return
    if args.name not in names:
        raise InputError(
            "there are no presets" if args.name is None else f"no preset is called {args.name!r}",
            where=args.presets,
            expected=f"one of {', '.join(names)}" if names else "a folder of presets",
            fix="run the command in the project's top folder" if not names else None,
        )
    changes = apply_preset(args.presets / f"{args.name}.yaml", args.params)
    print("\n".join(changes) if changes else f"{args.params} has the settings of {args.name} already")
