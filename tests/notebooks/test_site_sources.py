"""What the site says about errors and modules is true of the package."""

import ast
import functools
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

import aquamvs
from aquamvs import errors
from aquamvs.cli import build_parser
from aquamvs.config import PipelineConfig

PACKAGE = Path(aquamvs.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs"
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
ERROR_CLASSES = [
    name
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.AquaMVSError)
]
HOLE = "…"


_LEAST_LETTERS = 6
"""Of a quoted message: fewer would fit whatever is printed."""


@functools.cache
def _trees() -> dict[str, ast.Module]:
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def _template(node: ast.expr) -> str | None:
    """A string with a hole for each value, or None where it is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else HOLE for p in node.values)
    return None


@functools.cache
def _string_templates() -> list[str]:
    """Every string of the package."""
    nodes = (
        node for tree in _trees().values() for node in ast.walk(tree) if isinstance(node, ast.expr)
    )
    return [template for template in map(_template, nodes) if template is not None]


def _messages() -> Iterator[tuple[str, str, str]]:
    """Place, class and template of every error that the package makes."""
    for place, tree in _trees().items():
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            name = call.func.id
            if name == "ShapeError":  # puts its sentence together itself
                yield f"{place}:{call.lineno}", name, f"{HOLE} has shape {HOLE}; expected {HOLE}"
            elif name in ERROR_CLASSES or (place == "files.py" and name == "error"):
                yield f"{place}:{call.lineno}", name, _said(call.args[0], tree)
            elif place == "config.py" and name == "ValueError":  # pydantic's way to a ConfigError
                yield f"{place}:{call.lineno}", "ConfigError", _said(call.args[0], tree)


def _said(argument: ast.expr, tree: ast.Module) -> str:
    """The template of an error's argument; that of a function's result where one is called."""
    template = _template(argument)
    if template is None and isinstance(argument, ast.Call):
        name = getattr(argument.func, "id", None)
        for function in tree.body:
            if isinstance(function, ast.FunctionDef) and function.name == name:
                returned = (node for node in ast.walk(function) if isinstance(node, ast.Return))
                template = _template(next(returned).value)
    assert template is not None, f"no template: {ast.unparse(argument)}"
    return template


@functools.cache
def _quoted_messages(section: str = "") -> list[str]:
    """The messages that the page, or its section of one class, quotes.

    They are italic terms that stand alone on a line.
    """
    parts = re.split(r"^## .*\(`(\w+)`\)$", TROUBLESHOOTING, flags=re.MULTILINE)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    text = texts[section] if section else "".join(texts.values())
    terms = re.findall(r"^(\*.+\*)\n: ", text, re.MULTILINE)
    return [message for term in terms for message in re.findall(r"\*([^*]+)\*", term)]


def _pattern(message: str) -> str:
    return ".*".join(re.escape(part.strip()) for part in message.split(HOLE))


def _has_entry(name: str, template: str) -> bool:
    quoted = _quoted_messages(name if name in ERROR_CLASSES else "")
    return any(re.search(_pattern(message), template, re.DOTALL) for message in quoted)


CONFIGURATION: dict[str, Any] = {
    "calibration_path": "calibration.json",
    "output_dir": "output",
    "camera_input_map": {"cam0": "images/cam0", "cam1": "images/cam1"},
}
WRONG_CONFIGURATIONS: list[dict[str, Any]] = [
    {"calibration_path": None},
    {"mask_dir": 3},
    {"mask_dir": "~nobody_of_this_name/masks"},
    {"camera_input_map": "images"},
    {"camera_input_map": {"cam0": "images/cam0"}},
    {"pipeline_mode": "dense"},
    {"preprocessing": {"frame_start": "first"}},
    {"preprocessing": {"color_norm_enabled": "perhaps"}},
    {"dense_matching": 3},
    {"dense_matching": {"certainty_threshold": 7}},
    {"reconstruction": {"grid_resolution": -1}},
    {"reconstruction": {"height_range": [1, 2, 3]}},
    {"reconstruction": {"height_range": [2, 1]}},
    {"reconstruction": {"window_size": 4}},
    {"runtime": {"device": "tpu"}},
]
"""What pydantic refuses, each in words of its own."""


def _complaint(wrong: dict[str, Any]) -> str:
    values = {key: value for key, value in (CONFIGURATION | wrong).items() if value is not None}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        with pytest.raises(errors.ConfigError) as caught:
            PipelineConfig.from_yaml(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ERROR_CLASSES)
def test_every_error_class_has_a_troubleshooting_entry(name):
    assert re.search(rf"^## .*\(`{name}`\)$", TROUBLESHOOTING, re.MULTILINE)


def test_every_error_has_a_troubleshooting_entry():
    passed_on = re.compile(rf"({HOLE}|frame {HOLE}|camera {HOLE}|[,: ])+")  # another error's words
    faults = [
        f"{place}: {name}: {template}"
        for place, name, template in _messages()
        if not passed_on.fullmatch(template) and not _has_entry(name, template)
    ]
    assert not faults, "docs/troubleshooting.md has no entry for\n" + "\n".join(faults)


@pytest.mark.parametrize("wrong", WRONG_CONFIGURATIONS, ids=str)
def test_wrong_value_of_a_configuration_has_an_entry(wrong):
    assert _has_entry("ConfigError", _complaint(wrong))


def test_an_error_of_a_new_kind_has_no_entry():
    assert not _has_entry("DataError", f"the camera {HOLE} has gone swimming; dry it")
    assert not _has_entry("StageError", f"the mesh of {HOLE} has a leak")
    assert _has_entry("DataError", f"video {HOLE}: frame {HOLE} cannot be decoded")


def test_the_errors_of_the_package_are_found():
    places = [place for place, _, _ in _messages()]
    assert len(places) > 250
    assert sum(place.startswith("io/ply.py:") for place in places) > 10


@pytest.mark.parametrize("message", _quoted_messages())
def test_quoted_message_is_one_that_the_package_prints(message):
    assert sum(map(str.isalpha, message)) >= _LEAST_LETTERS
    printed = [*_string_templates(), *map(_complaint, WRONG_CONFIGURATIONS)]
    assert any(re.search(_pattern(message), each, re.DOTALL) for each in printed)


def _typed_commands() -> list[str]:
    """Every ``$ aquamvs ...`` of the site, the tutorials and the README."""
    root = DOCS.parent
    pages = [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst"), *root.glob("*.md")]
    pages += (root / "notebooks_src").glob("*.py")
    texts = [page.read_text("utf-8").replace("\\\n", " ") for page in pages]
    return sorted(set(re.findall(r"^[# ]*\$ aquamvs (.+)$", "\n".join(texts), re.MULTILINE)))


@pytest.mark.parametrize("command", _typed_commands())
def test_typed_command_is_one_that_the_command_line_takes(command):
    assert build_parser().parse_args(shlex.split(command, comments=True)).command


def test_every_public_module_has_an_api_page():
    modules = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    pages = {path.stem for path in (DOCS / "api").glob("*.rst")} - {"index"}
    assert modules - {"__init__", "__main__"} == pages
