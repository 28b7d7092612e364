"""The one parser of the command line; the CLI guide is generated from it.

It imports nothing heavy, so that ``aquamvs --help`` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from ..pathways import PATHWAYS
from . import data
from .arguments import (
    Commands,
    Parser,
    add_command,
    add_config,
    add_device,
    add_frame,
    add_verbosity,
)
from .change import add_change
from .view import add_view

SCALES = ("tiny", "small", "medium", "full")
SHELLS = ("bash", "zsh", "tcsh", "fish")
SCENES = ("bower", "low_texture", "boxes", "board", "plane")

Command = Callable[[argparse.Namespace], int]
"""Runs a parsed command and returns the exit code."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` of the result names the one chosen.

    Example:
        >>> from aquamvs.cli import build_parser
        >>> options = build_parser().parse_args(["run", "config.yaml"])
        >>> options.command
        'run'
    """
    parser = argparse.ArgumentParser(
        prog="aquamvs",
        description="Refractive multi-view stereo: cameras in air, scene under water.",
        epilog="Exit codes: 0 done, 1 a frame or pathway failed, 2 wrong input, 3 a frame ended "
        "with an error that was not foreseen (a traceback says where), 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"aquamvs {version('aquamvs')}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    data.add_init(commands)
    _add_run(commands)
    _add_benchmark(commands)
    _add_example(commands)
    _add_weights(commands)
    add_change(commands)
    data.add_export_refs(commands)
    data.add_export_cameras(commands)
    data.add_export_mesh(commands)
    data.add_export_heights(commands)
    data.add_temporal_filter(commands)
    data.add_evaluate(commands)
    add_view(commands)
    data.add_doctor(commands)
    _add_completion(commands)
    return parser


def _add_run(commands: Commands) -> None:
    parser = add_command(commands, "run", "Reconstruct the frames of a dataset.")
    add_config(parser)
    add_device(parser)
    parser.add_argument(
        "--restart", action="store_true", help="redo frames that an earlier run has finished"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="reconstruct N frames at a time, each in a process of its own (extra dask)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="hand the frames to the workers of a running Dask scheduler, e.g. tcp://host:8786",
    )
    add_verbosity(parser)


def _add_benchmark(commands: Commands) -> None:
    parser = add_command(
        commands,
        "benchmark",
        "Compare the pathways on one frame: time, memory, points, density and, with ground truth, "
        "error.",
    )
    add_config(parser)
    add_frame(parser)
    parser.add_argument(
        "--pathways",
        metavar="NAMES",
        help="comma-separated names of pathways to run (default: all): "
        + ", ".join(pathway.name for pathway in PATHWAYS),
    )
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="instead of the configured output folder"
    )
    add_device(parser)
    add_verbosity(parser)


def _add_example(commands: Commands) -> None:
    parser = add_command(
        commands,
        "example",
        "Make an example dataset with exact ground truth, or fetch the real one.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to create")
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default="small",
        help="tiny: 5 cameras of 200 x 150; small: 5 of 400 x 300; medium: 13 of 800 x 600; "
        "full: 13 of 1600 x 1200 (default small)",
    )
    parser.add_argument(
        "--scene",
        choices=SCENES,
        default="bower",
        help="bower: sand with a cichlid's bower, pebbles and rocks; low_texture: the same "
        "with little contrast; boxes: vertical walls; board: a calibration board over sand; "
        "plane: a textured plane (default bower)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of everything random: another seed, another scene (default 0)",
    )
    parser.add_argument(
        "--frames", type=int, default=1, metavar="N", help="number of frames (default 1)"
    )
    parser.add_argument("--masks", action="store_true", help="also write masks")
    parser.add_argument(
        "--published",
        action="store_true",
        help="fetch the published dataset into OUT instead (needs a network)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it holds something"
    )
    add_verbosity(parser)


def _add_weights(commands: Commands) -> None:
    parser = add_command(
        commands,
        "weights",
        "List the network weights, bundled and official, and say which are present; fetch official "
        "ones.",
    )
    parser.add_argument(
        "--fetch",
        nargs="*",
        metavar="NAME",
        help="download these weights, or all that are missing where none is named",
    )
    add_verbosity(parser)


def _add_completion(commands: Commands) -> None:
    parser = add_command(
        commands,
        "completion",
        "Print a script that completes commands and options on the shell's tab key.",
    )
    parser.add_argument("shell", choices=SHELLS, help="shell")
    add_verbosity(parser)
