"""One frame from undistorted views to cloud and mesh: the stages in order, nothing of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..config import PipelineConfig
from ..dense import create_engine
from ..errors import StageError
from ..fusion import (
    ConsistencyMap,
    FusionOptions,
    cloud_from_height_map,
    consistency_maps,
    filter_depth_maps,
    fuse,
)
from ..matching import (
    BUNDLED,
    MATCHERS,
    DenseMatcher,
    DetectionOptions,
    ExtractorType,
    LightGlueOptions,
    MatcherOptions,
    Pair,
    RomaOptions,
    SiftOptions,
    SparseMatcher,
    create_matcher,
    match_dense,
    match_sparse,
    select_pairs,
    unordered_pairs,
    warp_to_matches,
)
from ..meshing import decimate, mesh_from_cloud, mesh_from_height_map
from ..meshing.cloud import require_method
from ..meshing.decimation import require_decimation
from ..numerics.acceleration import in_parallel, operation_workers
from ..pathways import MatcherType, PipelineMode, Stage
from ..surface import SurfaceSweepOptions, depth_maps_from_surface, sweep_surface
from ..triangulation import (
    GrowthOptions,
    RefinementOptions,
    SparseCloud,
    TriangulationOptions,
    depth_range_per_view,
    triangulate,
)
from ..types import DepthMap, HeightMap, Matches, Mesh, PointCloud, UndistortedViews, View
from .memory import VIEWS_AT_ONCE, MemoryPrediction
from .timing import StageRecorder

Progress = Callable[[Stage, int, int], None]
"""Called with the stage, the steps done and the steps in all."""

_T = TypeVar("_T")


def no_progress(stage: Stage, done: int, total: int) -> None:
    """Progress that nobody sees.

    Example:
        >>> from aquamvs.pipeline import no_progress, reconstruct
        >>> made = reconstruct(views, config, progress=no_progress)  # as without the argument
    """
    del stage, done, total


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What the stages made of one frame.

    Attributes:
        cloud: The surface as points.
        mesh: The surface as triangles.
        depth_maps: After filtering; empty in sparse mode.
        height_map: Of the surface sweep; else None.
        sparse: Triangulated matches; None where no matcher ran.
        consistency: Views that agree on each depth; empty unless asked for.

    Example:
        >>> from aquamvs.pipeline import reconstruct
        >>> made = reconstruct(views, config)
        >>> len(made.depth_maps), made.height_map.spacing, made.sparse is None
        (5, 0.02, True)
    """

    cloud: PointCloud
    mesh: Mesh
    depth_maps: tuple[DepthMap, ...] = ()
    height_map: HeightMap | None = None
    sparse: SparseCloud | None = None
    consistency: tuple[ConsistencyMap, ...] = ()


def reconstruct(
    views: UndistortedViews,
    config: PipelineConfig,
    *,
    recorder: StageRecorder | None = None,
    progress: Progress = no_progress,
    memory: MemoryPrediction | None = None,
) -> Reconstruction:
    """Run the stages that the configuration's pathway names.

    Args:
        views: One frame.
        config: Which pathway, and the stages' options.
        recorder: Measures the stages.
        progress: Told of every step.
        memory: Tiles that keep below a limit; the largest and as many as there are threads when
            absent.

    Returns:
        Cloud, mesh and what lies between.

    Raises:
        StageError: A stage found nothing to go on (no matches, no depth).
        WeightsError: A matcher's weights are missing.
        ConfigError: A package that an option needs is not installed.

    Example:
        >>> from aquamvs.pipeline import reconstruct
        >>> made = reconstruct(views, config)
        >>> len(made.cloud) > 1000, made.mesh.faces.shape[1]
        (True, 3)
    """
    recorder = recorder or StageRecorder(config.runtime.device)
    if config.pipeline_mode is PipelineMode.SURFACE:
        return _sweep(views, config, recorder, progress, memory or MemoryPrediction())
    pairs = select_pairs(
        views,
        num_neighbors=config.sparse_matching.num_neighbors,
        include_center=config.sparse_matching.include_center,
    )
    matches = _match(views, pairs, config, recorder, progress)
    with recorder.stage(Stage.TRIANGULATION):
        progress(Stage.TRIANGULATION, 0, 1)
        sparse = triangulate(views, matches, triangulation_options(config))
        if len(sparse) == 0:
            raise StageError(
                f"no point was triangulated from {sum(map(len, matches))} matches; check that the "
                "images are of one instant and that the calibration belongs to them"
            )
        progress(Stage.TRIANGULATION, 1, 1)
    if config.pipeline_mode is PipelineMode.SPARSE:
        cloud = sparse.to_point_cloud()
        return Reconstruction(cloud, _mesh(cloud, config, recorder, progress), sparse=sparse)
    return _densify(views, pairs, sparse, config, recorder, progress, memory or MemoryPrediction())


def check_settings(config: PipelineConfig) -> None:
    """Refuse, before any work, settings with which every frame would fail at a late stage.

    Raises:
        ConfigError: Matcher, extractor and weights do not fit, or a package is not installed.
        WeightsError: A matcher's weights are missing and cannot be downloaded, or do not fit.
    """
    if config.pipeline_mode is not PipelineMode.SURFACE:
        options = matcher_options(config)
        if not isinstance(options, SiftOptions) and options.weights != BUNDLED:
            create_matcher(config.matcher_type, options, config.runtime.device)
        require_method(config.reconstruction.surface_method)
    if config.reconstruction.target_faces is not None:
        require_decimation()


def matcher_options(config: PipelineConfig) -> MatcherOptions:
    """The options of the configured matcher."""
    sparse = config.sparse_matching
    clip_limit = sparse.clahe_clip_limit if sparse.clahe_enabled else None
    if config.matcher_type is MatcherType.SIFT:
        return SiftOptions(max_keypoints=sparse.max_keypoints, clahe_clip_limit=clip_limit)
    if config.matcher_type is MatcherType.LIGHTGLUE:
        return LightGlueOptions(
            extractor=(
                None if sparse.extractor_type is None else ExtractorType(sparse.extractor_type)
            ),
            detection=DetectionOptions(
                max_keypoints=sparse.max_keypoints,
                detection_threshold=sparse.detection_threshold,
                clahe_clip_limit=clip_limit,
            ),
            filter_threshold=sparse.filter_threshold,
            weights=sparse.weights,
        )
    return RomaOptions(weights=config.dense_matching.weights)


def triangulation_options(config: PipelineConfig) -> TriangulationOptions:
    """Keypoints are refined to a fraction of a pixel; warps are too many for that.

    Where the sparse points are the result, and not only the depth range of another engine, further
    ones are grown between them.
    """
    if MATCHERS[config.matcher_type].kind == "dense":
        return TriangulationOptions()
    is_result = config.pipeline_mode is PipelineMode.SPARSE
    return TriangulationOptions(
        refinement=RefinementOptions(), growth=GrowthOptions() if is_result else None
    )


def weights_label(config: PipelineConfig) -> str | None:
    """Network and weights of the configured pathway, as reports name them; None without a network.

    Raises:
        ConfigError: Matcher, extractor and weights do not fit.

    Example:
        >>> from aquamvs.pipeline import weights_label
        >>> weights_label(config) is None  # the surface sweep has no network
        True
        >>> from aquamvs.pathways import MatcherType
        >>> sparse = {"pipeline_mode": PipelineMode.SPARSE, "matcher_type": MatcherType.LIGHTGLUE}
        >>> weights_label(config.model_copy(update=sparse))
        'LightGlue (bundled)'
    """
    if config.pipeline_mode is PipelineMode.SURFACE:
        return None
    options = matcher_options(config)
    return None if isinstance(options, SiftOptions) else options.label


def _counted(items: Iterable[_T], stage: Stage, total: int, progress: Progress) -> Iterator[_T]:
    progress(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, total)


def _match(
    views: UndistortedViews,
    pairs: tuple[Pair, ...],
    config: PipelineConfig,
    recorder: StageRecorder,
    progress: Progress,
) -> list[Matches]:
    sparse = MATCHERS[config.matcher_type].kind == "sparse"
    stage = Stage.SPARSE_MATCHING if sparse else Stage.DENSE_MATCHING
    with recorder.stage(stage):
        matcher = create_matcher(
            config.matcher_type, matcher_options(config), config.runtime.device
        )
        if isinstance(matcher, SparseMatcher):
            found: Iterable[Matches] = match_sparse(matcher, views, pairs)
            total = len(unordered_pairs(pairs))
        else:
            found = _dense_matches(matcher, views, pairs, config)
            total = len(pairs)
        return list(_counted(found, stage, total, progress))


def _dense_matches(
    matcher: DenseMatcher,
    views: UndistortedViews,
    pairs: tuple[Pair, ...],
    config: PipelineConfig,
) -> Iterator[Matches]:
    for warp in match_dense(matcher, views, pairs):
        yield warp_to_matches(
            warp,
            certainty_threshold=config.dense_matching.certainty_threshold,
            max_correspondences=config.dense_matching.max_correspondences,
        )


def _densify(
    views: UndistortedViews,
    pairs: tuple[Pair, ...],
    sparse: SparseCloud,
    config: PipelineConfig,
    recorder: StageRecorder,
    progress: Progress,
    memory: MemoryPrediction,
) -> Reconstruction:
    raw = _depth_maps(views, pairs, sparse, config, recorder, progress, memory)
    fusion = FusionOptions(min_consistent_views=config.reconstruction.min_consistent_views)
    with recorder.stage(Stage.FUSION):
        progress(Stage.FUSION, 0, 2)
        consistency = consistency_maps(views.views, raw, fusion)
        depth_maps = filter_depth_maps(views.views, raw, fusion, consistency=consistency)
        del raw  # as large as the images
        progress(Stage.FUSION, 1, 2)
        cloud = fuse(views.views, depth_maps, fusion, consistency=consistency)
        progress(Stage.FUSION, 2, 2)
        if len(cloud) == 0:
            raise StageError(
                "no point was confirmed by a second view; check images, calibration and "
                "reconstruction.min_confidence"
            )
    if not config.runtime.save_consistency_maps:
        consistency = ()
    mesh = _mesh(cloud, config, recorder, progress)
    return Reconstruction(
        cloud, mesh, depth_maps=depth_maps, sparse=sparse, consistency=consistency
    )


def _depth_maps(
    views: UndistortedViews,
    pairs: tuple[Pair, ...],
    sparse: SparseCloud,
    config: PipelineConfig,
    recorder: StageRecorder,
    progress: Progress,
    memory: MemoryPrediction,
) -> list[DepthMap]:
    """Of every reference view, before the views have been asked whether they agree."""
    section = config.reconstruction
    options = {
        "num_depths": section.num_depths,
        "window_radius": section.window_size // 2,
        "min_confidence": section.min_confidence,
    }
    stage = Stage.DEPTH_ESTIMATION
    with recorder.stage(stage):
        engine = create_engine("patchmatch", options)
        ranges = depth_range_per_view(sparse, views, margin=section.depth_margin)

        def estimate(view: View) -> DepthMap:
            sources = [views[pair.source] for pair in pairs if pair.reference == view.name]
            return engine.estimate(view, sources, ranges[view.name], sparse.points)

        workers = memory.workers
        if workers is None:
            workers = operation_workers(views.views[0].image.device, VIEWS_AT_ONCE)
        found = in_parallel(estimate, views.references, workers)
        return list(_counted(found, stage, len(views.references), progress))


def _sweep(
    views: UndistortedViews,
    config: PipelineConfig,
    recorder: StageRecorder,
    progress: Progress,
    memory: MemoryPrediction,
) -> Reconstruction:
    section = config.reconstruction
    options = SurfaceSweepOptions(
        spacing=section.grid_resolution,
        region_of_interest=section.region_of_interest,
        height_range=section.height_range,
        tile_side=memory.tile_side,
        workers=memory.workers,
    )
    stage = Stage.SURFACE_SWEEP
    with recorder.stage(stage):
        height_map = sweep_surface(
            views, options, progress=lambda done, total: progress(stage, done, total)
        )
    with recorder.stage(Stage.FUSION):
        progress(Stage.FUSION, 0, 2)
        depth_maps = depth_maps_from_surface(height_map, views, workers=memory.workers)
        progress(Stage.FUSION, 1, 2)
        cloud = cloud_from_height_map(height_map)
        progress(Stage.FUSION, 2, 2)
    with recorder.stage(Stage.SURFACE):
        progress(Stage.SURFACE, 0, 1)
        mesh = _simplified(mesh_from_height_map(height_map), config)
        progress(Stage.SURFACE, 1, 1)
    return Reconstruction(cloud, mesh, depth_maps=depth_maps, height_map=height_map)


def _mesh(
    cloud: PointCloud, config: PipelineConfig, recorder: StageRecorder, progress: Progress
) -> Mesh:
    section = config.reconstruction
    with recorder.stage(Stage.SURFACE):
        progress(Stage.SURFACE, 0, 1)
        mesh = mesh_from_cloud(
            cloud, spacing=section.grid_resolution, method=section.surface_method
        )
        mesh = _simplified(mesh, config)
        progress(Stage.SURFACE, 1, 1)
    return mesh


def _simplified(mesh: Mesh, config: PipelineConfig) -> Mesh:
    target = config.reconstruction.target_faces
    return mesh if target is None else decimate(mesh, target)
