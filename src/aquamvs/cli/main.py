"""Entry point: parse, run the command, turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from ..errors import AquaMVSError, ConfigError
from .change import run_change
from .parser import Command, build_parser
from .progress import StageBars, line_printer

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Instead of the process's own.

    Returns:
        Exit code: 0 done, 1 a frame or pathway failed, 2 wrong input, 130 interrupted.
    """
    options = build_parser().parse_args(arguments)
    # Torch is not loaded yet. Threads that wait in a loop take the cores from those that work, and
    # maps of many megabytes come faster in huge pages.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        return _COMMANDS[options.command](options)
    except AquaMVSError as error:
        print(f"aquamvs: error: {error}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except KeyboardInterrupt:
        print("aquamvs: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _run(options: argparse.Namespace) -> int:
    from ..config import PipelineConfig
    from ..pipeline import Pipeline

    config = PipelineConfig.from_yaml(options.config)
    if options.device is not None:
        config = config.with_device(options.device)
    bars = StageBars(quiet=options.quiet or config.runtime.quiet)
    pipeline = Pipeline(config)
    summary = pipeline.run(progress=bars, resume=not options.restart)
    bars.close()
    for frame in summary.frames:
        line = f"frame {frame.frame:6d}  {frame.status:8s}"
        if frame.status == "failed":
            line += f"  {frame.error}"
        else:
            if frame.point_count is not None and frame.total_time_ms is not None:
                line += f"  {frame.point_count} points in {frame.total_time_ms / 1e3:.1f} s"
            line += f"  {frame.output_dir}"
        print(line)
    if summary.failed:
        print(
            f"aquamvs: {len(summary.failed)} of {len(summary.frames)} frames failed",
            file=sys.stderr,
        )
    return EXIT_FAILED if summary.failed else EXIT_DONE


def _benchmark(options: argparse.Namespace) -> int:
    from ..benchmark import format_console_table, run_benchmark

    bars: list[StageBars] = []

    def start(name: str) -> StageBars:
        bars.append(StageBars(f"{name}: ", quiet=options.quiet))
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
    print(format_console_table(result))
    for name in ("benchmark.html", "benchmark.md", "benchmark.json"):
        print(result.output_dir / name)
    return EXIT_FAILED if result.failed else EXIT_DONE


def _example(options: argparse.Namespace) -> int:
    from ..datasets import fetch_published, make_example

    if options.published:
        print(fetch_published(options.out, progress=not options.quiet))
        return EXIT_DONE
    if options.frames < 1:
        raise ConfigError(f"--frames is {options.frames}; expected 1 or more")
    show = line_printer(quiet=options.quiet)
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
    if show is not None:
        show("")
    print(folder / "config.yaml")
    return EXIT_DONE


def _weights(options: argparse.Namespace) -> int:
    from ..matching.weights import fetch_weights, weights_table

    if options.fetch is not None:
        for path in fetch_weights(options.fetch, progress=not options.quiet):
            print(path)
        return EXIT_DONE
    print(weights_table())
    return EXIT_DONE


_COMMANDS: dict[str, Command] = {
    "run": _run,
    "benchmark": _benchmark,
    "example": _example,
    "weights": _weights,
    "change": run_change,
}
