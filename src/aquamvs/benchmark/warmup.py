"""Compiling what a pathway will use before its time is taken."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from ..calibration import CalibrationData
from ..config import PipelineConfig
from ..datasets import SceneOptions, make_rig, make_scene, render_view
from ..numerics.acceleration import has_kernels
from ..pathways import MatcherType, PipelineMode
from ..pipeline import reconstruct, undistort_views, undistortion_maps
from ..types import FrameSet, UndistortedViews

_SIZE = (160, 120)
"""Of the images, px: enough for a match, and no time."""


@cache
def compile_kernels(mode: PipelineMode) -> None:
    """Reconstruct a few hundred pixels, so that numba compiles (or loads) a mode's kernels.

    The first use in an environment takes as long as compiling does, later ones about a second.
    Without numba there is nothing to do.

    Args:
        mode: That is timed next, on a CPU.
    """
    if not has_kernels(torch.empty(0)):
        return
    rig = make_rig("small5", image_size=_SIZE)
    config = PipelineConfig(
        calibration_path=Path(),  # nothing is read or written
        output_dir=Path(),
        camera_input_map=dict.fromkeys(rig.cameras, Path()),
        pipeline_mode=mode,
        matcher_type=MatcherType.SIFT,
    )
    reconstruct(_tiny_views(rig), config)


def _tiny_views(rig: CalibrationData) -> UndistortedViews:
    scene = make_scene("plane", seed=0, rig=rig, options=SceneOptions(depth=0.3))
    images = {
        name: torch.from_numpy(render_view(scene, rig, name)).float() / 255 for name in rig.cameras
    }
    return undistort_views(FrameSet(0, images), rig, undistortion_maps(rig))
