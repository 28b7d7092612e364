"""Examples in docstrings and on the site's pages run and print what they say."""

import doctest
import importlib
import inspect
import re
from contextlib import chdir
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .test_public_api import MODULES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLAIN_MODULES = (
    "aquamvs.cells",
    "aquamvs.comparison",
    "aquamvs.config",
    "aquamvs.diagnosis",
    "aquamvs.errors",
    "aquamvs.files",
    "aquamvs.maps",
    "aquamvs.pathways",
    "aquamvs.pixels",
    "aquamvs.plain",
    "aquamvs.setup",
    "aquamvs.training.data",
    "aquamvs.training.loop",
    "aquamvs.types",
)
"""Public modules without a list of names: what they define under a name without underscore."""

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


def described(name: str) -> object | None:
    """The function or class behind a public name; None for a constant, which has no docstring."""
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    return value if inspect.isfunction(value) or inspect.isclass(value) else None


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples of a public object, methods included, those of its module's file apart."""
    value = described(name)
    if value is None:
        return []
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(value, name, globs={}) if test.examples]


PUBLIC = [
    f"{module}.{name}"
    for module in (*MODULES, *PLAIN_MODULES)
    for name in names_of(importlib.import_module(module))
]
DESCRIBED = [name for name in PUBLIC if described(name) is not None]
PAGES = sorted(path for path in DOCS.rglob("*.md") if _FENCE.search(path.read_text("utf-8")))


def run(test: doctest.DocTest) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that examples may take for granted, from the block that the site shows."""
    page = (DOCS / "api/index.rst").read_text("utf-8")
    block = page[page.index(".. code-block:: pycon") : page.index("Modules\n")]
    test = doctest.DocTestParser().get_doctest(block, {}, "start", "docs/api/index.rst", 0)
    with chdir(tmp_path_factory.mktemp("examples")):
        run(test)
    return test.globs


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_public_name_has_an_example_that_runs(
    name: str, start: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = examples_of(name)
    assert examples, f"{name} has no example in its docstring"
    for test in examples:
        test.globs.update(start)
        run(test)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_examples_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page run after each other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    source = "\n".join(_FENCE.findall(page.read_text("utf-8")))
    run(doctest.DocTestParser().get_doctest(source, {}, page.name, str(page), 0))


def test_an_example_that_prints_something_else_fails() -> None:
    broken = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "broken", None, 0)
    with pytest.raises(AssertionError, match="Expected"):
        run(broken)
