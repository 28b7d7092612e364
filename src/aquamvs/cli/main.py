"""Entry point: parse, run the command, turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import logging
import os
import sys
from collections.abc import Sequence

from ..errors import AquaMVSError, ConfigError
from . import data
from .change import run_change
from .exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_WRONG_INPUT
from .output import print_result, printable
from .parser import Command, build_parser
from .progress import StageBars, progress_bar
from .run import run
from .view import view

_OBJECTS_BETWEEN_SEARCHES = 50_000
"""More than a frame's work makes, and a fraction of what loading the modules makes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Instead of the process's own.

    Returns:
        Exit code: 0 done, 1 a frame or pathway failed, 2 wrong input, 3 a frame ended with an
        error that was not foreseen, 130 interrupted.

    Example:
        >>> from aquamvs.cli import main
        >>> main(["run", "missing.yaml"])
        2
    """
    options = build_parser().parse_args(arguments)
    # Torch is not loaded yet. Threads that wait in a loop take the cores from those that work, and
    # maps of many megabytes come faster in huge pages.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # What the modules hold stays: to look for garbage in it, as they load and as the process ends,
    # takes a second.
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES)
    atexit.register(gc.freeze)
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(_Printable("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[shown])
    if options.verbose:  # not the other packages, which tell of every chunk of an image
        logging.getLogger("aquamvs").setLevel(logging.DEBUG)
    try:
        return _COMMANDS[options.command](options)
    except AquaMVSError as error:
        return _refuse(str(error), as_json=options.json)
    except KeyboardInterrupt:
        print("aquamvs: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except PermissionError as error:  # of a folder that a path leads through
        place = error.filename or "a file"
        return _refuse(f"{place} cannot be used: {error.strerror}", as_json=options.json)
    except BrokenPipeError:  # the reader of a pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


class _Printable(logging.Formatter):
    """Messages with names of files in them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _refuse(reason: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": reason}))
    print(f"aquamvs: error: {printable(reason)}", file=sys.stderr)
    return EXIT_WRONG_INPUT


def _benchmark(options: argparse.Namespace) -> int:
    from ..benchmark import format_console_table, run_benchmark

    bars: list[StageBars] = []

    def start(name: str) -> StageBars:
        bars.append(StageBars(f"{name}: ", quiet=options.quiet or options.json))
        return bars[-1]

    result = run_benchmark(
        options.config,
        frame=options.frame,
        pathways=None if options.pathways is None else options.pathways.split(","),
        output_dir=options.output_dir,
        device=options.device,
        progress=lambda pathway: start(pathway.name),
    )
    for bar in bars:
        bar.close()
    files = [result.output_dir / f"benchmark.{kind}" for kind in ("html", "md", "json")]
    text = "\n".join([format_console_table(result), *map(str, files)])
    print_result(options, result, text)
    return EXIT_FAILED if result.failed else EXIT_DONE


def _example(options: argparse.Namespace) -> int:
    from ..datasets import fetch_published, make_example

    if options.published:
        quiet = options.quiet or options.json
        dataset = fetch_published(options.out, progress=not quiet)
        print_result(options, {"dataset": dataset}, str(dataset))
        return EXIT_DONE
    if options.frames < 1:
        raise ConfigError(f"--frames is {options.frames}; expected 1 or more")
    with progress_bar(options) as show:
        folder = make_example(
            options.out,
            scale=options.scale,
            seed=options.seed,
            scene=options.scene,
            frames=options.frames,
            masks=options.masks,
            overwrite=options.overwrite,
            progress=show,
        )
    config = folder / "config.yaml"
    print_result(options, {"dataset": folder, "config": config}, str(config))
    return EXIT_DONE


def _weights(options: argparse.Namespace) -> int:
    from ..matching.weights import fetch_weights, list_weights, weights_table

    if options.fetch is None:
        print_result(options, {"weights": list_weights()}, weights_table())
        return EXIT_DONE
    quiet = options.quiet or options.json
    paths = fetch_weights(options.fetch, progress=not quiet)
    print_result(options, {"fetched": paths}, "\n".join(map(str, paths)))
    return EXIT_DONE


def _completion(options: argparse.Namespace) -> int:
    import shtab

    script = shtab.complete(build_parser(), options.shell)
    print_result(options, {"shell": options.shell, "script": script}, script)
    return EXIT_DONE


_COMMANDS: dict[str, Command] = {
    "init": data.init,
    "run": run,
    "benchmark": _benchmark,
    "example": _example,
    "weights": _weights,
    "change": run_change,
    "export-refs": data.export_refs,
    "export-cameras": data.export_cameras,
    "export-mesh": data.export_mesh,
    "export-heights": data.export_heights,
    "temporal-filter": data.temporal_filter,
    "evaluate": data.evaluate,
    "view": view,
    "doctor": data.doctor,
    "completion": _completion,
}
