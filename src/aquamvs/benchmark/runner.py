"""Runs every pathway on one frame and judges what comes out."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from ..config import PipelineConfig
from ..datasets import has_ground_truth, load_ground_truth
from ..errors import AquaMVSError, ConfigError
from ..pathways import PATHWAYS, Pathway, Stage
from ..pipeline import FrameResult, Pipeline, Progress, no_progress, versions, weights_label
from ..types import DepthMap, HeightMap
from .assessment import Truth, coverage, density
from .report import save_html_report, save_json_report, save_markdown_report
from .results import BenchmarkResult, PathwayResult, Status
from .warmup import compile_kernels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathwayProgress = Callable[[Pathway], Progress]
"""Gives the progress of a pathway that starts now."""


def select_pathways(names: Sequence[str] | None) -> tuple[Pathway, ...]:
    """Rows of the pathway table by name.

    Args:
        names: As printed, in any case; None: all.

    Raises:
        ConfigError: No such pathway.

    Example:
        >>> from aquamvs.benchmark import select_pathways
        >>> [pathway.slug for pathway in select_pathways(["surface sweep", "SIFT + full"])]
        ['sift_full', 'surface_sweep']
    """
    if names is None:
        return PATHWAYS
    by_name = {pathway.name.casefold(): pathway for pathway in PATHWAYS}
    for name in names:
        if name.strip().casefold() not in by_name:
            raise ConfigError(
                f"no pathway is called {name.strip()!r}; known are "
                f"{', '.join(pathway.name for pathway in PATHWAYS)}"
            )
    wanted = {name.strip().casefold() for name in names}
    return tuple(pathway for key, pathway in by_name.items() if key in wanted)


def run_benchmark(
    config_path: str | Path,
    frame: int = 0,
    *,
    pathways: Sequence[str] | None = None,
    output_dir: str | Path | None = None,
    device: str | None = None,
    progress: PathwayProgress | None = None,
) -> BenchmarkResult:
    """Reconstruct one frame by every pathway, measure, judge and report.

    Results go to ``<output_dir>/benchmark/<pathway>/``, reports (Markdown, JSON, HTML) beside them.
    Where the configuration's folder holds ``ground_truth/`` of the frame, errors are reported
    against it and against the rig's limit. Kernels are compiled before a pathway's time is taken.

    Args:
        config_path: Configuration file.
        frame: Frame number.
        pathways: Names of pathways to run; all of :data:`aquamvs.pathways.PATHWAYS` when absent.
        output_dir: Instead of the configured one.
        device: Instead of the configured one.
        progress: Told of every step.

    Returns:
        One row per pathway. A pathway that fails is a failed row with its reason.

    Raises:
        AquaMVSError: The configuration or an input is wrong; nothing has been written then.

    Example:
        >>> from aquamvs.benchmark import run_benchmark
        >>> result = run_benchmark(folder / "config.yaml", pathways=["Surface sweep"])
        >>> [(row.pathway_name, row.status.value) for row in result.results]
        [('Surface sweep', 'ok')]
        >>> [stage.value for stage in result.results[0].timing.stages]
        ['undistortion', 'surface_sweep', 'fusion', 'surface']
    """
    config_path = Path(config_path)
    chosen = select_pathways(pathways)
    config = PipelineConfig.from_yaml(config_path)
    if device is not None:
        config = config.with_device(device)
    if output_dir is not None:
        config = config.model_copy(update={"output_dir": Path(output_dir).absolute()})
    root = config.output_dir / "benchmark"
    truth = _load_truth(Pipeline(config), config_path.parent, frame)
    exhibits = _Exhibits(truth)
    rows = []
    for pathway in chosen:
        told = no_progress if progress is None else progress(pathway)
        row, result = _run_pathway(config, pathway, frame, root, truth, told)
        rows.append(row)
        exhibits.add(pathway, row, result)
    outcome = BenchmarkResult(
        results=rows,
        frame=frame,
        config_path=config_path,
        output_dir=root,
        machine=describe_machine(config.runtime.device),
        versions=versions(),
    )
    save_markdown_report(outcome, root)
    save_json_report(outcome, root)
    save_html_report(outcome, root, exhibits.figures())
    return outcome


def _load_truth(pipeline: Pipeline, dataset: Path, frame: int) -> Truth | None:
    views = pipeline.inputs.read_views(frame)  # a frame that cannot be read fails every pathway
    if not has_ground_truth(dataset, frame):
        return None
    return Truth.prepare(load_ground_truth(dataset, frame), views)


def _run_pathway(
    config: PipelineConfig,
    pathway: Pathway,
    frame: int,
    root: Path,
    truth: Truth | None,
    progress: Progress,
) -> tuple[PathwayResult, FrameResult | None]:
    folder = root / pathway.slug
    update: dict[str, object] = {"pipeline_mode": pathway.pipeline_mode}
    if pathway.matcher_type is not None:
        update["matcher_type"] = pathway.matcher_type
    own = config.model_copy(update=update)
    label = None
    compile_kernels(pathway.pipeline_mode, config.runtime.device)
    try:
        label = weights_label(own)
        result = Pipeline(own).run_frame(frame, output_dir=folder, progress=progress)
    except AquaMVSError as error:
        row = PathwayResult(
            pathway_name=pathway.name, status=Status.FAILED, error=str(error), weights=label
        )
        return row, None
    row = PathwayResult(
        pathway_name=pathway.name,
        status=Status.OK,
        timing=result.timing,
        point_count=len(result.reconstruction.cloud),
        cloud_density=density(result.reconstruction.cloud),
        coverage=coverage(result.reconstruction, result.views),
        accuracy=None if truth is None else truth.accuracy(result.reconstruction),
        output_dir=folder,
        peak_memory_mb=result.timing.peak_memory_mb,
        weights=label,
    )
    return row, result


class _Exhibits:
    """What the report's pictures need, kept while the rest of a result is let go."""

    def __init__(self, truth: Truth | None) -> None:
        self._truth = truth
        self._camera: str | None = None
        self._depth_maps: dict[str, DepthMap | None] = {}
        self._height_map: HeightMap | None = None

    def add(self, pathway: Pathway, row: PathwayResult, result: FrameResult | None) -> None:
        """Keep one camera's depth map and the height map."""
        if result is not None:
            maps = {m.camera: m for m in result.reconstruction.depth_maps}
            if maps:
                self._camera = self._camera or list(maps)[len(maps) // 2]
                self._depth_maps[row.title] = maps[self._camera]
            self._height_map = result.reconstruction.height_map or self._height_map
        if result is None and Stage.DEPTH_ESTIMATION in pathway.stages:
            self._depth_maps[row.title] = None

    def figures(self) -> dict[str, Figure]:
        """Figures by caption."""
        from ..visualization import plot_depth_comparison, plot_height_map

        drawn: dict[str, Figure] = {}
        if self._camera is not None:
            truth = None if self._truth is None else self._truth.ground_truth.depth(self._camera)
            limit = None if self._truth is None else self._truth.depth_limits[self._camera]
            drawn[f"Ray depth of camera {self._camera}"] = plot_depth_comparison(
                self._depth_maps, truth, limit=limit
            )
        if self._height_map is not None:
            error = None if self._truth is None else self._truth.height_error(self._height_map)
            drawn["Height map of the surface sweep"] = plot_height_map(
                self._height_map, error=error
            )
        return drawn


def describe_machine(device: str) -> dict[str, str]:
    """Processor, memory and accelerator, as reports name them.

    Example:
        >>> from aquamvs.benchmark import describe_machine
        >>> sorted(describe_machine("cpu"))
        ['cores', 'device', 'memory', 'processor', 'system']
    """
    machine = {
        "processor": _processor_name(),
        "cores": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
    }
    if device.startswith("cuda"):
        machine["device"] = f"{device} ({torch.cuda.get_device_name(device)})"
    return machine


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
