"""Frames of a rig come synchronised, checked against the calibration."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aquamvs.calibration import CalibrationData, CameraData
from aquamvs.errors import ConfigError, DataError
from aquamvs.io import ImageFolder, VideoFile, open_sources, write_image

SIZE = (32, 24)


@pytest.fixture
def calibration() -> CalibrationData:
    eye = torch.eye(3, dtype=torch.float64)
    cameras = {
        name: CameraData(name, eye, torch.zeros(5).double(), eye, torch.zeros(3).double(), SIZE)
        for name in ("left", "right")
    }
    return CalibrationData(cameras, 1.0, torch.tensor([0.0, 0.0, -1.0]).double(), 1.0, 1.333)


def fill(folder: Path, values: dict[str, float], size: tuple[int, int] = SIZE) -> Path:
    for name, value in values.items():
        write_image(folder / name, torch.full((size[1], size[0], 3), value))
    return folder


def test_frames_come_in_natural_order(tmp_path: Path) -> None:
    names = ["frame_10.png", "frame_9.png", "frame_000001.png", "frame_0.png"]
    folder = fill(tmp_path, {name: i / 10 for i, name in enumerate(names)})
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".frame_5.123.tmp.png").write_bytes(b"a writer at work")
    source = ImageFolder(folder)
    assert source.frame_count == 4
    assert source.size == SIZE
    order = [float(source.read(i).mean()) for i in range(4)]
    assert order == pytest.approx([0.3, 0.2, 0.1, 0.0], abs=1 / 255)


def test_frame_set_has_every_camera_at_one_instant(tmp_path: Path, calibration) -> None:
    for shift, name in enumerate(calibration.cameras):
        fill(tmp_path / name, {f"frame_{i:06d}.png": (i + 5 * shift) / 10 for i in range(3)})
    inputs = {name: tmp_path / name for name in ("right", "left")}
    sources = open_sources(inputs, calibration)
    assert sources.frame_count == 3
    frame = sources.read_frame(2)
    assert frame.index == 2
    assert list(frame.images) == ["left", "right"]  # the calibration's order, not the map's
    means = [float(image.mean()) for image in frame.images.values()]
    assert means == pytest.approx([0.2, 0.7], abs=1 / 255)


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE)
    for i in range(count):
        bgr = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        bgr[..., 2] = min(20 * i, 255)  # red tells the frame
        bgr[..., 0] = 240
        writer.write(bgr)
    writer.release()
    return path


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (5, 2, 2, 9, 0), (9,)])
def test_video_frames_are_found_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    source = VideoFile(write_video(tmp_path / "a.avi", 10))
    assert (source.frame_count, source.size) == (10, SIZE)
    for index in order:
        red, _, blue = source.read(index).mean((0, 1)).tolist()
        assert red == pytest.approx(20 * index / 255, abs=0.02)
        assert blue == pytest.approx(240 / 255, abs=0.02)


def test_truncated_video_is_reported_at_the_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"a.avi"):
        VideoFile(path).read(39)


def test_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"cannot read video .*a.mp4"):
        VideoFile(tmp_path / "a.mp4")


def test_camera_without_calibration_is_named(tmp_path: Path, calibration) -> None:
    inputs = dict.fromkeys(("left", "right", "top"), tmp_path)
    with pytest.raises(ConfigError, match=r"'top'.*remove it or calibrate it"):
        open_sources(inputs, calibration)


def test_path_as_camera_name_is_refused(tmp_path: Path, calibration) -> None:
    inputs = dict.fromkeys(("left", "right", "../x"), tmp_path)
    with pytest.raises(ConfigError, match=r"'\.\./x'"):
        open_sources(inputs, calibration)


def test_calibrated_camera_without_input_is_named(tmp_path: Path, calibration) -> None:
    with pytest.raises(ConfigError, match=r"'right'.*camera_input_map"):
        open_sources({"left": tmp_path}, calibration)


def test_missing_path_is_named(tmp_path: Path, calibration) -> None:
    fill(tmp_path / "left", {"a.png": 0.5})
    inputs = {"left": tmp_path / "left", "right": tmp_path / "nowhere"}
    with pytest.raises(DataError, match=r"camera right: .*nowhere does not exist"):
        open_sources(inputs, calibration)


def test_empty_folder_and_stray_file_are_refused(tmp_path: Path, calibration) -> None:
    (tmp_path / "left").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_sources(dict.fromkeys(("left", "right"), tmp_path / "left"), calibration)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no image folder and no video"):
        open_sources(dict.fromkeys(("left", "right"), tmp_path / "notes.txt"), calibration)


def test_images_of_another_size_are_refused(tmp_path: Path, calibration) -> None:
    fill(tmp_path / "left", {"a.png": 0.5})
    fill(tmp_path / "right", {"a.png": 0.5}, size=(30, 24))
    inputs = {name: tmp_path / name for name in ("left", "right")}
    with pytest.raises(DataError, match=r"camera right.*30 x 24.*32 x 24"):
        open_sources(inputs, calibration)


def test_later_image_of_another_size_is_refused_when_read(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": 0.5})
    fill(tmp_path, {"b.png": 0.5}, size=(30, 24))
    source = ImageFolder(tmp_path)
    with pytest.raises(DataError, match=r"b.png is 30 x 24"):
        source.read(1)


def test_unequal_frame_counts_are_refused(tmp_path: Path, calibration) -> None:
    fill(tmp_path / "left", {"a.png": 0.5, "b.png": 0.5})
    fill(tmp_path / "right", {"a.png": 0.5})
    inputs = {name: tmp_path / name for name in ("left", "right")}
    with pytest.raises(DataError, match=r"right has 1 .*left has 2"):
        open_sources(inputs, calibration)


@pytest.mark.parametrize("index", [-1, 1])
def test_frame_that_does_not_exist_is_refused(tmp_path: Path, index: int) -> None:
    source = ImageFolder(fill(tmp_path, {"a.png": 0.5}))
    with pytest.raises(DataError, match=f"no frame {index}; it has frames 0 to 0"):
        source.read(index)


def test_images_are_matched_by_the_numbers_in_their_names(
    tmp_path: Path, calibration, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "left", {f"L2_frame_{i:03d}.png": i / 10 for i in (0, 1, 2, 3)})
    fill(tmp_path / "right", {f"R_{i}.png": i / 10 for i in (0, 1, 3, 4)})
    inputs = {name: tmp_path / name for name in ("left", "right")}
    sources = open_sources(inputs, calibration)
    assert sources.frame_count == 5
    assert "camera right has no image 2" in caplog.text
    frame = sources.read_frame(3)
    means = [float(image.mean()) for image in frame.images.values()]
    assert means == pytest.approx([0.3, 0.3], abs=1 / 255)
    for index, name in ((2, "right"), (4, "left")):
        with pytest.raises(DataError, match=f"frame {index}: camera {name} has no image {index}"):
            sources.read_frame(index)
