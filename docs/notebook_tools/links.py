"""Links of a tutorial that lead nowhere: files beside it, or in this repository on GitHub."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .source import Cell, Project

_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HREF = re.compile(r"(?:href|src)=[\"']([^\"']+)[\"']")


def link_faults(project: Project, name: str, cells: Iterable[Cell]) -> Iterator[str]:
    """One line for each link of the prose whose target is not in the repository.

    Other sites are not asked: the check works offline and says the same every time.
    """
    folder = project.notebook(name).parent
    for number, cell in enumerate(cells, start=1):
        if cell.kind != "markdown":
            continue
        for link in [*_LINK.findall(cell.source), *_HREF.findall(cell.source)]:
            target = _local_target(project, folder, link)
            if target is not None and not target.exists():
                yield f"cell {number} has a dead link to {link}"


def _local_target(project: Project, folder: Path, link: str) -> Path | None:
    """The file that a link means; None where it leads out of the repository."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        own = f"/{project.repository}/blob/{project.branch}/"
        if parts.netloc == "github.com" and parts.path.startswith(own):
            return project.root / unquote(parts.path.removeprefix(own))
        return None
    if parts.scheme or not parts.path:  # a mail address, an anchor of the same page
        return None
    return folder / unquote(parts.path)
