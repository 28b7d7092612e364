"""The last step of dense matching: a warp made exact on the images themselves."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .images import to_uint8

_ROUNDS = 10
"""Linearisations; twice OpenCV's number, since there are no coarser scales before."""


def polish_motion(own: Tensor, other: Tensor, motion: Tensor) -> Tensor:
    """Refine motion by constancy of intensity and gradient, with a smoothness term.

    The variational method of Brox et al. (ECCV 2004) at the finest scale only, as OpenCV implements
    it for DIS flow; it corrects a fraction of a pixel and keeps what is far off.

    Args:
        own: RGB, shape (H, W, 3), [0, 1].
        other: The aligned source image, same shape.
        motion: From cells of 2 x 2 px to ``other``, px, shape (H / 2, W / 2, 2).

    Returns:
        Refined motion, same shape, float32.
    """
    channels = motion.cpu().float().permute(2, 0, 1)[None]
    full = functional.interpolate(channels, scale_factor=2, mode="bilinear", align_corners=False)
    flow = np.ascontiguousarray(full[0].permute(1, 2, 0).numpy())
    first, second = (cv2.cvtColor(to_uint8(x), cv2.COLOR_RGB2GRAY) for x in (own, other))
    solver = cv2.VariationalRefinement.create()
    solver.setFixedPointIterations(_ROUNDS)
    # OpenCV's own defaults for DIS flow, where images differ in brightness.
    solver.setAlpha(20.0)
    solver.setDelta(5.0)
    solver.setGamma(10.0)
    refined = torch.from_numpy(solver.calc(first, second, flow)).permute(2, 0, 1)[None]
    return functional.avg_pool2d(refined, 2)[0].permute(1, 2, 0).to(motion.device)
