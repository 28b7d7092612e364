"""The compiled lookup agrees with tensor operations, inside surfaces, at jumps and at gaps."""

import dataclasses

import pytest
import torch

from aquamvs.evaluation import depth_points
from aquamvs.fusion.lookup import look_up, look_up_with_tensors

pytest.importorskip("numba")


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.4, -0.3)])
def test_lookup_agrees_with_tensors(make_plane, make_rig, slope) -> None:
    rig = make_rig(make_plane(0.95, slope), [(-0.1, 0.0), (0.1, 0.02)])
    depth = rig.maps[1].depth.clone()
    depth[20:30, 20:40] -= 0.1
    depth[40:44, 50:60] = torch.nan
    other = dataclasses.replace(rig.maps[1], depth=depth)
    points = depth_points(rig.views[0].model, rig.maps[0].depth)[0].float().reshape(-1, 3)
    points[:5] = torch.nan
    found, expected = (
        each(points, rig.views[1].model, other) for each in (look_up, look_up_with_tensors)
    )
    for field in dataclasses.fields(found):
        torch.testing.assert_close(
            getattr(found, field.name),
            getattr(expected, field.name),
            equal_nan=True,
            atol=2e-4 if field.name == "pixels" else 2e-6,
            rtol=1e-5,
        )
    assert torch.isfinite(found.gap).float().mean() > 0.5


def test_mean_of_two_surfaces_is_never_found(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), [(-0.1, 0.0), (0.1, 0.02)])
    depth = rig.maps[1].depth.clone()
    depth[:, ::2] -= 0.1  # every lookup lies between two surfaces
    other = dataclasses.replace(rig.maps[1], depth=depth)
    points = depth_points(rig.views[0].model, rig.maps[0].depth)[0].float().reshape(-1, 3)
    gap = look_up(points, rig.views[1].model, other).gap
    known = torch.isfinite(gap)
    assert gap[known].abs().max() < 2e-3  # of the point's own surface, within a pixel
