"""The tutorials' Colab badge as a link in the site's style, without another host's image."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def setup(app: Sphinx) -> dict[str, Any]:
    """Replace the badge's image before Sphinx collects the images of a page."""
    app.connect("doctree-read", _replace, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _replace(_: Sphinx, page: nodes.document) -> None:
    for image in list(page.findall(nodes.image)):
        if image["uri"] == _BADGE:
            image.replace_self(nodes.inline(text=image["alt"], classes=["colab-badge"]))
