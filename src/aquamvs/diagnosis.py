"""Whether this machine and installation can reconstruct: what ``aquamvs doctor`` shows."""

from __future__ import annotations

import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

from .errors import AquaMVSError
from .io import VideoFile, read_image

_GIGABYTE = 1 << 30
_LEAST_MEMORY_GB = 4
"""A full-size frame of 13 cameras takes about 3 GiB."""
_PACKAGES = (
    *("aquamvs", "torch", "numpy", "opencv-python-headless", "pillow", "av", "kornia", "numba"),
)
_EXTRAS = {
    "numba-cuda": "cuda: compiled kernels on NVIDIA GPUs",
    "fast-simplification": "mesh: simplified meshes",
    "open3d": "mesh: Poisson meshes",
    "romav2": "roma: the RoMa v2 matcher",
    "distributed": "dask: many frames in parallel",
    "rasterio": "export: GeoTIFF",
    "zarr": "export: time series",
}
_SELF_TEST_LIMIT_GSD = 1.0
"""Median height error of the self-test, in pixels on the ground; it is about a tenth of that."""


class Finding(StrEnum):
    """How a check came out.

    Example:
        >>> from aquamvs.diagnosis import Finding
        >>> [finding.value for finding in Finding]
        ['ok', 'note', 'FAILED']
    """

    OK = "ok"
    NOTE = "note"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: What was checked.
        finding: How it came out; a note is nothing that must be there.
        found: What was found.

    Example:
        >>> from aquamvs.diagnosis import Finding, diagnose
        >>> check = next(diagnose(self_test=False))
        >>> bool(check.name), check.finding in Finding
        (True, True)
    """

    name: str
    finding: Finding
    found: str


def diagnose(*, self_test: bool = True) -> Iterator[Check]:
    """Check this machine and installation.

    Args:
        self_test: Also reconstruct a tiny rendered scene.

    Yields:
        The checks, each when it is done.

    Example:
        >>> from aquamvs.diagnosis import Finding, diagnose
        >>> [check.name for check in diagnose(self_test=False) if check.finding is Finding.FAILED]
        []
    """
    yield from _versions()
    yield from _machine()
    yield from _weights()
    yield from _codecs()
    if self_test:
        yield _self_test()


def _versions() -> Iterator[Check]:
    yield Check("python", Finding.OK, f"{platform.python_version()} on {platform.platform()}")
    for name in _PACKAGES:
        try:
            yield Check(name, Finding.OK, version(name))
        except PackageNotFoundError:
            yield Check(name, Finding.FAILED, "not installed")
    for name, purpose in _EXTRAS.items():
        try:
            yield Check(name, Finding.OK, f"{version(name)} (extra {purpose})")
        except PackageNotFoundError:
            yield Check(name, Finding.NOTE, f"not installed (extra {purpose})")


def _machine() -> Iterator[Check]:
    found = f"{os.cpu_count()} cores; PyTorch uses {torch.get_num_threads()}"
    yield Check("processor", Finding.OK, found)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory = device.total_memory / _GIGABYTE
            yield Check(f"cuda:{index}", Finding.OK, f"{device.name}, {memory:.1f} GiB")
    else:
        yield Check("cuda", Finding.NOTE, "no usable device; everything runs on the processor")
    kernels = importlib.util.find_spec("numba") is not None
    yield Check(
        "compiled kernels",
        Finding.OK if kernels else Finding.NOTE,
        "numba compiles them" if kernels else "numba is missing: the surface sweep runs slowly",
    )
    installed = psutil.virtual_memory()
    total, free = installed.total / _GIGABYTE, installed.available / _GIGABYTE
    enough = Finding.OK if total >= _LEAST_MEMORY_GB else Finding.NOTE
    yield Check("memory", enough, f"{total:.1f} GiB, {free:.1f} GiB of them free")
    disk = psutil.disk_usage(os.curdir).free / _GIGABYTE
    yield Check("disk", Finding.OK, f"{disk:.1f} GiB free in the working folder")


def _weights() -> Iterator[Check]:
    from .matching.weights import list_weights

    statuses = list_weights()
    present = [status.file.name for status in statuses if status.present]
    yield Check(
        "network weights",
        Finding.OK if present else Finding.NOTE,
        f"{', '.join(present) or 'none'} of the {len(statuses)} official files in "
        f"{statuses[0].path.parent} (the bundled ones are part of the package)",
    )


def _codecs() -> Iterator[Check]:
    ramp = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3)
    with tempfile.TemporaryDirectory() as place:
        for kind in ("png", "jpg", "tif"):
            for depth in (8,) if kind == "jpg" else (8, 16):
                levels = ramp.astype(np.uint8) if depth == 8 else (ramp * 257).astype(np.uint16)
                path = Path(place) / f"image_{depth}.{kind}"
                cv2.imwrite(str(path), levels)
                yield _decodes(f"codec {kind}, {depth} bit", path)
        path = Path(place) / "video.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
        for level in (0, 100, 200):
            writer.write(np.full((48, 64, 3), level, np.uint8))
        writer.release()
        yield _decodes("codec mp4 video", path)


def _decodes(name: str, path: Path) -> Check:
    """Whether a file that was just written can be read."""
    try:
        if path.suffix == ".mp4":
            VideoFile(path).read(2)
        else:
            read_image(path)
    except AquaMVSError as error:
        return Check(name, Finding.FAILED, str(error))
    return Check(name, Finding.OK, "decodes")


def _self_test() -> Check:
    """Render five views of a small bed, reconstruct them, and compare with what was rendered."""
    from .config import PipelineConfig
    from .datasets import SceneOptions, load_ground_truth, write_dataset
    from .evaluation import HeightGrid, height_errors
    from .pathways import PipelineMode
    from .pipeline import Pipeline

    with tempfile.TemporaryDirectory() as place:
        folder = write_dataset(
            Path(place) / "data",
            rig="small5",
            scene_kind="bower",
            seed=0,
            image_size=(200, 150),
            options=SceneOptions(depth=0.3),
        )
        config = PipelineConfig.from_yaml(folder / "config.yaml")
        config = config.model_copy(update={"pipeline_mode": PipelineMode.SURFACE})
        try:
            height_map = Pipeline(config).run_frame(0).reconstruction.height_map
        except AquaMVSError as error:
            return Check("self-test", Finding.FAILED, str(error))
        truth = load_ground_truth(folder).surface
    assert height_map is not None  # noqa: S101  (the surface sweep always makes one)
    grid = HeightGrid(truth.x0, truth.y0, truth.spacing, truth.z)
    errors = height_errors(height_map, grid)
    median = errors.median_abs / height_map.spacing
    found = (
        f"median height error {1e3 * errors.median_abs:.2f} mm ({median:.2f} pixels on the ground; "
        f"at most {_SELF_TEST_LIMIT_GSD:g} expected), coverage {errors.coverage:.0%}"
    )
    passed = median <= _SELF_TEST_LIMIT_GSD
    return Check("self-test", Finding.OK if passed else Finding.FAILED, found)
