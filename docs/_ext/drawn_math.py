"""Formulas as SVG with a mathematical font's outlines: no script, no font, no other site is needed.

MathML would do without a script too, but a browser without a mathematical font cuts and misplaces
its parts.
"""

from typing import Any
from xml.etree import ElementTree

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

_SIZE = 16.0
"""Size at which formulas are set, pixels; the page scales them with its text."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer; ``html_math_renderer`` chooses it."""
    ziamath.config.svg2 = False  # outlines in each formula, not references between formulas
    app.add_html_math_renderer("drawn", (_visit_inline, None), (_visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def drawn(latex: str, *, inline: bool) -> str:
    """A formula as an ``svg`` element in the colour and size of the text around it."""
    formula = ziamath.Latex(latex, size=_SIZE, color="currentColor", inline=inline)
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    image = formula.svgxml()
    for side in ("width", "height"):
        image.set(side, f"{float(image.get(side, 0)) / _SIZE:.3f}em")
    image.set("role", "img")
    image.set("aria-label", latex)
    if inline:
        image.set("style", f"vertical-align: {formula.getyofst() / _SIZE:.3f}em")
    return ElementTree.tostring(image, encoding="unicode")


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(drawn(node.astext(), inline=True))
    raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    formula = drawn(node.astext(), inline=False)
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode
