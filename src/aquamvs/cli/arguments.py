"""Arguments that commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(commands: Commands, name: str, summary: str) -> argparse.ArgumentParser:
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
