"""``aquamvs run``: the frames of a dataset, one after the other or on many workers."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from .exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_UNFORESEEN
from .output import print_result, table
from .progress import RunBars

if TYPE_CHECKING:
    from ..pipeline import FrameStatus, MemoryPrediction, RunSummary


def run(options: argparse.Namespace) -> int:
    """Reconstruct the frames; fails if one of them has."""
    from ..config import PipelineConfig
    from ..pipeline import Pipeline, connect, run_distributed

    config = PipelineConfig.from_yaml(options.config)
    if options.device is not None:
        config = config.with_device(options.device)
    pipeline = Pipeline(config)
    threads = None
    if options.workers is not None and options.workers > 0:
        threads = max(1, (os.cpu_count() or 1) // options.workers)
    memory = pipeline.check(processes=options.workers or 1, threads=threads)
    quiet = options.quiet or options.json or config.runtime.quiet
    if not quiet:
        print(f"aquamvs: {memory}", file=sys.stderr)
    bars = RunBars(len(pipeline.inputs.frames()), quiet=quiet)
    resume = not options.restart
    if options.workers is None and options.scheduler is None:
        summary = pipeline.run(progress=bars, resume=resume, told=bars.told)
    else:
        with connect(
            scheduler=options.scheduler,
            workers=options.workers,
            max_memory_gb=config.runtime.max_memory_gb,
        ) as client:
            summary = run_distributed(
                pipeline, client, resume=resume, threads=threads, told=bars.told
            )
    bars.close()
    _print_summary(options, summary, memory)
    if summary.unforeseen:
        return EXIT_UNFORESEEN
    return EXIT_FAILED if summary.failed else EXIT_DONE


def _print_summary(
    options: argparse.Namespace, summary: RunSummary, memory: MemoryPrediction
) -> None:
    counts = {
        status: sum(frame.status == status for frame in summary.frames)
        for status in ("done", "skipped", "failed")
    }
    rows = [("frame", "status", "points", "seconds", "result"), *map(_row, summary.frames)]
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    text = f"{table(rows)}\n{len(summary.frames)} frames: {words}"
    print_result(
        options,
        {
            "frames": summary.frames,
            **counts,
            "predicted_peak_memory_mb": memory.peak_mb,
        },
        text,
    )
    if summary.failed:
        print(
            f"aquamvs: {len(summary.failed)} of {len(summary.frames)} frames failed",
            file=sys.stderr,
        )
    if summary.unforeseen:
        print(
            f"aquamvs: {len(summary.unforeseen)} of them by an error that was not foreseen; please "
            "report it with the traceback above",
            file=sys.stderr,
        )


def _row(frame: FrameStatus) -> tuple[str, ...]:
    seconds = "" if frame.total_time_ms is None else f"{frame.total_time_ms / 1e3:.1f}"
    points = "" if frame.point_count is None else str(frame.point_count)
    return (
        str(frame.frame),
        frame.status,
        points,
        seconds,
        str(frame.output_dir) if frame.error is None else " ".join(frame.error.split()),
    )
