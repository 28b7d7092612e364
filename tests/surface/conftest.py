"""Scenes for the surface sweep: textured planes through water, rendered without noise."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aquamvs.calibration import CalibrationData
from aquamvs.datasets import Imaging, Scene, SceneOptions, make_rig, make_scene, render_view
from aquamvs.pipeline import undistort_views, undistortion_maps
from aquamvs.surface.consistency import ROBUST_MARGIN
from aquamvs.surface.evaluator import Pass, TensorEvaluator
from aquamvs.surface.grid import Grid
from aquamvs.surface.refine import Estimate
from aquamvs.surface.tiles import Tile
from aquamvs.surface.visibility import Occlusion
from aquamvs.types import FrameSet, UndistortedViews

Region = tuple[float, float, float, float]
Rendered = tuple[UndistortedViews, Scene, Region]

LEVER = 300.0
"""Pixels that views move per metre of height."""
NOISELESS = Imaging(full_well_e=None)


def render_plane(
    *,
    rig: CalibrationData | None = None,
    slope: tuple[float, float] = (0.0, 0.0),
    depth: float = 0.3,
) -> Rendered:
    """Views of a plane by a small rig, and the region under the rig's middle."""
    rig = rig or make_rig("small5")
    scene = make_scene("plane", seed=1, rig=rig, options=SceneOptions(slope=slope, depth=depth))
    images = {
        name: torch.from_numpy(render_view(scene, rig, name, imaging=NOISELESS)).float() / 255
        for name in rig.cameras
    }
    views = undistort_views(FrameSet(0, images), rig, undistortion_maps(rig))
    centre = torch.stack(list(rig.camera_positions().values())).mean(0)
    x, y = float(centre[0]), float(centre[1])
    return views, scene, (x - 0.12, y - 0.12, x + 0.12, y + 0.12)


def estimate_of(z: Tensor, curvature: float) -> Estimate:
    """Of heights on which five views agree."""

    def everywhere(value: float) -> Tensor:
        return torch.full_like(z, value)

    return Estimate(
        z=z,
        spread=everywhere(0.1),
        curvature=everywhere(curvature),
        lever=everywhere(LEVER),
        effective_views=everywhere(5.0),
        view_count=torch.full(z.shape, 5, dtype=torch.uint8),
        own_texture=everywhere(1.0),
    )


class KnownSurface(TensorEvaluator):
    """An evaluator that knows what is found.

    Args:
        found: Given a tile and the heights that its windows ride on: what height is found, and with
            what spread.
    """

    def __init__(self, found: Callable[[Tile, Tensor], tuple[Tensor, Tensor]]) -> None:
        self._found = found

    def estimate(
        self,
        grid: Grid,
        tile: Tile,
        z: Tensor,
        occlusion: Occlusion | None,
        plan: Pass,
        step: float,
    ) -> Tensor | None:
        """See :meth:`TileEvaluator.estimate`; of the other maps nothing is known."""
        del grid, occlusion, step
        margin = plan.margin + ROBUST_MARGIN
        height, spread = self._found(tile, z[margin:-margin, margin:-margin])
        return torch.stack([height, spread] + [torch.ones_like(height)] * 5)


@pytest.fixture(scope="session")
def level_plane() -> Rendered:
    return render_plane()


@pytest.fixture(scope="session")
def slanted_plane() -> Rendered:
    return render_plane(slope=(0.3, -0.2))


@pytest.fixture(scope="session")
def plane_in_air() -> Rendered:
    rig = make_rig("small5")
    return render_plane(rig=dataclasses.replace(rig, n_water=rig.n_air))


@pytest.fixture(scope="session")
def plane_under_tilted_water() -> Rendered:
    rig = make_rig("small5")
    normal = torch.tensor([0.06, -0.04, -1.0], dtype=torch.float64)
    return render_plane(rig=dataclasses.replace(rig, interface_normal=normal / normal.norm()))
