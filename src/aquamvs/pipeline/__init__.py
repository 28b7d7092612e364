"""Frames in, results out: inputs, stages in order, outputs, timing."""

from .distributed import connect, run_distributed
from .inputs import Inputs, open_inputs
from .memory import MemoryPrediction, predict_memory
from .outputs import FrameFolder, finished_height_maps, frame_folder, versions
from .reconstruct import Progress, Reconstruction, no_progress, reconstruct, weights_label
from .references import export_references
from .runner import FrameResult, FrameStatus, Pipeline, RunSummary
from .timing import StageRecorder, StageTiming, Timing
from .undistortion import undistort_views, undistortion_maps

__all__ = [
    "FrameFolder",
    "FrameResult",
    "FrameStatus",
    "Inputs",
    "MemoryPrediction",
    "Pipeline",
    "Progress",
    "Reconstruction",
    "RunSummary",
    "StageRecorder",
    "StageTiming",
    "Timing",
    "connect",
    "export_references",
    "finished_height_maps",
    "frame_folder",
    "no_progress",
    "open_inputs",
    "predict_memory",
    "reconstruct",
    "run_distributed",
    "undistort_views",
    "undistortion_maps",
    "versions",
    "weights_label",
]
