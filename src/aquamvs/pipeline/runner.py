"""Runs the configured pathway over frames: reading, timing, writing, resuming."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..config import PipelineConfig
from ..errors import AquaMVSError
from ..pathways import Stage
from ..types import UndistortedViews
from .inputs import Inputs, open_inputs
from .memory import MemoryPrediction, predict_memory
from .outputs import FrameFolder, frame_folder, is_finished, write_frame, write_report
from .reconstruct import (
    Progress,
    Reconstruction,
    check_settings,
    no_progress,
    reconstruct,
    weights_label,
)
from .timing import StageRecorder, Timing

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrameResult:
    """One finished frame.

    Attributes:
        frame: Frame number.
        folder: Where its results are.
        timing: What the stages took.
        views: The undistorted views.
        reconstruction: What the stages made.

    Example:
        >>> from aquamvs.pipeline import Pipeline
        >>> finished = Pipeline(config).run_frame(0)
        >>> finished.frame, len(finished.views), len(finished.reconstruction.depth_maps)
        (0, 5, 5)
    """

    frame: int
    folder: FrameFolder
    timing: Timing
    views: UndistortedViews
    reconstruction: Reconstruction


@dataclass(frozen=True, slots=True)
class FrameStatus:
    """What became of a frame of a run.

    Attributes:
        frame: Frame number.
        status: ``done``, ``skipped`` (finished by an earlier run of the same inputs) or ``failed``.
        output_dir: The frame's folder.
        error: Why it failed.
        traceback: Where, if the failure was not foreseen: a fault of AquaMVS or of the machine.
        point_count: Points of the cloud, where the frame was done now.
        total_time_ms: Of the stages, where the frame was done now.

    Example:
        >>> from aquamvs.pipeline import Pipeline
        >>> status = Pipeline(config).run(resume=False).frames[0]
        >>> status.frame, status.status, status.error
        (0, 'done', None)
    """

    frame: int
    status: str
    output_dir: Path
    error: str | None = None
    point_count: int | None = None
    total_time_ms: float | None = None
    traceback: str | None = None

    @classmethod
    def unforeseen(cls, frame: int, output_dir: Path, error: BaseException) -> FrameStatus:
        """Of a frame that an error other than AquaMVS's own has ended."""
        where = "".join(traceback.format_exception(error))
        text = f"{type(error).__name__}: {error}"
        return cls(frame, "failed", output_dir, error=text, traceback=where)

    def log(self) -> None:
        """Tell the log of a failure that was not foreseen, with its traceback."""
        if self.traceback is not None:
            _LOGGER.error("frame %d: unforeseen error\n%s", self.frame, self.traceback)


Told = Callable[[FrameStatus, int, int], None]
"""Called with a frame that has ended, the number of frames that have, and that of all."""


def tell_nobody(status: FrameStatus, ended: int, total: int) -> None:
    """Frames of whose end nobody is told."""
    del status, ended, total


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What became of all frames of a run.

    Example:
        >>> from aquamvs.pipeline import Pipeline
        >>> summary = Pipeline(config).run(resume=False)
        >>> [frame.status for frame in summary.frames]
        ['done']
    """

    frames: tuple[FrameStatus, ...]

    @property
    def failed(self) -> tuple[FrameStatus, ...]:
        """Frames without a result."""
        return tuple(frame for frame in self.frames if frame.status == "failed")

    @property
    def unforeseen(self) -> tuple[FrameStatus, ...]:
        """Those of them that another error than AquaMVS's own has ended."""
        return tuple(frame for frame in self.frames if frame.traceback is not None)


class Pipeline:
    """A reconstruction run.

    Args:
        config: From :meth:`PipelineConfig.from_yaml`, or built in Python (relative paths then
            resolve against the working directory).

    Raises:
        AquaMVSError: An input is missing or wrong; nothing has been written then.

    Example:
        >>> from aquamvs.pipeline import Pipeline
        >>> summary = Pipeline(config).run(resume=False)
        >>> [(frame.frame, frame.status) for frame in summary.frames]
        [(0, 'done')]
        >>> Pipeline(config).run().frames[0].status  # finished, so not done again
        'skipped'
    """

    def __init__(self, config: PipelineConfig) -> None:
        self.inputs: Inputs = open_inputs(config.resolved(Path.cwd()))

    @property
    def config(self) -> PipelineConfig:
        """The configuration, with absolute paths."""
        return self.inputs.config

    @cached_property
    def memory(self) -> MemoryPrediction:
        """What a frame will take in this process, and the tiles that keep it below the limit."""
        return predict_memory(self.inputs)

    def check(self, *, processes: int = 1, threads: int | None = None) -> MemoryPrediction:
        """Refuse a run of which no frame could be reconstructed.

        Args:
            processes: Frames that are reconstructed at a time on this machine.
            threads: Of each frame; torch's when absent.

        Returns:
            The memory that a frame will take.

        Raises:
            ConfigError: Settings do not fit together, a package that they need is not installed,
                or a frame needs more memory than there is.
            WeightsError: A matcher's weights are missing and cannot be downloaded, or do not fit.

        Example:
            >>> from aquamvs.pipeline import Pipeline
            >>> Pipeline(config).check().peak_mb > 100
            True
        """
        check_settings(self.config)
        memory = self.memory if threads is None else predict_memory(self.inputs, threads=threads)
        memory.check(processes=processes)
        return memory

    def run(
        self,
        *,
        progress: Progress = no_progress,
        resume: bool = True,
        told: Told = tell_nobody,
    ) -> RunSummary:
        """Reconstruct every selected frame.

        A frame that fails is recorded and does not stop the others.

        Args:
            progress: Told of every step.
            told: Told of every frame that has ended.
            resume: Leave frames alone that an earlier run with equal configuration, calibration and
                masks has finished.

        Returns:
            What became of each frame.

        Raises:
            ConfigError: See :meth:`check`.
        """
        self.check()
        frames = self.inputs.frames()
        statuses: list[FrameStatus] = []
        for frame in frames:
            statuses.append(self.attempt(frame, progress=progress, resume=resume))
            statuses[-1].log()
            told(statuses[-1], len(statuses), len(frames))
        return RunSummary(tuple(statuses))

    def finished(self, frame: int) -> FrameStatus | None:
        """The status of a frame that an earlier run of the same inputs has finished, else None."""
        folder = frame_folder(self.config.output_dir, frame)
        if is_finished(folder, self.inputs.fingerprint):
            return FrameStatus(frame, "skipped", folder.root)
        return None

    def attempt(
        self, frame: int, *, progress: Progress = no_progress, resume: bool = True
    ) -> FrameStatus:
        """Reconstruct one frame of a run; whatever goes wrong stays with the frame.

        What was not foreseen stays with it too, for the other frames may well be sound; its
        traceback is kept, for the log and for the exit code.

        Args:
            frame: Frame number.
            progress: Told of every step.
            resume: Leave the frame alone if it is finished.

        Returns:
            What became of it.
        """
        skipped = self.finished(frame) if resume else None
        if skipped is not None:
            return skipped
        root = frame_folder(self.config.output_dir, frame).root
        try:
            result = self.run_frame(frame, progress=progress)
        except AquaMVSError as error:
            return FrameStatus(frame, "failed", root, error=str(error))
        except Exception as error:  # noqa: BLE001  (a frame's edge; it is told by run and exit code)
            return FrameStatus.unforeseen(frame, root, error)
        return FrameStatus(
            frame,
            "done",
            root,
            point_count=len(result.reconstruction.cloud),
            total_time_ms=result.timing.total_time_ms,
        )

    def run_frame(
        self, frame: int, *, output_dir: Path | None = None, progress: Progress = no_progress
    ) -> FrameResult:
        """Reconstruct one frame and write its results.

        Args:
            frame: Frame number.
            output_dir: The frame's own folder; the configured tree when absent.
            progress: Told of every step.

        Returns:
            The frame's result.

        Raises:
            AquaMVSError: The frame cannot be read, reconstructed or written.
        """
        _LOGGER.debug("frame %d: %s", frame, self.config.pathway.name)
        recorder = StageRecorder(self.config.runtime.device)
        with recorder.stage(Stage.UNDISTORTION):
            progress(Stage.UNDISTORTION, 0, 1)
            views = self.inputs.read_views(frame)
            progress(Stage.UNDISTORTION, 1, 1)
        result = reconstruct(
            views, self.config, recorder=recorder, progress=progress, memory=self.memory
        )
        folder = (
            frame_folder(self.config.output_dir, frame)
            if output_dir is None
            else FrameFolder(output_dir)
        )
        write_frame(folder, views, result, self.config.pipeline_mode)
        write_report(
            folder,
            frame=frame,
            fingerprint=self.inputs.fingerprint,
            pathway=self.config.pathway.name,
            weights=weights_label(self.config),
            timing=recorder.timing,
            result=result,
        )
        return FrameResult(frame, folder, recorder.timing, views, result)
