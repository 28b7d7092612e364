"""Arguments that commands share."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """A command's parser, which answers for unknown options itself.

    Argparse leaves them to the outermost parser, whose usage names none of the command's options.
    """

    def parse_known_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse what is not known with the nearest that is."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0], list(self._option_string_actions), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown


def add_command(commands: Commands, name: str, summary: str) -> Parser:
    """A command's own parser."""
    return commands.add_parser(name, help=summary, description=summary)


def add_config(parser: argparse.ArgumentParser) -> None:
    """The configuration file."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="configuration file (YAML)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where to compute."""
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda or cuda:N; overrides the file"
    )


def add_frame(parser: argparse.ArgumentParser) -> None:
    """Which frame, of commands that take one."""
    parser.add_argument(
        "--frame", type=int, default=0, metavar="N", help="frame number (default 0)"
    )


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """How much to tell, and in which form."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="no progress, only the result")
    group.add_argument("-v", "--verbose", action="store_true", help="log what happens")
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, and no progress"
    )
