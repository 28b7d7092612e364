"""The ``configuration-table`` directive: the keys of ``config.yaml``, written from the model.

    .. configuration-table:: aquamvs.config:PipelineConfig

Names and defaults come from the pydantic model, meanings from the ``Attributes`` of its docstring.
"""

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class ConfigurationTable(SphinxDirective):
    """A table of the top-level keys, then one for each section."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build the tables and hand them to docutils."""
        module, name = self.arguments[0].split(":")
        model = getattr(import_module(module), name)
        lines = StringList(list(_model_lines(model)), source=self.arguments[0])
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(lines, 0, section, match_titles=True)
        return section.children


def _model_lines(model: type[BaseModel]) -> Iterator[str]:
    plain = {k: f for k, f in model.model_fields.items() if not _is_section(f)}
    yield from _table(model, plain)
    for key, field in model.model_fields.items():
        if _is_section(field):
            section = field.annotation
            yield from (key, "-" * len(key), "", inspect.getdoc(section).splitlines()[0], "")
            yield from _table(section, section.model_fields)


def _is_section(field: FieldInfo) -> bool:
    return inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel)


def _table(model: type[BaseModel], fields: dict[str, FieldInfo]) -> Iterator[str]:
    meanings = _meanings(model)
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 30 20 50")
    yield from ("   :width: 100%", "")
    yield from ("   * - Key", "     - Default", "     - Meaning")
    for key, field in fields.items():
        if key not in meanings:
            raise ExtensionError(f"{model.__name__}.{key} has no line in the class's Attributes")
        yield from (f"   * - ``{key}``", f"     - {_default(field)}", f"     - {meanings[key]}")
    yield ""


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    docstring = inspect.getdoc(model) or ""
    return {key: " ".join(text.split()) for key, text in _ATTRIBUTE.findall(docstring)}


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return "``null``"
    return f"``{str(value).lower() if isinstance(value, bool) else value}``"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("configuration-table", ConfigurationTable)
    return {"parallel_read_safe": True}
