"""Which depths of one view the depth maps of the others confirm, and which they contradict.

A point of view A is looked up in view B's depth map. B *agrees* if its surface lies within the
combined uncertainty of both. It *contradicts* the point if it sees a surface behind it, because it
then looks through the point; a surface in front of the point merely hides it, and a pixel without
depth says nothing (after Merrell et al., ICCV 2007). Views that agree are required in proportion to
those that could see the point, so that the rig's edge, where two cameras look, is judged by the
same standard as its middle, where eight do.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..numerics.acceleration import in_parallel, operation_workers
from ..numerics.filters import extreme
from ..types import DepthMap, View
from .lookup import jump_slope, look_up

VIEWS_AT_ONCE = 4
_CHUNK_POINTS = 1 << 17
"""Points of each that are compared at a time: some 20 MB."""
_RIM_RADIUS = 2
"""Pixels from a jump or a gap that count as its rim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions:
    """Options of consistency checks and fusion.

    Attributes:
        min_consistent_views: Least number of views that agree on a point, its own included.
        min_agreement: Least fraction of views that agree among those that agree or contradict, its
            own included.
        sigma_factor: Agreement in combined standard deviations.
        relative_floor: Added to it, a fraction of the distance from camera to point: what
            calibration leaves, which no depth map's sigma knows.
        rim_views: On the rim of a surface, within two pixels of a gap or of a jump to what lies
            behind, so many other views must agree, and more than contradict, with pixels of theirs
            that lie on no rim: matching windows across a border err there, in all views alike.
        normal_radius: Normals come from windows of 2 radius + 1 pixels a side.

    Example:
        >>> from aquamvs.fusion import FusionOptions, fuse
        >>> strict = FusionOptions(min_consistent_views=4)
        >>> usual = fuse(tuple(views), made.depth_maps)
        >>> len(fuse(tuple(views), made.depth_maps, strict)) < len(usual)
        True
    """

    min_consistent_views: int = 2
    min_agreement: float = 0.5
    sigma_factor: float = 3.0
    relative_floor: float = 1e-3
    rim_views: int = 2
    normal_radius: int = 2

    def __post_init__(self) -> None:
        checks = (
            ("min_consistent_views", self.min_consistent_views >= 1, "at least 1"),
            ("min_agreement", 0 <= self.min_agreement <= 1, "in [0, 1]"),
            ("sigma_factor", self.sigma_factor >= 0, "at least 0"),
            ("relative_floor", self.relative_floor >= 0, "at least 0"),
            ("rim_views", self.rim_views >= 1, "at least 1"),
            ("normal_radius", 1 <= self.normal_radius <= 32, "1 to 32"),
        )
        for name, holds, wanted in checks:
            if not holds:
                raise ConfigError(f"fusion: {name} is {getattr(self, name)!r}; expected {wanted}")

    def accept(self, agreeing: Tensor, seeing: Tensor) -> Tensor:
        """Whether counts of views, their own included, make points consistent."""
        return (agreeing >= self.min_consistent_views) & self.undisputed(agreeing, seeing)

    def undisputed(self, agreeing: Tensor, seeing: Tensor) -> Tensor:
        """Whether no more views contradict points than these counts allow."""
        return agreeing >= self.min_agreement * seeing


@dataclass(frozen=True, slots=True)
class ConsistencyMap:
    """How many views agree with each pixel of a depth map.

    Attributes:
        camera: Camera name.
        agreeing: Views that agree, the own one included, shape (H, W), int16; 0 without depth.
        seeing: Views that agree or contradict, the own one included, shape (H, W), int16.

    Example:
        >>> from aquamvs.fusion import consistency_maps
        >>> counts = consistency_maps(tuple(views), made.depth_maps)[0]
        >>> counts.camera, bool((counts.agreeing <= counts.seeing).all())
        ('cam0', True)
    """

    camera: str
    agreeing: Tensor
    seeing: Tensor

    def at(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``agreeing`` and ``seeing`` of pixels given as flat indices, each of shape (N,)."""
        return self.agreeing.reshape(-1)[pixels], self.seeing.reshape(-1)[pixels]


@dataclass(frozen=True, slots=True)
class PosedMap:
    """A view and its depth map."""

    view: View
    map: DepthMap

    @property
    def known(self) -> Tensor:
        """Pixels with a depth that may be used, shape (H, W), bool."""
        return self.map.valid & self.view.mask

    def points(self, pixels: Tensor) -> "PixelPoints":
        """Points of some pixels, given as flat indices into the map, shape (N,)."""
        width, _ = self.view.size
        uv = torch.stack([pixels % width, pixels // width], dim=-1).to(self.map.depth.dtype)
        origin, direction = self.view.model.cast_ray(uv)
        depth = self.map.depth.reshape(-1)[pixels]
        points = origin + depth[:, None] * direction
        return PixelPoints(pixels, points, direction, self.map.sigma.reshape(-1)[pixels])


@dataclass(frozen=True, slots=True)
class PixelPoints:
    """Points of a view's pixels.

    Attributes:
        pixels: Flat indices into the depth map, shape (N,), int64.
        points: World frame, shape (N, 3), metres.
        direction: Of the rays under water, shape (N, 3).
        sigma: Along the ray, shape (N,), metres.
    """

    pixels: Tensor
    points: Tensor
    direction: Tensor
    sigma: Tensor

    def select(self, keep: Tensor) -> "PixelPoints":
        """Some of the points; ``keep`` is bool of shape (N,)."""
        return PixelPoints(
            self.pixels[keep], self.points[keep], self.direction[keep], self.sigma[keep]
        )


@dataclass(frozen=True, slots=True)
class ViewCheck:
    """What another view says about those points that fall into its image.

    Attributes:
        index: Which points, shape (M,), int64.
        pixels: Where the view sees them, shape (M, 2).
        agrees: shape (M,), bool.
        contradicts: The view sees a surface behind the point, shape (M,), bool.
        points: The view's own surface there, on its own ray, shape (M, 3), metres.
        sigma: Of its depth, shape (M,), metres.
        confidence: Of its depth, shape (M,).
        direction: Of its rays under water, shape (M, 3).
    """

    index: Tensor
    pixels: Tensor
    agrees: Tensor
    contradicts: Tensor
    points: Tensor
    sigma: Tensor
    confidence: Tensor
    direction: Tensor


def pair_views(views: Sequence[View], depth_maps: Sequence[DepthMap]) -> tuple[PosedMap, ...]:
    """Depth maps with their views, in the maps' order.

    Raises:
        DataError: A map without view, of another size, or two of one camera.
    """
    by_name = {view.name: view for view in views}
    paired: dict[str, PosedMap] = {}
    for depth_map in depth_maps:
        name = depth_map.camera
        if name not in by_name:
            raise DataError(
                f"depth map of {name!r} has no view; there are views of {', '.join(by_name)}"
            )
        if name in paired:
            raise DataError(f"there are two depth maps of camera {name}; expected one")
        height, width = depth_map.depth.shape
        if (width, height) != by_name[name].size:
            raise DataError(
                f"depth map of {name} is {width} x {height}; its view is "
                f"{by_name[name].size[0]} x {by_name[name].size[1]}"
            )
        paired[name] = PosedMap(by_name[name], depth_map)
    return tuple(paired.values())


def chunks(posed: PosedMap, wanted: Tensor) -> Iterator[PixelPoints]:
    """Points of a depth map, in row-major order, some at a time.

    Args:
        posed: The map.
        wanted: Which of its pixels, shape (H * W,), bool.
    """
    for part in torch.split(wanted.nonzero()[:, 0], _CHUNK_POINTS):
        yield posed.points(part)


def check_against(found: PixelPoints, other: PosedMap, options: FusionOptions) -> ViewCheck:
    """Compare points of one view with the depth map of another."""
    seen = look_up(found.points, other.view.model, other.map)
    index = torch.isfinite(seen.pixels[:, 0]).nonzero()[:, 0]
    gap, sigma = seen.gap[index], seen.sigma[index]
    points = found.points[index]
    distance = (points - other.view.model.camera_center.to(points)).norm(dim=-1)
    tolerance = options.sigma_factor * torch.hypot(found.sigma[index], sigma)
    tolerance = tolerance + options.relative_floor * distance
    direction = seen.direction[index]
    return ViewCheck(
        index=index,
        pixels=seen.pixels[index],
        agrees=gap.abs() <= tolerance,  # False for NaN
        contradicts=gap > tolerance,
        points=points + gap[:, None] * direction,
        sigma=sigma,
        confidence=seen.confidence[index],
        direction=direction,
    )


def count_views(checks: Iterable[ViewCheck], found: PixelPoints) -> tuple[Tensor, Tensor]:
    """Views that agree on points, and those that agree or contradict.

    Each of shape (N,), int16. The view that the points come from counts in both.
    """
    agreeing = torch.ones(len(found.pixels), dtype=torch.int16, device=found.pixels.device)
    seeing = agreeing.clone()
    for check in checks:
        agreeing[check.index] += check.agrees
        seeing[check.index] += check.agrees | check.contradicts
    return agreeing, seeing


def consistency_maps(
    views: Sequence[View],
    depth_maps: Sequence[DepthMap],
    options: FusionOptions | None = None,
) -> tuple[ConsistencyMap, ...]:
    """Count, for every depth, the views that agree with it and those that could.

    Args:
        views: Views of one frame; those without a depth map have no say.
        depth_maps: At most one per view.
        options: Defaults if absent.

    Returns:
        One map per depth map, in the same order.

    Raises:
        DataError: A map without view, of another size, or two of one camera.

    Example:
        >>> from aquamvs.fusion import consistency_maps
        >>> counts = consistency_maps(tuple(views), made.depth_maps)
        >>> len(counts), int(counts[0].agreeing.max())
        (5, 5)
    """
    options = options or FusionOptions()
    paired = pair_views(views, depth_maps)

    def count(posed: PosedMap) -> ConsistencyMap:
        shape, device = posed.map.depth.shape, posed.map.depth.device
        counts = torch.zeros(2, shape.numel(), dtype=torch.int16, device=device)
        for found in chunks(posed, posed.known.reshape(-1)):
            checks = (
                check_against(found, other, options) for other in paired if other is not posed
            )
            counts[:, found.pixels] = torch.stack(count_views(checks, found))
        return ConsistencyMap(posed.view.name, *counts.reshape(2, *shape))

    workers = operation_workers(depth_maps[0].depth.device, VIEWS_AT_ONCE) if paired else 1
    return tuple(in_parallel(count, paired, workers))


def filter_depth_maps(
    views: Sequence[View],
    depth_maps: Sequence[DepthMap],
    options: FusionOptions | None = None,
    *,
    consistency: Sequence[ConsistencyMap] | None = None,
) -> tuple[DepthMap, ...]:
    """Depth maps without the pixels that other views do not confirm.

    Args:
        views: Views of one frame.
        depth_maps: At most one per view.
        options: Defaults if absent.
        consistency: What :func:`consistency_maps` gave for the same arguments; counted if absent.

    Returns:
        One map per depth map, in the same order; inconsistent pixels are NaN with confidence 0.

    Raises:
        DataError: A map without view, of another size, or two of one camera.

    Example:
        >>> from aquamvs.fusion import filter_depth_maps
        >>> kept = filter_depth_maps(tuple(views), made.depth_maps)
        >>> bool(kept[0].valid.sum() <= made.depth_maps[0].valid.sum())
        True
    """
    options = options or FusionOptions()
    counted = consistency or consistency_maps(views, depth_maps, options)
    given = pair_views(views, depth_maps)
    confirmed = tuple(
        PosedMap(posed.view, _kept(posed.map, options.accept(count.agreeing, count.seeing)))
        for posed, count in zip(given, counted, strict=True)
    )
    rims = [
        _rim(posed, options.undisputed(count.agreeing, count.seeing)) & sure.map.valid
        for posed, count, sure in zip(given, counted, confirmed, strict=True)
    ]
    inner = [
        PosedMap(posed.view, _kept(posed.map, ~rim))
        for posed, rim in zip(confirmed, rims, strict=True)
    ]
    for index, (posed, rim) in enumerate(zip(confirmed, rims, strict=True)):
        others = inner[:index] + inner[index + 1 :]
        for pixels in torch.split(rim.reshape(-1).nonzero()[:, 0], _CHUNK_POINTS):
            found = posed.points(pixels)
            agreeing, seeing = count_views(
                (check_against(found, other, options) for other in others), found
            )
            sure = (agreeing > options.rim_views) & (2 * agreeing > seeing + 1)
            rim.view(-1)[pixels[sure]] = False
    return tuple(_kept(posed.map, ~rim) for posed, rim in zip(confirmed, rims, strict=True))


def _kept(depth_map: DepthMap, keep: Tensor) -> DepthMap:
    """A depth map without the other pixels."""
    return DepthMap(
        camera=depth_map.camera,
        depth=torch.where(keep, depth_map.depth, torch.nan),
        confidence=torch.where(keep, depth_map.confidence, 0.0),
        sigma=torch.where(keep, depth_map.sigma, torch.nan),
        K=depth_map.K,
    )


def _rim(posed: PosedMap, undisputed: Tensor) -> Tensor:
    """Pixels within two pixels of a gap or of a jump to what lies behind, shape (H, W), bool.

    A depth that other views contradict is a gap, but one that nobody can speak about is not: where
    two views look, a hole in one map would tear another into the other's, and the end of their
    common field would pass for an edge.
    """
    depth = posed.map.depth
    origin = posed.view.model.camera_center.to(depth)
    points = posed.points(torch.arange(depth.numel(), device=depth.device)).points
    distance = (points - origin).norm(dim=-1).reshape(depth.shape)
    known = torch.isfinite(depth) & undisputed
    farthest = extreme(torch.where(known, depth, torch.inf), _RIM_RADIUS)
    span = _RIM_RADIUS * jump_slope(posed.view.model) * distance
    rim: Tensor = known & (farthest - depth > span)
    return rim
