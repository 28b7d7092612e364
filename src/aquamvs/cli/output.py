"""What commands print: text for people, one JSON object for machines."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
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
        json.dumps(plain(data), indent=2, allow_nan=False) if options.json else printable(text),
        flush=True,
    )


def printable(text: str) -> str:
    """Text as a terminal may get it: names of files can hold its commands, or no characters."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of text in aligned columns, the first row being the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def key_values(data: dict[str, Any]) -> str:
    """Nested figures as lines of keys, the outer one first, and values."""
    rows = list(_flat(plain(data), ""))
    width = max((len(key) for key, _ in rows), default=0)
    return "\n".join(f"{key:{width}s}  {value}" for key, value in rows)


def _flat(data: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key} ")
        elif value is not None:
            yield f"{prefix}{key}", f"{value:.6g}" if isinstance(value, float) else str(value)
