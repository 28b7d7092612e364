"""A height map as a cloud."""

import pytest
import torch

from aquamvs.fusion import cloud_from_height_map
from aquamvs.types import HeightMap


def height_map(slope: tuple[float, float]) -> HeightMap:
    rows, columns = 6, 8
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    z = (1.5 + 0.002 * (slope[0] * u + slope[1] * v)).float()
    z[2, 3] = torch.nan
    count = torch.full((rows, columns), 5, dtype=torch.int32)
    color = torch.rand(rows, columns, 3, generator=torch.Generator().manual_seed(0))
    return HeightMap(-0.3, 0.7, 0.002, z, 0.001 + 0 * z, (0 * z + 0.9).nan_to_num(), count, color)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.4, -0.7)])
def test_known_cells_become_points_with_their_attributes(slope: tuple[float, float]) -> None:
    grid = height_map(slope)
    cloud = cloud_from_height_map(grid)
    known = grid.z.isfinite()
    assert len(cloud) == known.sum() == grid.z.numel() - 1
    x, y = grid.grid_xy()
    expected = torch.stack([x[known], y[known], grid.z[known].double()], dim=-1)
    torch.testing.assert_close(cloud.points.double(), expected, atol=1e-6, rtol=0)
    assert torch.equal(cloud.colors, grid.color[known])
    assert torch.equal(cloud.sigma, grid.sigma[known])
    assert (cloud.view_count == 5).all()
    normal = torch.tensor([*slope, -1.0])
    torch.testing.assert_close(
        cloud.normals, (normal / normal.norm()).expand(len(cloud), 3), atol=1e-4, rtol=0
    )
