"""Files that are made to run code, to leave their folder, to fill memory or disk, or to hang."""

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from readers import READERS

from aquamvs import PipelineConfig
from aquamvs.calibration import load_calibration_data
from aquamvs.datasets import make_rig, save_calibration
from aquamvs.datasets.archive import extract_zip
from aquamvs.errors import (
    AquaMVSError,
    CalibrationError,
    ConfigError,
    DataError,
    WeightsError,
)
from aquamvs.files import open_zip
from aquamvs.io import image_size, load_point_cloud, open_sources, read_image
from aquamvs.matching.checkpoints import read_tensors
from aquamvs.pipeline import FrameFolder
from aquamvs.pipeline.outputs import write_frame


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_run_no_code(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "w.pt"
    state = {"a": Trap(tmp_path / "sprung")}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_tensors(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [sprung]", "!!int ''", "!x y"])
def test_tags_in_a_configuration_are_refused(tmp_path: Path, tag: str) -> None:
    (tmp_path / "c.yaml").write_text(f"output_dir: {tag}\n")
    with pytest.raises(ConfigError, match="YAML tags"):
        PipelineConfig.from_yaml(tmp_path / "c.yaml")


def test_aliases_that_grow_exponentially_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="aliases"):
        PipelineConfig.from_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize("opening", ["[", "{", "{a: ", "- ", "? "])
def test_deep_nesting_costs_no_time(tmp_path: Path, opening: str) -> None:
    (tmp_path / "c.yaml").write_text((opening * 200_000)[:250_000])
    with pytest.raises(ConfigError, match=r"nested|not readable"):
        PipelineConfig.from_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "place",
    ["a\\0b", "x\\n", "y" * 5000, "~nobody-of-this-name/x"],
    ids=["nul", "line", "long", "~"],
)
def test_paths_that_no_system_has_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "c.yaml").write_text(
        f'calibration_path: c.json\noutput_dir: "{place}"\ncamera_input_map: {{a: a, b: b}}\n'
    )
    with pytest.raises(ConfigError, match=r"output_dir: "):
        PipelineConfig.from_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize("name", ["../up", "/root", "a/b", "a\\b", ".hidden", "CON:", "x\n", ""])
def test_camera_names_stay_inside_of_the_output_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rig.json"
    save_calibration(make_rig("small5"), path)
    data = json.loads(path.read_text())
    data["cameras"][name] = data["cameras"].pop("cam0")
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match="has a camera named"):
        load_calibration_data(path)


def test_camera_names_that_are_one_file_name_elsewhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    save_calibration(make_rig("small5"), path)
    data = json.loads(path.read_text())
    data["cameras"]["CAM1"] = data["cameras"].pop("cam0")
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match=r"CAM1 and cam1|cam1 and CAM1"):
        load_calibration_data(path)


@pytest.mark.parametrize("name", ["aux", "COM1.left"])
def test_a_camera_is_no_device_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "rig.json"
    save_calibration(make_rig("small5"), path)
    data = json.loads(path.read_text())
    data["cameras"][name] = data["cameras"].pop("cam0")
    path.write_text(json.dumps(data))
    monkeypatch.setattr("aquamvs.calibration.aquacal._ON_WINDOWS", False)
    assert name in load_calibration_data(path).cameras
    monkeypatch.setattr("aquamvs.calibration.aquacal._ON_WINDOWS", True)
    with pytest.raises(CalibrationError, match="for devices"):
        load_calibration_data(path)


def test_a_camera_that_stands_twice_in_a_calibration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    save_calibration(make_rig("small5"), path)
    path.write_text(path.read_text().replace('"cam1"', '"cam0"'))
    with pytest.raises(CalibrationError, match="'cam0' stands twice"):
        load_calibration_data(path)


def test_a_byte_order_mark_before_a_calibration_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    save_calibration(make_rig("small5"), path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_calibration_data(path).cameras) == 5


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


def test_a_png_that_declares_ten_thousand_megapixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(100_000, 100_000) + bytes(100))
    for read in (image_size, read_image):
        with pytest.raises(DataError, match=r"100000 x 100000|could be decompression"):
            read(path)


def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path: Path) -> None:
    encoded = cv2.imencode(".jpg", np.zeros((64, 64), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[
        1
    ].tobytes()
    (tmp_path / "few.jpg").write_bytes(encoded)
    assert tuple(read_image(tmp_path / "few.jpg").shape) == (64, 64, 3)
    first = encoded.index(b"\xff\xda")
    scan = encoded[first : encoded.index(b"\xff\xc4", first)]
    (tmp_path / "many.jpg").write_bytes(encoded[:-2] + scan * 10_000 + encoded[-2:])
    with pytest.raises(DataError, match=r"100\d\d scans; at most 100"):
        read_image(tmp_path / "many.jpg")


@pytest.mark.parametrize("shape", ["(True, 24)", "(0, 99999999999999999999)", "(0, 4294967296)"])
def test_shapes_that_numpy_stumbles_over_are_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("depth.npy", b"\x93NUMPY\x01\x00\x76\x00" + header)
    with pytest.raises(DataError, match=r"its shape is|declares"):
        READERS["depth_map"].read(path)


@pytest.mark.parametrize("count", [10**12, 2 * 10**8])
def test_a_cloud_that_declares_more_points_than_it_has_is_refused(
    tmp_path: Path, count: int
) -> None:
    path = tmp_path / "bomb.ply"
    path.write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex %d\nproperty uchar x\n"
        b"property uchar y\nproperty uchar z\nend_header\n" % count
    )
    with pytest.raises(DataError, match="declares"):
        load_point_cloud(path)


def test_a_file_with_holes_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "holes.ply"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="at most"):
        load_point_cloud(path)


def test_compressed_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    with pytest.raises(WeightsError, match="compressed"):
        read_tensors(tmp_path / "bomb.pt")


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 25))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="unpacks to"):
        extract_zip(tmp_path / "bomb.zip", tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_a_table_of_contents_is_measured_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(4000):
            archive.writestr(f"{number}", b"")
    with (
        pytest.raises(zipfile.BadZipFile, match="table of contents"),
        open_zip(tmp_path / "many.zip", max_directory_bytes=1 << 17),
    ):
        pytest.fail("the archive must not open")


@pytest.mark.parametrize(  # the others are handed text, or a copy
    "name", [name for name in READERS if name not in {"benchmark", "provenance", "report"}]
)
def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"pipe{READERS[name].suffix}"
    os.mkfifo(path)
    with pytest.raises(AquaMVSError, match="no plain file"):
        READERS[name].read(path)


def test_an_unusable_input_path_is_a_data_error(tmp_path: Path) -> None:
    rig = make_rig("small5")
    with pytest.raises(DataError, match="camera cam0: cannot read"):
        open_sources(dict.fromkeys(rig.cameras, tmp_path / ("x" * 300)), rig)


@pytest.mark.parametrize("coefficients", [[1e300, -1e300, 0, 0, 1e300], [-50, 0, 0, 0]])
def test_lens_parameters_without_any_undistorted_image_are_a_calibration_error(
    tmp_path: Path, coefficients: list[float]
) -> None:
    path = tmp_path / "rig.json"
    save_calibration(make_rig("small5"), path)
    data = json.loads(path.read_text())
    data["cameras"]["cam0"]["intrinsics"] |= {
        "dist_coeffs": coefficients,
        "is_fisheye": len(coefficients) == 4,
    }
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match="camera cam0"):
        READERS["calibration"].read(path)


def test_results_are_not_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "frame_000000"
    root.mkdir()
    (root / "mesh").symlink_to(elsewhere)
    with pytest.raises(DataError, match="is a link to"):
        write_frame(FrameFolder(root), None, None, None)  # type: ignore[arg-type]
    assert not any(elsewhere.iterdir())


def test_many_small_arrays_do_not_pass_for_one(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(5000):
            archive.writestr(f"{number}.npy", b"")
    (tmp_path / "a.npz").write_bytes(packed.getvalue())
    with pytest.raises(DataError, match="table of contents"):
        READERS["depth_map"].read(tmp_path / "a.npz")
