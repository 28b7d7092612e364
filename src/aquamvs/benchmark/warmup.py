"""Compiling what a pathway will use before its time is taken."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from ..calibration import CalibrationData
from ..config import PipelineConfig
from ..datasets import SceneOptions, make_rig, make_scene, render_view
from ..numerics.acceleration import has_cuda_kernels, has_kernels
from ..pathways import MatcherType, PipelineMode
from ..pipeline import reconstruct, undistort_views, undistortion_maps
from ..types import FrameSet, UndistortedViews

_SIZE = (160, 120)
"""Of the images, px: enough for a match, and no time."""


@cache
def compile_kernels(mode: PipelineMode, device: str = "cpu") -> None:
    """Reconstruct a few hundred pixels, so that numba compiles (or loads) a mode's kernels.

    The first use in an environment takes as long as compiling does, later ones about a second.
    Without numba there is nothing to do.

    Args:
        mode: That is timed next.
        device: On which it is timed.
    """
    somewhere = torch.empty(0, device=device)
    if not (has_kernels(somewhere) or has_cuda_kernels(somewhere)):
        return
    rig = make_rig("small5", image_size=_SIZE)
    config = PipelineConfig(
        calibration_path=Path(),  # nothing is read or written
        output_dir=Path(),
        camera_input_map=dict.fromkeys(rig.cameras, Path()),
        pipeline_mode=mode,
        matcher_type=MatcherType.SIFT,
    ).with_device(device)
    reconstruct(_tiny_views(rig, device), config)


def _tiny_views(rig: CalibrationData, device: str) -> UndistortedViews:
    scene = make_scene("plane", seed=0, rig=rig, options=SceneOptions(depth=0.3))
    images = {
        name: torch.from_numpy(render_view(scene, rig, name)).float() / 255 for name in rig.cameras
    }
    return undistort_views(FrameSet(0, images), rig, undistortion_maps(rig), device=device)
