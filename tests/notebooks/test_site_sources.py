"""What the site says about errors and modules is true of the package."""

import ast
import functools
import inspect
import re
from pathlib import Path

import pytest

import aquamvs
from aquamvs import errors

PACKAGE = Path(aquamvs.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs"
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
ERROR_CLASSES = [
    name
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.AquaMVSError)
]
HOLE = "…"


@functools.cache
def _string_templates() -> list[str]:
    """Every string of the package, f-strings with a hole for each value."""
    templates = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                templates.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else HOLE for p in node.values)
                templates.append("".join(str(part) for part in parts))
    return templates


def _quoted_messages() -> list[str]:
    """The messages that the page quotes: italic terms that stand alone on a line."""
    terms = re.findall(r"^(\*.+\*)\n: ", TROUBLESHOOTING, re.MULTILINE)
    return [message for term in terms for message in re.findall(r"\*([^*]+)\*", term)]


@pytest.mark.parametrize("name", ERROR_CLASSES)
def test_every_error_class_has_a_troubleshooting_entry(name):
    assert re.search(rf"^## .*\(`{name}`\)$", TROUBLESHOOTING, re.MULTILINE)


def test_page_quotes_messages():
    assert len(_quoted_messages()) > len(ERROR_CLASSES)


@pytest.mark.parametrize("message", _quoted_messages())
def test_quoted_message_is_one_that_the_package_prints(message):
    pattern = ".+".join(re.escape(part.strip()) for part in message.split(HOLE))
    assert any(re.search(pattern, template, re.DOTALL) for template in _string_templates())


def test_every_public_module_has_an_api_page():
    modules = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    pages = {path.stem for path in (DOCS / "api").glob("*.rst")} - {"index"}
    assert modules - {"__init__", "__main__"} == pages
