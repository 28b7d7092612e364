"""What commands print: text for people, one JSON object for machines."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from ..plain import plain


def print_result(options: Namespace, data: Any, text: str) -> None:
    """Print a command's result on standard output.

    Args:
        options: Of the command; ``json`` says which form is wanted.
        data: Dataclass or dict for ``--json``.
        text: For people.
    """
    print(
        json.dumps(plain(data), indent=2, allow_nan=False, ensure_ascii=False)
        if options.json
        else text
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of text in aligned columns, the first row being the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
