"""Progress for people: one bar per stage, only on a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .output import printable

if TYPE_CHECKING:
    from ..pathways import Stage
    from ..pipeline import FrameStatus


class StageBars:
    """Shows the running stage as a bar on standard error."""

    def __init__(self, title: str = "", *, quiet: bool = False) -> None:
        self._title = title
        self._shown = not quiet and sys.stderr.isatty()
        self._stage: Stage | None = None
        self._bar: Any = None

    def __call__(self, stage: Stage, done: int, total: int) -> None:
        """Tell how far a stage is."""
        if not self._shown:
            return
        if stage is not self._stage:
            self._open(stage, total)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._close_stage()

    def _open(self, stage: Stage, total: int) -> None:
        from tqdm import tqdm

        self._close_stage()
        self._stage = stage
        name = stage.replace("_", " ")
        self._bar = tqdm(total=total, desc=f"{self._title}{name}", leave=False, file=sys.stderr)

    def close(self) -> None:
        """Remove the bar."""
        self._close_stage()

    def _close_stage(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, None


class RunBars(StageBars):
    """Adds a bar of all frames with the time that is left, above that of the stage.

    Args:
        total: Frames of the run, whose clock starts here.
        quiet: Show nothing.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet)
        self._frames: Any = None
        if self._shown:
            from tqdm import tqdm

            self._frames = tqdm(  # no smoothing: frames are alike, and few
                total=total, desc="frames", leave=False, file=sys.stderr, smoothing=0, mininterval=0
            )

    def told(self, status: FrameStatus, ended: int, total: int) -> None:
        """Tell that a frame has ended."""
        del total  # known from the start
        if self._frames is None:
            return
        self._close_stage()
        if status.status == "skipped":  # took no time: the rate is that of the others
            self._frames.initial += 1
        self._frames.update(ended - self._frames.n)

    def close(self) -> None:
        """Remove both bars."""
        super().close()
        if self._frames is not None:
            self._frames.close()
        self._frames = None


@contextmanager
def progress_bar(
    options: argparse.Namespace,
) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar with the time that is left, told what has been done, how many, and of how many.

    None where nobody looks.
    """
    if options.quiet or options.json or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=0, leave=False, file=sys.stderr, mininterval=0) as bar:

        def show(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(printable(what), refresh=False)
            bar.update(done - bar.n)

        yield show
