"""Section `methods`: what is compared, by the files of `spheremap.methods`.

An entry names its `kind`, which is such a file, and its parameters, which are the fields of the class there.
Of the file only these are read here, without loading the rest and PyTorch with it.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import asdict, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from spheremap.base.errors import InputError
from spheremap.config.fields import STRICT, Name, Named

_FOLDER = Path(__file__).parents[1] / "methods"
_LIGHT = ("typing.", "pydantic.", "spheremap.config.")  # modules that a field's description may come from


def _parsed(kind: str) -> tuple[ast.Module, ast.ClassDef]:
    """The file of a kind, and the class in it."""
    path = _FOLDER / f"{kind}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"), path)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    found = [c for c in classes if {"Method", "Variant"} & {ast.unparse(base) for base in c.bases}]
    if len(found) != 1:
        raise InputError(
            "not the file of a method",
            where=path,
            expected="one class that derives from Method or Variant",
            found=", ".join(c.name for c in found) or "none",
            fix="put helpers into a folder, or into a file whose name begins with _",
        )
    return tree, found[0]


def class_name(kind: str) -> str:
    """Name of the class in the file of a kind."""
    return _parsed(kind)[1].name


def _entry_of(kind: str) -> type:
    """What an entry of a kind may hold: the fields of its class, with names in the place of methods."""
    tree, found = _parsed(kind)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    light = [ast.unparse(node) for node in imports if f"{node.module}.".startswith(_LIGHT)]
    known: dict[str, Any] = {}
    exec("\n".join(light), known)
    known["Method"] = Name
    members: list[Any] = [("kind", Literal[kind], Field(description="A file of spheremap.methods."))]
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            try:
                told = [eval(ast.unparse(part), known) for part in (node.annotation, node.value) if part]
            except NameError as error:
                raise InputError(
                    f"the parameter {node.target.id} of a method cannot be read",
                    where=_FOLDER / f"{kind}.py",
                    expected="a type and a default made of what typing, pydantic and spheremap.config have",
                    found=str(error),
                    fix="write out what that name stands for",
                ) from error
            members.append((node.target.id, *told))
    entry = dataclass(frozen=True, config=STRICT)(
        make_dataclass(f"{found.name}Entry", members, frozen=True, kw_only=True)
    )
    entry.__doc__ = " ".join((ast.get_docstring(found) or "").partition("\n\n")[0].split())
    return entry


KINDS = sorted(path.stem for path in _FOLDER.glob("[!_]*.py"))
MethodEntry: Any = Annotated[Union[tuple(map(_entry_of, KINDS))], Field(discriminator="kind")]  # noqa: UP007
if TYPE_CHECKING:
    Methods = dict[str, dict[str, Any]]
else:
    Methods = Named[Annotated[MethodEntry, AfterValidator(asdict)]]
# in the slice of params.yaml that a step reads; they are checked where methods are made of them
Entries = Named[dict[str, Any]]


def made_of(entry: Mapping[str, Any]) -> list[str]:
    """Names of the methods that an entry is made of."""
    of = entry.get("of", [])
    return [of] if isinstance(of, str) else of


def entries_of(entries: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """The entries that are called `names`, and those that they are made of."""
    found: dict[str, Any] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = entries[name]
            left += made_of(entries[name])
    return found


def learning(entries: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Those entries among `entries_of` that must be fitted: the class of their kind has a method `fit`."""
    return sorted(name for name, entry in entries_of(entries, names).items() if learns(entry["kind"]))


def companions_of(entries: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[Any]:
    """Kinds of caches that entries among `entries_of` need beside whole images: `needs` of their classes."""
    return sorted({need for entry in entries_of(entries, names).values() for need in _needs(entry["kind"])})


def _needs(kind: str) -> tuple[str, ...]:
    found = [node for node in _parsed(kind)[1].body if isinstance(node, ast.Assign)]
    values = [node.value for node in found if ast.unparse(node.targets[0]) == "needs"]
    return tuple(ast.literal_eval(values[0])) if values else ()


def learns(kind: str) -> bool:
    """Whether methods of a kind must be fitted."""
    return any(isinstance(node, ast.FunctionDef) and node.name == "fit" for node in _parsed(kind)[1].body)
