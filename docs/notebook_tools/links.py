"""Links of a tutorial that lead nowhere: files beside it, or in this repository on GitHub."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from markdown_it import MarkdownIt
from markdown_it.token import Token

from .source import Cell, Project, notebook_cells

_MARKDOWN = MarkdownIt("commonmark").enable("table")
_HREF = re.compile(r"(?:href|src)=[\"']([^\"']+)[\"']")
_UNDEFINED = re.compile(r"(?<![\w\]])\[[^\[\]]+\]\[[^\[\]]*\]")
"""A reference that stayed text, because the cell does not define it."""
_PLACE = re.compile(r"(?:\b(?:id|name)=[\"']|^\(|^\.\. _)([\w-]+)(?:[\"']|\)=|:)", re.MULTILINE)
"""A place named in HTML, in MyST or in reStructuredText."""
_UNDERLINED = re.compile(r"^(\S.*)\n[-=~^]{3,}$", re.MULTILINE)
"""A heading in reStructuredText."""


def links(text: str) -> list[str]:
    """Targets of a cell's links and pictures, reference-style and HTML ones included."""
    found = []
    for token in _tokens(text):
        target = token.attrs.get("href") or token.attrs.get("src")
        if isinstance(target, str):
            found.append(target)
        if token.type in ("html_block", "html_inline"):
            found += _HREF.findall(token.content)
    return found


def link_faults(project: Project, name: str, cells: Iterable[Cell]) -> Iterator[str]:
    """One line for each link of the prose whose target is not in the repository.

    Other sites are not asked: the check works offline and says the same every time.
    """
    notebook = project.notebook(name)
    for number, cell in enumerate(cells, start=1):
        if cell.kind != "markdown":
            continue
        for link in links(cell.source):
            if not _is_alive(project, notebook, link):
                yield f"cell {number} has a dead link to {unquote(link)}"
        for token in _tokens(cell.source):
            if token.type == "text":
                for reference in _UNDEFINED.findall(token.content):
                    yield f"cell {number} has a link that it does not define, {reference}"


def _tokens(text: str) -> Iterator[Token]:
    for token in _MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def _is_alive(project: Project, notebook: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        own = re.match(
            rf"/{re.escape(project.repository)}/(?:blob|tree|raw)/([^/]+)/?(.*)", parts.path
        )
        if parts.netloc != "github.com" or own is None:
            return True
        return own[1] == project.branch and (project.root / unquote(own[2])).exists()
    if parts.scheme:  # a mail address
        return True
    target = notebook.parent / unquote(parts.path) if parts.path else notebook
    if not target.exists() or not target.resolve().is_relative_to(project.root.resolve()):
        return False
    if not parts.fragment or target.suffix not in (".ipynb", ".md", ".rst"):  # a line of code
        return True
    return unquote(parts.fragment).lower() in _places(target)


def _places(target: Path) -> set[str]:
    """What may stand behind ``#`` for a page: its headings as GitHub and MyST name them."""
    text = target.read_text(encoding="utf-8")
    if target.suffix == ".ipynb":
        cells = notebook_cells(nbformat.reads(text, as_version=4))
        text = "\n\n".join(cell.source for cell in cells if cell.kind == "markdown")
    tokens = list(_tokens(text))
    headings = [
        inline.content for opening, inline in pairwise(tokens) if opening.type == "heading_open"
    ]
    titles = [*headings, *_UNDERLINED.findall(text)]
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return {"top", *slugs, *(place.lower() for place in _PLACE.findall(text))}
