"""Examples in docstrings and on the site's pages run and print what they say."""

import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from .test_public_api import MODULES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLAIN_MODULES = ("aquamvs.maps", "aquamvs.pixels")
"""Public modules without a list of names: what they define under a name without underscore."""
COMPLETE = (
    "aquamvs.calibration",
    "aquamvs.maps",
    "aquamvs.pixels",
    "aquamvs.projection",
)
"""Modules each of whose functions has an example; a module is added when it has them all."""

_FENCE = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def names_of(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = vars(module).items()
    return sorted(
        name
        for name, value in own
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples of a public object, methods included, those of its module's file apart."""
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return []
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(value, name, globs={}) if test.examples]


PUBLIC = [
    f"{module}.{name}"
    for module in (*MODULES, *PLAIN_MODULES)
    for name in names_of(importlib.import_module(module))
]
WITH_EXAMPLES = [name for name in PUBLIC if examples_of(name)]
PAGES = sorted(path for path in DOCS.rglob("*.md") if _FENCE.search(path.read_text("utf-8")))


def run(test: doctest.DocTest) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_example_of_a_public_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for test in examples_of(name):
        run(test)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_examples_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page run after each other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    source = "\n".join(_FENCE.findall(page.read_text("utf-8")))
    run(doctest.DocTestParser().get_doctest(source, {}, page.name, str(page), 0))


@pytest.mark.parametrize("module", COMPLETE)
def test_every_function_of_a_complete_module_has_an_example(module: str) -> None:
    loaded = importlib.import_module(module)
    functions = [name for name in names_of(loaded) if inspect.isfunction(getattr(loaded, name))]
    lacking = [name for name in functions if f"{module}.{name}" not in WITH_EXAMPLES]
    assert functions
    assert not lacking


def test_an_example_that_prints_something_else_fails() -> None:
    broken = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "broken", None, 0)
    with pytest.raises(AssertionError, match="Expected"):
        run(broken)
