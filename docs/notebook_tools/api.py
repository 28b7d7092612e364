"""What a tutorial uses of the library: public names only, and a hash of how they are called."""

import ast
import hashlib
import importlib
import inspect
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .source import Cell

LIBRARY = "aquamvs"
"""Name of the package whose names are checked."""


@dataclass(frozen=True, slots=True)
class UsedName:
    """A name that a cell imports from the library.

    Attributes:
        cell: Number of the cell, from 1.
        module: Where it is imported from.
        name: None where the module itself is imported.
    """

    cell: int
    module: str
    name: str | None


def used_names(cells: Iterable[Cell]) -> Iterator[UsedName]:
    """Every import from the library, in the order of the cells; cells that do not parse are empty.

    Whether a cell parses is for the build and the smoke test to say.
    """
    for number, cell in enumerate(cells, start=1):
        if cell.kind != "code":
            continue
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and _of_library(node.module):
                yield from (UsedName(number, str(node.module), each.name) for each in node.names)
            elif isinstance(node, ast.Import):
                for each in node.names:
                    if _of_library(each.name):
                        yield UsedName(number, each.name, None)


def api_faults(cells: Iterable[Cell]) -> Iterator[str]:
    """One line for each name that is not public."""
    for used in used_names(cells):
        module = _module(used.module)
        if module is None:
            yield f"cell {used.cell} imports {used.module}, which does not exist"
        elif used.name is not None and used.name not in public_names(module):
            yield f"cell {used.cell} uses {used.module}.{used.name}, which is not public"


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
