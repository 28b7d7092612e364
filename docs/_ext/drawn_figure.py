"""The ``drawn`` directive: a figure that the library draws while the site is built.

    .. drawn:: refracted_ray

       One ray.

The name is a function of ``docs/figures.py`` that returns a matplotlib figure; the content is the
caption and the picture's text for those who cannot see it. A figure cannot drift from the code that
draws it.
"""

from pathlib import Path

import figures
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from aquamvs.visualization import figure_svg

_FOLDER = "drawn"


class DrawnFigure(SphinxDirective):
    """A figure on a card, with its caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Draw the figure into the build's folder of sources and refer to it."""
        name = self.arguments[0]
        draw = getattr(figures, name, None)
        if draw is None or name not in figures.__all__:
            raise ExtensionError(f"docs/figures.py has no figure {name!r}")
        self.env.note_dependency(str(Path(figures.__file__)))
        path = Path(self.env.srcdir) / "_build" / _FOLDER / f"{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(figure_svg(draw()))
        image = nodes.image(
            uri="/" + path.relative_to(self.env.srcdir).as_posix(),
            alt=" ".join(self.content),
            classes=["figure-card"],
        )
        caption = nodes.caption()
        inline, messages = self.parse_inline(" ".join(self.content), lineno=self.lineno)
        caption += inline
        return [nodes.figure("", image, caption), *messages]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("drawn", DrawnFigure)
    return {"parallel_read_safe": True}
