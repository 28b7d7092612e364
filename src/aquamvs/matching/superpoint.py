"""SuperPoint, for users who hold its weights: network, detection and description.

DeTone, Malisiewicz and Rabinovich, SuperPoint, CVPR Workshops 2018. The published weights are for
non-commercial research only, so they are never downloaded and never a default.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..pixels import to_normalized

_CELL = 8
"""Pixels per side of the network's output cell."""

_NMS_RADIUS = 4
"""Distance within which only the strongest response counts, px; the authors' value."""

_WIDTHS = (64, 64, 128, 128)


class SuperPoint(nn.Module):
    """The network, with the tensor names of the published checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        below = 1
        for stage, width in enumerate(_WIDTHS, start=1):
            setattr(self, f"conv{stage}a", nn.Conv2d(below, width, 3, padding=1))
            setattr(self, f"conv{stage}b", nn.Conv2d(width, width, 3, padding=1))
            below = width
        self.convPa = nn.Conv2d(below, 256, 3, padding=1)
        self.convPb = nn.Conv2d(256, _CELL * _CELL + 1, 1)
        self.convDa = nn.Conv2d(below, 256, 3, padding=1)
        self.convDb = nn.Conv2d(256, 256, 1)

    def forward(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Detection probability and coarse descriptors.

        Args:
            grey: shape (1, 1, H, W), [0, 1]; H and W multiples of 8.

        Returns:
            Probability of a keypoint at each pixel, shape (H, W), and unit descriptors of each
            8 x 8 cell, shape (1, 256, H / 8, W / 8).
        """
        x = grey
        for stage in range(1, len(_WIDTHS) + 1):
            x = functional.relu(getattr(self, f"conv{stage}a")(x))
            x = functional.relu(getattr(self, f"conv{stage}b")(x))
            if stage < len(_WIDTHS):
                x = functional.max_pool2d(x, 2)
        logits = self.convPb(functional.relu(self.convPa(x)))
        # The last of 65 classes is "no keypoint in this cell".
        probability = functional.pixel_shuffle(logits.softmax(1)[:, :-1], _CELL)[0, 0]
        descriptors = self.convDb(functional.relu(self.convDa(x)))
        return probability, functional.normalize(descriptors, dim=1)


def detect_superpoint(
    network: SuperPoint, grey: Tensor, *, limit: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints of a grey image.

    Args:
        network: With loaded weights.
        grey: shape (H, W), [0, 1].
        limit: Largest number of keypoints.
        threshold: Smallest probability.

    Returns:
        Pixels, shape (N, 2); unit descriptors, shape (N, 256); probabilities, shape (N,).
    """
    height, width = grey.shape
    padding = (0, -width % _CELL, 0, -height % _CELL)
    probability, coarse = network(functional.pad(grey[None, None], padding, mode="replicate"))
    probability = probability[:height, :width]
    window = 2 * _NMS_RADIUS + 1
    highest = functional.max_pool2d(probability[None, None], window, stride=1, padding=_NMS_RADIUS)[
        0, 0
    ]
    maxima = (probability == highest) & (probability > threshold)
    # The zero padding of the convolutions responds along the border.
    inner = torch.zeros_like(maxima)
    inner[_NMS_RADIUS:-_NMS_RADIUS, _NMS_RADIUS:-_NMS_RADIUS] = True
    row, column = (maxima & inner).nonzero(as_tuple=True)
    scores = probability[row, column]
    order = scores.argsort(descending=True, stable=True)[:limit]
    pixels = torch.stack([column, row], dim=-1)[order].to(grey)
    size = (coarse.shape[-1] * _CELL, coarse.shape[-2] * _CELL)
    grid = to_normalized(pixels, size)[None, None]
    sampled = functional.grid_sample(coarse, grid, align_corners=False, padding_mode="border")
    return pixels, functional.normalize(sampled[0, :, 0].T, dim=-1), scores[order]
