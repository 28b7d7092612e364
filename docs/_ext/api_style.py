"""What autodoc leaves raw in the reference: defaults that are no Python, and hyphens."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_HYPHENS = " -- "
"""Between a parameter, its type and its description; at the end of a line they are torn apart."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the changes."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", _spell_defaults)
    app.connect("doctree-read", _draw_dashes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _spell_defaults(
    _app: Sphinx, _kind: str, _name: str, _value: Any, _options: Any, arguments: str, returned: str
) -> tuple[str, str]:
    """Defaults as they could be typed: Sphinx links the types of a signature only if it parses."""
    if arguments:
        arguments = arguments.replace("<factory>", "...")
        arguments = re.sub(r"<built-in function (\w+)>", r"\1", arguments)
    return arguments, returned


def _draw_dashes(_app: Sphinx, document: nodes.document) -> None:
    """In field lists only: smartquotes would turn the hyphens of options into dashes as well."""
    for body in document.findall(nodes.field_body):
        for text in list(body.findall(nodes.Text)):
            if text.startswith(_HYPHENS):
                dashed = text.replace(_HYPHENS, " \N{EN DASH} ", 1)
                text.parent.replace(text, nodes.Text(dashed))
