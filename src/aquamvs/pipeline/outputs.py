"""The output tree of one frame; every file appears whole or not at all, the report last."""

from __future__ import annotations

import json
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError
from ..files import load_json
from ..fusion import ConsistencyMap
from ..io import (
    atomic_path,
    remove_leftovers,
    save_depth_map,
    save_height_map,
    save_mesh,
    save_point_cloud,
    write_image,
)
from ..pathways import PipelineMode
from ..types import HeightMap, UndistortedViews
from .reconstruct import Reconstruction
from .timing import Timing

REPORT_NAME = "report.json"
_MAX_REPORT_BYTES = 1 << 24
_REPORTED_PACKAGES = ("kornia", "numpy", "opencv-python-headless")


def finished_height_maps(output_dir: Path, *, least: int = 1) -> list[Path]:
    """Height maps of a run's frames, in order.

    Args:
        output_dir: Of the run.
        least: Number of maps that are needed.

    Raises:
        DataError: There are fewer, or the folder or one of a frame may not be read.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.pipeline import finished_height_maps
        >>> finished_height_maps(Path("new"), least=0)
        []
    """
    try:  # glob would pass over what it may not read
        names = sorted(output_dir.iterdir()) if output_dir.is_dir() else []
        frames = [FrameFolder(path) for path in names if path.name.startswith("frame_")]
        found = [frame.height_map for frame in frames if frame.height_map.is_file()]
    except PermissionError as fault:
        raise DataError(f"cannot read {fault.filename}: {fault.strerror}") from None
    if len(found) < least:
        raise DataError(
            f"{output_dir} holds {len(found)} height maps (frame_*/surface/height_map.npz); "
            f"expected {least} or more: run pipeline_mode surface"
        )
    return found


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """Where the results of one frame are.

    Attributes:
        root: ``<output_dir>/frame_000000``.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.pipeline import FrameFolder
        >>> results = FrameFolder(Path("output/frame_000000"))
        >>> results.depth_map("cam0").as_posix()
        'output/frame_000000/depth_maps/cam0.npz'
    """

    root: Path

    def depth_map(self, camera: str) -> Path:
        """Depth map of a camera."""
        return self.root / "depth_maps" / f"{camera}.npz"

    def undistorted(self, camera: str) -> Path:
        """Undistorted image of a camera."""
        return self.root / "undistorted" / f"{camera}.png"

    def consistency_map(self, camera: str) -> Path:
        """How many views agree with each depth of a camera."""
        return self.root / "consistency_maps" / f"{camera}.npz"

    def point_cloud(self, mode: PipelineMode) -> Path:
        """The cloud: ``sparse.ply`` in sparse mode, else ``fused.ply``."""
        name = "sparse.ply" if mode is PipelineMode.SPARSE else "fused.ply"
        return self.root / "point_cloud" / name

    @property
    def mesh(self) -> Path:
        """The mesh."""
        return self.root / "mesh" / "surface.ply"

    @property
    def height_map(self) -> Path:
        """The height map of the surface sweep."""
        return self.root / "surface" / "height_map.npz"

    @property
    def orthophoto(self) -> Path:
        """The orthophoto of the surface sweep; its georeference stands in a JSON file beside it."""
        return self.root / "surface" / "orthophoto.png"

    @property
    def report(self) -> Path:
        """The report, which marks the frame as finished."""
        return self.root / REPORT_NAME


def frame_folder(output_dir: Path, frame: int) -> FrameFolder:
    """The folder of a frame under a run's output folder.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.pipeline import frame_folder
        >>> frame_folder(Path("output"), 3).root.as_posix()
        'output/frame_000003'
    """
    return FrameFolder(output_dir / f"frame_{frame:06d}")


def is_finished(folder: FrameFolder, fingerprint: str) -> bool:
    """Whether a frame was finished by a run with the same fingerprint."""
    try:
        report = load_json(folder.report, "report", max_bytes=_MAX_REPORT_BYTES)
    except DataError:  # missing, or of no program that finishes frames
        return False
    return report.get("fingerprint") == fingerprint


def write_frame(
    folder: FrameFolder,
    views: UndistortedViews,
    result: Reconstruction,
    mode: PipelineMode,
) -> None:
    """Write everything but the report.

    Raises:
        DataError: The folder cannot be written, or leads elsewhere by a link.
    """
    _refuse_links(folder)
    try:
        folder.report.unlink(missing_ok=True)  # from here on the frame is unfinished
    except OSError as error:
        raise DataError(f"{folder.report} cannot be replaced ({error.strerror})") from None
    remove_leftovers(folder.root)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # compression takes most of the time
        tasks = [
            pool.submit(write_image, folder.undistorted(view.name), view.image) for view in views
        ]
        tasks += [
            pool.submit(save_depth_map, folder.depth_map(each.camera), each)
            for each in result.depth_maps
        ]
        tasks += [pool.submit(_save_consistency, folder, each) for each in result.consistency]
        if result.height_map is not None:
            tasks.append(pool.submit(_save_height_map, folder, result.height_map))
        tasks.append(pool.submit(save_point_cloud, folder.point_cloud(mode), result.cloud))
        tasks.append(pool.submit(save_mesh, folder.mesh, result.mesh))
        for task in tasks:
            task.result()


def _refuse_links(folder: FrameFolder) -> None:
    """A dataset from elsewhere may bring an output folder whose links lead out of it."""
    for path in (folder.root, *(folder.root.iterdir() if folder.root.is_dir() else ())):
        if path.is_symlink() and path.is_dir():
            raise DataError(
                f"{path} is a link to {os.readlink(path)}; results are written into real folders "
                "only, so remove it"
            )


def _save_consistency(folder: FrameFolder, counts: ConsistencyMap) -> None:
    with atomic_path(folder.consistency_map(counts.camera)) as path:
        np.savez_compressed(
            path, agreeing=counts.agreeing.cpu().numpy(), seeing=counts.seeing.cpu().numpy()
        )


def _save_height_map(folder: FrameFolder, height_map: HeightMap) -> None:
    save_height_map(folder.height_map, height_map)
    write_image(folder.orthophoto, height_map.color)
    georeference = {
        "x0_m": height_map.x0,
        "y0_m": height_map.y0,
        "spacing_m": height_map.spacing,
        "meaning": "x0, y0: world position of the centre of the top-left pixel; columns run "
        "along X, rows along Y",
    }
    _write_json(folder.orthophoto.with_suffix(".json"), georeference)


def write_report(
    folder: FrameFolder,
    *,
    frame: int,
    fingerprint: str,
    pathway: str,
    weights: str | None,
    timing: Timing,
    result: Reconstruction,
) -> None:
    """Write the report of a finished frame.

    Raises:
        DataError: The folder cannot be written.
    """
    _write_json(
        folder.report,
        {
            "frame": frame,
            "pathway": pathway,
            "weights": weights,
            "fingerprint": fingerprint,
            "versions": versions(),
            "timing": timing_as_dict(timing),
            "counts": {
                "points": len(result.cloud),
                "faces": len(result.mesh.faces),
                "depths": {
                    depth_map.camera: int(depth_map.valid.sum()) for depth_map in result.depth_maps
                },
                "sparse_points": None if result.sparse is None else len(result.sparse),
            },
        },
    )


def versions() -> dict[str, str]:
    """Versions of what computes the result.

    Example:
        >>> from aquamvs.pipeline import versions
        >>> "torch" in versions()
        True
    """
    from .. import __version__

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "aquamvs": __version__,
        **{name: version(name) for name in _REPORTED_PACKAGES},
    }


def timing_as_dict(timing: Timing) -> dict[str, Any]:
    """A timing for JSON."""
    return {
        "total_time_ms": timing.total_time_ms,
        "stages": {
            str(name): {
                "wall_time_ms": stage.wall_time_ms,
                "cpu_time_ms": stage.cpu_time_ms,
                "peak_memory_mb": stage.peak_memory_mb,
            }
            for name, stage in timing.stages.items()
        },
    }


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
