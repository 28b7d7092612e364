"""Frames in, results out: inputs, stages in order, outputs, timing."""

from .inputs import Inputs, open_inputs
from .outputs import FrameFolder, frame_folder, versions
from .reconstruct import Progress, Reconstruction, no_progress, reconstruct, weights_label
from .runner import FrameResult, FrameStatus, Pipeline, RunSummary
from .timing import StageRecorder, StageTiming, Timing
from .undistortion import undistort_views, undistortion_maps

__all__ = [
    "FrameFolder",
    "FrameResult",
    "FrameStatus",
    "Inputs",
    "Pipeline",
    "Progress",
    "Reconstruction",
    "RunSummary",
    "StageRecorder",
    "StageTiming",
    "Timing",
    "frame_folder",
    "no_progress",
    "open_inputs",
    "reconstruct",
    "undistort_views",
    "undistortion_maps",
    "versions",
    "weights_label",
]
