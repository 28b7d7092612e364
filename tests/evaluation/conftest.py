"""Rigs over water that the metrics are tested on."""

import pytest
import torch

from aquamvs.projection import RefractiveProjectionModel

SIZE = (400, 300)
WATER_Z = 1.0


def look_down(
    x: float, y: float, *, turn: float = 0.0, focal: float = 500.0, n_water: float = 1.333
) -> RefractiveProjectionModel:
    """A camera at height 0 that looks straight down, turned about the vertical."""
    K = torch.tensor(
        [[focal, 0, (SIZE[0] - 1) / 2], [0, focal, (SIZE[1] - 1) / 2], [0, 0, 1]],
        dtype=torch.float64,
    )
    angle = torch.tensor(turn, dtype=torch.float64)
    c, s = float(angle.cos()), float(angle.sin())
    R = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    centre = torch.tensor([x, y, 0.0], dtype=torch.float64)
    normal = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    return RefractiveProjectionModel(K, R, -R @ centre, WATER_Z, normal, 1.0, n_water)


@pytest.fixture
def rig() -> list[RefractiveProjectionModel]:
    """Four cameras on a square of 0.3 m."""
    return [look_down(x, y, turn=x + 2 * y) for x in (-0.15, 0.15) for y in (-0.15, 0.15)]
