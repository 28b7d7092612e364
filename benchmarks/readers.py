"""Every reader of the library, with small valid files to damage."""

from __future__ import annotations

import math
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from aquamvs.benchmark.report import save_json_report
from aquamvs.benchmark.results import BenchmarkResult, PathwayResult, Status
from aquamvs.calibration import (
    CalibrationData,
    compute_undistortion_maps,
    load_calibration_data,
)
from aquamvs.config import PipelineConfig
from aquamvs.datasets.archive import extract_zip
from aquamvs.datasets.ground_truth import load_ground_truth, load_surface
from aquamvs.datasets.rigs import make_rig, save_calibration
from aquamvs.io import (
    VideoFile,
    load_depth_map,
    load_height_map,
    load_mesh,
    load_point_cloud,
    read_image,
    read_mask,
    save_depth_map,
    save_height_map,
    save_mesh,
    save_point_cloud,
    write_video,
)
from aquamvs.matching.checkpoints import read_tensors
from aquamvs.pathways import Stage
from aquamvs.pipeline import StageTiming, Timing
from aquamvs.pipeline.outputs import FrameFolder, is_finished
from aquamvs.training.data import TRAINING_SEEDS, TrainingScene, training_scene
from aquamvs.training.rigs import IMAGE_SIZE
from aquamvs.types import DepthMap, HeightMap, Mesh, PointCloud

_SIZE = (24, 16)


@dataclass(frozen=True)
class Reader:
    """A reader and valid files for it.

    Attributes:
        suffix: Of the files.
        seeds: Contents of valid files, made in an empty folder.
        read: Takes a path and gives what the file holds (of a report: whether it marks its frame
            as finished, which a damaged one does not).
    """

    suffix: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], Any]


def _pixels(dtype: type[np.unsignedinteger[Any]], channels: int) -> np.ndarray[Any, Any]:
    top = np.iinfo(dtype).max
    ramp = np.linspace(0, top, _SIZE[0] * _SIZE[1] * channels)
    return ramp.reshape(_SIZE[1], _SIZE[0], channels).astype(dtype)


def _ramp(*shape: int) -> torch.Tensor:
    return torch.linspace(0, 1, math.prod(shape)).reshape(shape)


def _images(suffix: str, *dtypes: type[np.unsignedinteger[Any]]) -> Callable[[Path], list[bytes]]:
    def make(_: Path) -> list[bytes]:
        return [
            cv2.imencode(suffix, _pixels(dtype, channels))[1].tobytes()
            for dtype in dtypes
            for channels in (1, 3)
        ]

    return make


def _calibration(folder: Path) -> list[bytes]:
    save_calibration(make_rig("small5"), folder / "rig.json")
    return [(folder / "rig.json").read_bytes()]


def _read_calibration(path: Path) -> CalibrationData:
    calibration = load_calibration_data(path)
    for camera in calibration.cameras.values():
        if camera.image_size[0] * camera.image_size[1] < 1 << 20:  # larger ones only take long
            compute_undistortion_maps(camera)
    return calibration


def _config(folder: Path) -> list[bytes]:
    PipelineConfig(
        calibration_path=folder / "rig.json",
        output_dir=folder / "output",
        camera_input_map={f"cam{i}": folder / f"images/cam{i}" for i in range(3)},
    ).to_yaml(folder / "config.yaml")
    return [
        (folder / "config.yaml").read_bytes(),
        b"calibration_path: c.json\noutput_dir: o\ncamera_input_map: {a: a, b: b}\n"
        b"quality_preset: fast\nreconstruction: {voxel_size: 1, window_size: 9}\n",
    ]


def _depth_map(folder: Path) -> list[bytes]:
    plane = torch.linspace(0, 1, _SIZE[0] * _SIZE[1]).reshape(_SIZE[1], _SIZE[0])
    save_depth_map(folder / "d.npz", DepthMap("d", plane, plane, plane, torch.eye(3).double()))
    return [(folder / "d.npz").read_bytes()]


def _height_map(folder: Path) -> list[bytes]:
    plane = torch.linspace(0, 1, 60).reshape(6, 10)
    color = plane[..., None].expand(6, 10, 3)
    heights = HeightMap(0.0, 1.0, 0.01, plane, plane, plane, plane.int(), color)
    save_height_map(folder / "h.npz", heights)
    return [(folder / "h.npz").read_bytes()]


def _surface(folder: Path) -> list[bytes]:
    plane = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
    one = np.float64(1)
    np.savez_compressed(
        folder / "s.npz", z=plane, discontinuity=plane > 0.5, x0=one, y0=one, spacing=one
    )
    return [(folder / "s.npz").read_bytes()]


def _cloud(folder: Path) -> list[bytes]:
    rows, row = _ramp(20, 3), _ramp(20)
    save_point_cloud(folder / "c.ply", PointCloud(rows, rows, rows, row, row, row.int()))
    return [(folder / "c.ply").read_bytes()]


def _mesh(folder: Path) -> list[bytes]:
    rows, faces = _ramp(20, 3), torch.arange(27).reshape(9, 3) % 20
    save_mesh(folder / "m.ply", Mesh(rows, faces, rows, rows))
    return [(folder / "m.ply").read_bytes()]


def _pytorch(folder: Path) -> list[bytes]:
    state = {"a.weight": _ramp(4, 3), "a.bias": _ramp(4), "step": 3}
    torch.save(state, folder / "w.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    return [(folder / name).read_bytes() for name in ("w.pt", "old.pt")]


def _safetensors(folder: Path) -> list[bytes]:
    from safetensors.torch import save_file

    save_file({"a": _ramp(4, 3), "b": torch.arange(5)}, folder / "w.safetensors")
    return [(folder / "w.safetensors").read_bytes()]


def _zip(folder: Path) -> list[bytes]:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/config.yaml", "a: 1\n" * 50)
        archive.writestr("set/images/cam0/frame.png", bytes(range(256)) * 8)
    return [(folder / "a.zip").read_bytes()]


def _read_zip(path: Path) -> list[str]:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        extract_zip(path, folder)
        return sorted(each.name for each in Path(folder).rglob("*") if each.is_file())


def _report(_: Path) -> list[bytes]:
    return [b'{"fingerprint": "0123456789abcdef", "frame": 0, "timing": {"stages": {}}}']


def _read_report(path: Path) -> bool:
    folder = FrameFolder(path.parent)
    folder.report.write_bytes(path.read_bytes())
    return is_finished(folder, "0123456789abcdef")


def _video(fourcc: str, suffix: str) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        path = folder / f"v{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 10, (64, 48))
        for level in range(0, 250, 25):
            writer.write(np.full((48, 64, 3), level, np.uint8))
        writer.release()
        return [path.read_bytes()]

    return make


def _lossless(folder: Path) -> list[bytes]:
    frames = ((index / 10, torch.full((48, 64, 3), index / 10)) for index in range(10))
    write_video(folder / "v.mkv", frames)
    return [(folder / "v.mkv").read_bytes()]


def _benchmark(folder: Path) -> list[bytes]:
    timing = Timing({Stage.FUSION: StageTiming(15.0, 1.0, 2.0)})
    row = PathwayResult(pathway_name="Surface sweep", status=Status.OK, timing=timing)
    found = BenchmarkResult(
        results=[row], frame=0, config_path=Path("config.yaml"), output_dir=folder
    )
    save_json_report(found, folder)
    return [(folder / "benchmark.json").read_bytes()]


def _read_benchmark(path: Path) -> BenchmarkResult:
    return BenchmarkResult.from_json(path.read_text("utf-8", "replace"))


def _provenance(_: Path) -> list[bytes]:
    return [b'{"scene": "bower", "seed": 0, "cameras": ["cam0", "cam1"], "frames": 1}']


def _read_provenance(path: Path) -> Any:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        truth = Path(folder) / "ground_truth"
        frame = truth / "frame_000000"
        frame.mkdir(parents=True)
        (truth / "provenance.json").write_bytes(path.read_bytes())
        (frame / "surface.npz").write_bytes(_surface(Path(folder))[0])
        (frame / "depth").mkdir()
        (frame / "depth" / "cam0.npz").write_bytes(_depth_map(Path(folder))[0])
        return load_ground_truth(folder)


def _training_scene(folder: Path) -> list[bytes]:
    """Two of a plane: compressed, for damage takes its time over the 17 MB of a rendered one."""
    shape = (8, IMAGE_SIZE[1], IMAGE_SIZE[0])
    for depth in (0.5, 1.0):
        images, depths = np.zeros((*shape, 3), np.uint8), np.full(shape, depth, np.float32)
        np.savez_compressed(folder / f"{depth}.npz", images=images, depths=depths)
    return [(folder / f"{depth}.npz").read_bytes() for depth in (0.5, 1.0)]


def _read_training_scene(path: Path) -> TrainingScene:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        seed = TRAINING_SEEDS[0]
        (Path(folder) / f"scene_{seed}.npz").symlink_to(path)
        return training_scene(seed, Path(folder))


def _read_video(path: Path) -> list[torch.Tensor]:
    video = VideoFile(path)
    return [video.read(i) for i in (0, video.frame_count // 2, video.frame_count - 1)]


READERS = {
    "calibration": Reader(".json", _calibration, _read_calibration),
    "config": Reader(".yaml", _config, PipelineConfig.from_yaml),
    "png": Reader(".png", _images(".png", np.uint8, np.uint16), read_image),
    "jpeg": Reader(".jpg", _images(".jpg", np.uint8), read_image),
    "tiff": Reader(".tif", _images(".tif", np.uint8, np.uint16), read_image),
    "mask": Reader(".png", _images(".png", np.uint8), lambda path: read_mask(path, _SIZE)),
    "depth_map": Reader(".npz", _depth_map, load_depth_map),
    "height_map": Reader(".npz", _height_map, load_height_map),
    "true_surface": Reader(".npz", _surface, load_surface),
    "point_cloud": Reader(".ply", _cloud, load_point_cloud),
    "mesh": Reader(".ply", _mesh, load_mesh),
    "pytorch": Reader(".pt", _pytorch, read_tensors),
    "safetensors": Reader(".safetensors", _safetensors, read_tensors),
    "training_scene": Reader(".npz", _training_scene, _read_training_scene),
    "dataset_zip": Reader(".zip", _zip, _read_zip),
    "report": Reader(".json", _report, _read_report),
    "avi": Reader(".avi", _video("MJPG", ".avi"), _read_video),
    "mkv": Reader(".mkv", _lossless, _read_video),
    "benchmark": Reader(".json", _benchmark, _read_benchmark),
    "provenance": Reader(".json", _provenance, _read_provenance),
    "mp4": Reader(".mp4", _video("mp4v", ".mp4"), _read_video),
}
