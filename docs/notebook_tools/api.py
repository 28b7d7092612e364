"""What a tutorial uses of the library: public names only, and a hash of how they are called."""

import ast
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .source import Cell

LIBRARY = "aquamvs"
"""Name of the package whose names are checked."""


_COMMAND = re.compile(r"^(\s*)[!%].*$", re.MULTILINE)
"""A line for the shell or for IPython, which Python does not parse."""


@dataclass(frozen=True, slots=True)
class UsedName:
    """A name of the library that a cell imports, or reaches through an imported module.

    Attributes:
        cell: Number of the cell, from 1.
        module: Where it lies.
        name: None where the module itself is imported.
    """

    cell: int
    module: str
    name: str | None


def used_names(cells: Iterable[Cell]) -> Iterator[UsedName]:
    """Every name used from the library, in the order of the cells.

    Cells that do not parse are empty: whether they do is for the build and the smoke test to say.
    """
    modules: dict[str, str] = {}  # a notebook's cells share their names
    for number, cell in enumerate(cells, start=1):
        if cell.kind != "code":
            continue
        try:
            tree = ast.parse(_COMMAND.sub(r"\1pass", cell.source))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and _of_library(node.module):
                yield from _imported_from(number, node, modules)
            elif isinstance(node, ast.Import):
                for each in node.names:
                    if _of_library(each.name):
                        modules[each.asname or LIBRARY] = each.name if each.asname else LIBRARY
                        yield UsedName(number, each.name, None)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                yield from _reached(number, node, modules)


def _imported_from(
    number: int, node: ast.ImportFrom, modules: dict[str, str]
) -> Iterator[UsedName]:
    for each in node.names:
        inner = f"{node.module}.{each.name}"
        if _is_public_module(inner):
            modules[each.asname or each.name] = inner
            yield UsedName(number, inner, None)
        else:
            yield UsedName(number, str(node.module), each.name)


def _reached(number: int, node: ast.Attribute, modules: dict[str, str]) -> Iterator[UsedName]:
    """The name that ``node`` takes from a module; nothing where that is a module or a value."""
    within = _as_module(node.value, modules)
    if within is not None and not _is_public_module(f"{within}.{node.attr}"):
        yield UsedName(number, within, node.attr)


def _as_module(node: ast.expr, modules: dict[str, str]) -> str | None:
    """Full name of the public module that an expression means."""
    if isinstance(node, ast.Name):
        return modules.get(node.id)
    if isinstance(node, ast.Attribute):
        outer = _as_module(node.value, modules)
        if outer is not None and _is_public_module(f"{outer}.{node.attr}"):
            return f"{outer}.{node.attr}"
    return None


def api_faults(cells: Iterable[Cell]) -> Iterator[str]:
    """One line for each name that is not public."""
    for used in used_names(cells):
        module = _module(used.module)
        if module is None:
            yield f"cell {used.cell} imports {used.module}, which does not exist"
        elif used.name is not None and not _is_public(module, used.name):
            yield f"cell {used.cell} uses {used.module}.{used.name}, which is not public"
        elif used.name is None and not _is_public_module(used.module):
            yield f"cell {used.cell} imports {used.module}, which is not public"


def _is_public_module(name: str) -> bool:
    """Whether this is the library or one of its modules; what lies deeper is their own."""
    inner = name.partition(".")[2]
    return _of_library(name) and "." not in inner and inner[:1] != "_" and _module(name) is not None


def _is_public(module: ModuleType, name: str) -> bool:
    """Whether a public module offers the name; one that lies deeper must be its parent's too."""
    outer = module.__name__.rpartition(".")[0]
    if not _is_public_module(module.__name__) and (
        not outer or not _is_public(importlib.import_module(outer), name)
    ):
        return False
    return name in public_names(module)


def public_names(module: ModuleType) -> set[str]:
    """``__all__``, or what a module without it defines itself under a name without underscore."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    own = module.__name__
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", own) == own
    }


def api_hash(cells: Iterable[Cell]) -> str:
    """SHA-256 of how the used names are called: their parameters and the fields of classes.

    Annotations and defaults stay out: how Python spells them depends on its version.
    """
    described = {}
    for used in used_names(cells):
        module = _module(used.module)
        if module is not None and used.name is not None:
            described[f"{used.module}.{used.name}"] = _described(getattr(module, used.name, None))
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _of_library(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == LIBRARY


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def _described(value: Any) -> Any:
    """Kind, parameters and, for a class, its public attributes with theirs."""
    if inspect.isclass(value):
        members = {
            name: _parameters(member)
            for name, member in vars(value).items()
            if not name.startswith(("_", "model_"))  # pydantic's own, which its version decides
        }
        return {"class": _parameters(value), "members": members}
    return _parameters(value)


def _parameters(value: Any) -> list[str] | str:
    """Names and kinds of parameters, ``=`` behind those with a default; else the type's name."""
    target = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if not callable(target):
        return type(target).__name__
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # built in C without a signature
        return type(target).__name__
    return [
        f"{each.kind.name}:{each.name}{'' if each.default is each.empty else '='}"
        for each in parameters
    ]
