"""Write docs/reference/ from the argument parsers and the docstrings (`make docs`)."""

import argparse
import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import spheremap
from spheremap.cli import command_names

HERE = Path(__file__).parent
SOURCE = Path(spheremap.__file__).parent
MARK = "<!-- Written by `make docs`; change the code instead. -->"

Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def command_line() -> str:
    """All commands with their arguments, as the parsers declare them."""
    lines = [MARK, "# Command line", ""]
    lines += [
        "`spheremap COMMAND …`; `spheremap COMMAND --help` says the same in the terminal. Exit code 0",
        "is success, 1 an error with its message on standard error, 2 wrong usage.",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    modules = {
        name: importlib.import_module(f"spheremap.cli.{name.replace('-', '_')}") for name in command_names()
    }
    lines += [f"| [`{name}`](#{name}) | {_cell(module.HELP)} |" for name, module in modules.items()]
    for name, module in modules.items():
        parser = argparse.ArgumentParser(prog=f"spheremap {name}", add_help=False)
        module.add_arguments(parser)
        lines += ["", f"## {name}", "", _sentence(module.HELP), "", "| argument | meaning |", "|---|---|"]
        lines += [f"| {_argument(action)} | {_meaning(action)} |" for action in parser._actions]
    return "\n".join(lines) + "\n"


def _argument(action: argparse.Action) -> str:
    """How an argument is typed; optional ones in brackets."""
    shown = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    value = "" if action.nargs == 0 else str(shown)
    if action.nargs in ("+", "*"):
        value += " …"
    text = " ".join(filter(None, ["/".join(action.option_strings), value]))
    return _cell(f"`{text}`" if action.required else f"`[{text}]`")


def _meaning(action: argparse.Action) -> str:
    text = str(action.help or "")
    plain = isinstance(action.default, str | int | float | Path) and action.default is not False
    if "(default" not in text and action.option_strings and plain:
        text += f" (default: {action.default})"
    return _cell(text.replace("<", "&lt;"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def python() -> str:
    """The names that `import spheremap` gives, in full, and what each module of the library is for."""
    package = _parsed(SOURCE / "__init__.py")
    lines = [MARK, "# Python", "", _prose(ast.get_docstring(package) or "")]
    for name in sorted(spheremap.__all__, key=lambda name: not name.islower()):  # the function first
        lines += _described(_find(name), f"spheremap.{name}")
    lines += ["", "## Modules", ""]
    lines += [
        "The library behind it, one room after the other. The first sentence of each module stands here;",
        "shapes, units, errors and sources are in the docstrings.",
        "",
        "| module | what it is |",
        "|---|---|",
    ]
    for path in sorted(SOURCE.rglob("*.py"), key=lambda path: path.with_suffix("").parts):
        if path.name in ("__init__.py", "__main__.py") and path.parent == SOURCE:
            continue
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        summary = (ast.get_docstring(_parsed(path)) or "").partition("\n\n")[0]
        lines.append(f"| `{module}` | {_cell(summary)} |")
    return "\n".join(lines) + "\n"


def _find(name: str) -> ast.ClassDef | ast.FunctionDef:
    """The definition of a public name, wherever in the package it stands."""
    path = Path(inspect.getsourcefile(getattr(spheremap, name)) or "")
    for node in _parsed(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"{name} is not defined in {path}")


def _described(node: ast.ClassDef | ast.FunctionDef, name: str) -> Iterator[str]:
    """Heading, signature and docstring, then the same of a class's public methods."""
    yield from ("", f"## {name}" if name.count(".") == 1 else f"### {name.removeprefix('spheremap.')}", "")
    if isinstance(node, ast.FunctionDef):
        yield from ("```text", _signature(node), "```", "")
    yield _prose(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                yield from _described(member, f"{name}.{member.name}")


def _signature(node: ast.FunctionDef) -> str:
    result = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
        return f"{node.name}{result.replace(' ->', ':')}"
    arguments = re.sub(r"^self(, |$)", "", ast.unparse(node.args))
    return f"{node.name}({arguments}){result}"


def _prose(text: str) -> str:
    """A docstring as Markdown: its sections become lists, its indented examples code."""
    lines: list[str] = []
    block = ""
    for line in text.splitlines():
        if block == "code" and line and not line.startswith(" "):
            lines[-1:] = ["```", ""]
            block = ""
        if line.endswith("::"):
            lines.append(line[:-1])
            block = "example"
        elif block == "example" and not line:
            lines += ["", "```python"]
            block = "code"
        elif block == "code":
            lines.append(line.removeprefix("    "))
        elif line in ("Args:", "Attributes:", "Raises:", "Returns:"):
            lines += [f"{line}", ""]
            block = line
        elif block and re.match(r" {4}\S", line):
            name, colon, rest = line.strip().partition(": ")
            entry = f"`{name}`: {rest}" if colon and block != "Returns:" else line.strip()
            lines.append(f"- {entry}")
        elif block and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        else:
            block = ""
            lines.append(line)
    if block == "code":
        lines.append("```")
    return "\n".join(lines)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


PAGES = {"cli.md": command_line, "python.md": python}

if __name__ == "__main__":
    for file, write in PAGES.items():
        (HERE / "reference" / file).write_text(write(), encoding="utf-8")
