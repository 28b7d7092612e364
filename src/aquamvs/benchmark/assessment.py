"""Judging a pathway's result: density always, errors against the rig's limit where truth exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets import GroundTruth
from ..evaluation import (
    HeightGrid,
    cloud_scores,
    depth_limit,
    height_errors,
    pooled_depth_errors,
    rig_limit,
    surface_density,
    visible_in_depth_maps,
)
from ..evaluation.limit import hidden_tolerance
from ..pipeline import Reconstruction
from ..types import HeightMap, PointCloud, UndistortedViews
from .results import Accuracy, CloudAccuracy, SurfaceAccuracy

_LIMIT_STEP = 4
"""The limit changes slowly: every fourth pixel and cell stands for those around it."""
_MAX_TRUTH_NODES = 1_000_000
"""The true surface of the cloud scores is thinned to this many nodes."""
_MAX_JUDGED_POINTS = 200_000
"""Points whose distance to the true surface is computed, and that outline the covered area."""
_DENSITY_CELL = 0.005
"""Gaps up to this width belong to the covered surface, metres."""
_SHARED_BY = 2
"""A cloud is judged where at least so many reference cameras see the surface: what only one of
them and a wide auxiliary camera see is left to the limit of the auxiliary one, often several mm."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth of a frame with the rig's limit, computed once for all pathways.

    Attributes:
        ground_truth: As loaded.
        views: The frame's views.
        depth_limits: Reference camera to limit along its rays, shape (H, W), metres.
        surface: True surface as far as two reference cameras see it, occlusion considered.
    """

    ground_truth: GroundTruth
    views: UndistortedViews
    depth_limits: dict[str, Tensor]
    surface: HeightGrid

    @classmethod
    def prepare(cls, ground_truth: GroundTruth, views: UndistortedViews) -> Truth:
        """Compute the limits of all reference cameras."""
        models = [view.model for view in views]
        sizes = [view.size for view in views]
        depths = [ground_truth.depth(view.name).to(view.image.device) for view in views]
        limits = {
            view.name: depth_limit(
                models,
                view.model,
                ground_truth.depth(view.name).to(view.image.device),
                sizes=sizes,
                depths=depths,
                step=_LIMIT_STEP,
            ).sigma
            for view in views.references
        }
        return cls(ground_truth, views, limits, shared_surface(ground_truth, views))

    def accuracy(self, result: Reconstruction) -> Accuracy:
        """Errors of depth maps, height map and cloud."""
        return Accuracy(
            depth=self._depth(result),
            height=None if result.height_map is None else self._height(result.height_map),
            cloud=judge_cloud(result.cloud, self.surface),
        )

    def _depth(self, result: Reconstruction) -> SurfaceAccuracy | None:
        if not result.depth_maps:
            return None
        names = [depth_map.camera for depth_map in result.depth_maps]
        errors = pooled_depth_errors(
            result.depth_maps,
            [self.ground_truth.depth(name) for name in names],
            [self.depth_limits[name] for name in names],
        )
        return SurfaceAccuracy.of_errors(errors)

    def _height(self, height_map: HeightMap) -> SurfaceAccuracy:
        truth = self._whole_surface()
        x, y = height_map.grid_xy()
        x, y = x[::_LIMIT_STEP, ::_LIMIT_STEP], y[::_LIMIT_STEP, ::_LIMIT_STEP]
        points = torch.stack([x, y, torch.from_numpy(truth.at(x, y))], dim=-1)
        coarse = rig_limit(
            [view.model for view in self.views],
            points,
            sizes=[view.size for view in self.views],
        )
        limit, count = (
            _repeat(values, height_map.z.shape) for values in (coarse.height, coarse.view_count)
        )
        return SurfaceAccuracy.of_errors(
            height_errors(_without_unshared(height_map, count), truth, limit)
        )

    def height_error(self, height_map: HeightMap) -> Tensor:
        """Height minus truth, shape (rows, columns), metres; NaN where either is unknown."""
        truth = self._whole_surface()
        return height_map.z.cpu() - torch.from_numpy(truth.at(*height_map.grid_xy())).float()

    def _whole_surface(self) -> HeightGrid:
        surface = self.ground_truth.surface
        return HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)


def shared_surface(ground_truth: GroundTruth, views: UndistortedViews) -> HeightGrid:
    """The true surface, thinned, that at least two reference cameras see."""
    surface = ground_truth.surface
    stride = max(1, round((surface.z.numel() / _MAX_TRUTH_NODES) ** 0.5))
    z = surface.z[::stride, ::stride].double()
    grid = HeightGrid(surface.x0, surface.y0, surface.spacing * stride, z)
    points = _grid_points(grid)
    models = [view.model for view in views.references]
    visible = visible_in_depth_maps(
        models,
        [ground_truth.depth(view.name) for view in views.references],
        points,
        tolerance=hidden_tolerance(models[0], points),
    )
    shared = visible.sum(0) >= _SHARED_BY
    return HeightGrid(grid.x0, grid.y0, grid.spacing, torch.where(shared, z, torch.nan))


def judge_cloud(cloud: PointCloud, surface: HeightGrid) -> CloudAccuracy:
    """Scores of a cloud against a true surface; points where that is unknown are ignored."""
    known = torch.from_numpy(surface.at(cloud.points[:, 0], cloud.points[:, 1])).isfinite()
    scores = cloud_scores(
        cloud.points,
        surface.triangles(),
        sample_spacing=2 * surface.spacing,
        judged=known,
        accuracy_stride=max(1, int(known.sum()) // _MAX_JUDGED_POINTS),
    )
    return CloudAccuracy.of_scores(scores)


def density(cloud: PointCloud) -> float:
    """Points per square metre of surface covered."""
    stride = max(1, len(cloud) // _MAX_JUDGED_POINTS)
    area = surface_density(cloud.points[::stride], spacing=_DENSITY_CELL).covered_area
    return len(cloud) / area if area > 0 else float("nan")


def coverage(result: Reconstruction, views: UndistortedViews) -> float | None:
    """Share of the reference views' usable pixels that have a depth; None without depth maps."""
    if not result.depth_maps:
        return None
    usable = sum(int(view.mask.sum()) for view in views.references)
    known = sum(int(depth_map.valid.sum()) for depth_map in result.depth_maps)
    return known / usable


def _grid_points(grid: HeightGrid) -> Tensor:
    rows, columns = grid.z.shape
    x = grid.x0 + grid.spacing * torch.arange(columns, dtype=torch.float64)
    y = grid.y0 + grid.spacing * torch.arange(rows, dtype=torch.float64)
    return torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns), grid.z], dim=-1)


def _repeat(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Every value of a thinned grid for the cells around it."""
    full = values.repeat_interleave(_LIMIT_STEP, 0).repeat_interleave(_LIMIT_STEP, 1)
    return full[: shape[0], : shape[1]]


def _without_unshared(height_map: HeightMap, count: Tensor) -> HeightMap:
    """Cells that fewer than two cameras see have no limit and are nobody's to cover."""
    shared = count.to(height_map.z.device) >= _SHARED_BY
    return HeightMap(
        height_map.x0,
        height_map.y0,
        height_map.spacing,
        torch.where(shared, height_map.z, torch.nan),
        torch.where(shared, height_map.sigma, torch.nan),
        torch.where(shared, height_map.confidence, 0.0),
        torch.where(shared, height_map.view_count, 0),
        height_map.color,
    )
