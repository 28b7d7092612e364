"""The pipeline as its users see it: outputs, resuming, refusing bad input before any work."""

import importlib.util
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from aquamvs import Pipeline, PipelineConfig
from aquamvs.errors import AquaMVSError, CalibrationError, ConfigError, DataError, WeightsError
from aquamvs.io import load_depth_map, load_height_map, load_mesh, load_point_cloud
from aquamvs.pathways import PATHWAYS, PipelineMode, Stage
from aquamvs.pipeline import (
    FrameFolder,
    StageRecorder,
    finished_height_maps,
    reconstruct,
    weights_label,
)
from aquamvs.pipeline.colors import normalize_colors
from aquamvs.types import FrameSet


def configured(dataset: Path, **values: object) -> PipelineConfig:
    path = dataset / "config.yaml"
    data = {**yaml.safe_load(path.read_text()), **values}
    path.write_text(yaml.safe_dump(data))
    return PipelineConfig.from_yaml(path)


@pytest.mark.parametrize("mode", list(PipelineMode))
def test_every_mode_writes_the_tree_that_the_contract_names(dataset: Path, mode: str) -> None:
    config = configured(dataset, pipeline_mode=str(mode), matcher_type="sift")
    pipeline = Pipeline(config)
    result = pipeline.run_frame(0)
    folder = FrameFolder(config.output_dir / "frame_000000")
    assert len(load_point_cloud(folder.point_cloud(PipelineMode(mode)))) > 100
    assert len(load_mesh(folder.mesh).faces) > 10
    for camera in pipeline.inputs.calibration.cameras:
        assert folder.undistorted(camera).is_file()
    for camera in pipeline.inputs.calibration.ring_cameras:
        assert folder.depth_map(camera).is_file() == (mode is not PipelineMode.SPARSE)
    if mode is PipelineMode.SURFACE:
        height_map = load_height_map(folder.height_map)
        assert torch.isfinite(height_map.z).any()
        assert json.loads(folder.orthophoto.with_suffix(".json").read_text())["x0_m"] == (
            height_map.x0
        )
    report = json.loads(folder.report.read_text())
    assert report["pathway"] == config.pathway.name
    assert list(report["timing"]["stages"]) == [str(stage) for stage in config.pathway.stages]
    assert report["counts"]["points"] == len(result.reconstruction.cloud)
    assert not [path for path in folder.root.rglob("*") if path.name.startswith(".")]


def test_a_second_run_resumes_and_equal_runs_give_equal_bytes(
    dataset: Path, tmp_path: Path
) -> None:
    config = configured(dataset, pipeline_mode="sparse", matcher_type="sift")
    pipeline = Pipeline(config)
    first = pipeline.run()
    assert [frame.status for frame in first.frames] == ["done", "done"]
    products = [
        path
        for path in sorted(config.output_dir.rglob("*"))
        if path.is_file() and path.name != "report.json"
    ]
    before = {path: path.read_bytes() for path in products}
    (config.output_dir / "frame_000001" / "report.json").unlink()  # as if killed before the end
    second = Pipeline(config).run()
    assert [frame.status for frame in second.frames] == ["skipped", "done"]
    assert {path: path.read_bytes() for path in products} == before
    changed = configured(dataset, sparse_matching={"max_keypoints": 500})
    assert [frame.status for frame in Pipeline(changed).run().frames] == ["done", "done"]


def test_a_bad_frame_is_reported_and_does_not_stop_the_others(dataset: Path) -> None:
    config = configured(dataset, pipeline_mode="sparse", matcher_type="sift")
    image = sorted((dataset / "images" / "cam1").iterdir())[0]
    whole = image.read_bytes()
    pipeline = Pipeline(config)
    image.write_bytes(whole[: len(whole) // 2])
    summary = pipeline.run()
    assert [frame.status for frame in summary.frames] == ["failed", "done"]
    assert image.name in str(summary.failed[0].error)
    assert not (config.output_dir / "frame_000000").exists()


def test_frames_follow_start_stop_and_step(dataset: Path) -> None:
    config = configured(dataset, preprocessing={"frame_start": 1})
    assert list(Pipeline(config).inputs.frames()) == [1]
    config = configured(dataset, preprocessing={"frame_start": 5})
    with pytest.raises(ConfigError, match="frame_start is 5, but the input has 2"):
        Pipeline(config).run()


def test_every_stage_can_be_called_on_what_the_one_before_returned(dataset: Path) -> None:
    config = configured(dataset, pipeline_mode="full", matcher_type="sift")
    views = Pipeline(config).inputs.read_views(0)
    seen: list[Stage] = []
    recorder = StageRecorder()
    result = reconstruct(
        views, config, recorder=recorder, progress=lambda stage, *_: seen.append(stage)
    )
    assert len(result.depth_maps) == len(views.references)
    assert set(seen) == set(config.pathway.stages) - {Stage.UNDISTORTION}
    assert all(stage.peak_memory_mb > 0 for stage in recorder.timing.stages.values())


def test_consistency_maps_are_written_on_request(dataset: Path) -> None:
    config = configured(dataset, pipeline_mode="full", runtime={"save_consistency_maps": True})
    result = Pipeline(config).run_frame(0)
    with np.load(result.folder.consistency_map("cam0"), allow_pickle=False) as maps:
        assert maps["agreeing"].max() >= 2
    assert load_depth_map(result.folder.depth_map("cam0")).camera == "cam0"


def _remove_camera(dataset: Path) -> None:
    data = json.loads((dataset / "calibration.json").read_text())
    del data["cameras"]["cam0"]
    (dataset / "calibration.json").write_text(json.dumps(data))


def _drop_from_map(dataset: Path) -> None:
    path = dataset / "config.yaml"
    data = yaml.safe_load(path.read_text())
    del data["camera_input_map"]["cam0"]
    path.write_text(yaml.safe_dump(data))


def _another_size(dataset: Path) -> None:
    data = json.loads((dataset / "calibration.json").read_text())
    data["cameras"]["cam0"]["intrinsics"]["image_size"] = [640, 480]
    (dataset / "calibration.json").write_text(json.dumps(data))


def _no_images(dataset: Path) -> None:
    for path in (dataset / "images" / "cam0").iterdir():
        path.unlink()


def _unreadable_first_image(dataset: Path) -> None:
    sorted((dataset / "images" / "cam0").iterdir())[0].write_bytes(b"no image")


def _no_calibration(dataset: Path) -> None:
    (dataset / "calibration.json").unlink()


def _flooded(dataset: Path) -> None:
    data = json.loads((dataset / "calibration.json").read_text())
    for camera in data["cameras"].values():
        camera["water_z"] = -0.5
    (dataset / "calibration.json").write_text(json.dumps(data))


def _evil_name(dataset: Path) -> None:
    text = (dataset / "calibration.json").read_text()
    (dataset / "calibration.json").write_text(text.replace('"cam0"', '"../cam0"'))


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (_remove_camera, ConfigError, "'cam0', which the calibration does not have"),
        (_drop_from_map, ConfigError, "'cam0' has no entry in camera_input_map"),
        (_another_size, DataError, "200 x 150; the calibration is for 640 x 480"),
        (_no_images, DataError, "holds no images"),
        (_unreadable_first_image, DataError, r"frame_000000\.png"),
        (_no_calibration, CalibrationError, "calibration.* does not exist"),
        (_flooded, CalibrationError, "below the water surface"),
        (_evil_name, CalibrationError, r"\.\./cam0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    dataset: Path, break_it: object, error: type[AquaMVSError], message: str
) -> None:
    assert callable(break_it)
    break_it(dataset)
    with pytest.raises(error, match=message):
        Pipeline(PipelineConfig.from_yaml(dataset / "config.yaml"))
    assert not (dataset / "output").exists()


def test_an_output_folder_that_cannot_be_is_refused(dataset: Path) -> None:
    (dataset / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        Pipeline(configured(dataset, output_dir="file/output"))
    if os.geteuid() != 0:
        locked = dataset / "locked"
        locked.mkdir(mode=0o500)
        with pytest.raises(DataError, match="cannot be written"):
            Pipeline(configured(dataset, output_dir="locked/output"))


def test_masks_are_read_and_checked(dataset: Path) -> None:
    import cv2

    masks = dataset / "masks"
    masks.mkdir()
    with pytest.raises(DataError, match="holds no mask"):
        Pipeline(configured(dataset, mask_dir="masks"))
    mask = np.zeros((150, 200), np.uint8)
    mask[:, :100] = 255
    cv2.imwrite(str(masks / "cam0.png"), mask)
    views = Pipeline(configured(dataset, mask_dir="masks")).inputs.read_views(0)
    assert not views["cam0"].mask[:, 100:].any()
    assert views["cam0"].mask[:, 5:95].all()
    cv2.imwrite(str(masks / "cam0.png"), mask[:10])
    with pytest.raises(DataError, match=r"cam0\.png"):
        Pipeline(configured(dataset, mask_dir="masks"))


def test_a_cuda_device_that_is_not_there_is_refused(dataset: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="no usable CUDA device"):
        Pipeline(configured(dataset, runtime={"device": "cuda"}))


@pytest.mark.parametrize("method", ["gain", "histogram"])
def test_colour_normalisation_undoes_gains_in_any_order(method: str) -> None:
    scene = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    gains = {"a": 0.9, "b": 1.0, "c": 1.1}
    frames = FrameSet(0, {name: scene * gain for name, gain in gains.items()})
    even = normalize_colors(frames, method).images  # type: ignore[arg-type]
    assert (even["a"] - even["c"]).abs().max() < 2e-3
    backwards = FrameSet(0, dict(reversed(frames.images.items())))
    again = normalize_colors(backwards, method).images  # type: ignore[arg-type]
    assert all(torch.equal(even[name], again[name]) for name in gains)


def test_the_table_names_every_pathway_once() -> None:
    names = [pathway.name for pathway in PATHWAYS]
    slugs = [pathway.slug for pathway in PATHWAYS]
    assert len(set(names)) == len(names)
    assert len(set(slugs)) == len(slugs)
    assert {"LightGlue + sparse", "LightGlue + full", "RoMa + sparse", "RoMa + full"} < set(names)
    assert "Surface sweep" in names


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"pipeline_mode": "surface"}, None),
        ({"matcher_type": "sift"}, None),
        ({}, "LightGlue (bundled)"),
        ({"sparse_matching": {"weights": "official"}}, "LightGlue (ALIKED, official)"),
        (
            {"sparse_matching": {"weights": "trained/official", "extractor_type": "disk"}},
            "LightGlue (DISK, from official)",
        ),
        ({"matcher_type": "roma"}, "RoMa-style (bundled)"),
        (
            {"matcher_type": "roma", "dense_matching": {"weights": "official"}},
            "RoMa v2 (official)",
        ),
    ],
)
def test_reports_name_the_network_and_its_weights(
    dataset: Path, values: dict[str, object], label: str | None
) -> None:
    base = {"pipeline_mode": "sparse", "matcher_type": "lightglue"}
    config = configured(dataset, **{**base, **values})
    assert weights_label(config) == label


def test_a_frame_that_one_camera_lacks_is_reported_and_does_not_stop_the_others(
    dataset: Path,
) -> None:
    config = configured(dataset, pipeline_mode="sparse", matcher_type="sift")
    sorted((dataset / "images" / "cam2").iterdir())[1].unlink()
    summary = Pipeline(config).run()
    assert [frame.status for frame in summary.frames] == ["done", "failed"]
    assert "camera cam2 has no image 1" in str(summary.failed[0].error)


def test_an_unexpected_error_stays_with_its_frame(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline(configured(dataset, pipeline_mode="sparse", matcher_type="sift"))
    whole = pipeline.run_frame

    def fail_first(frame: int, **options: object) -> object:
        if frame == 0:
            raise MemoryError("no room")
        return whole(frame, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "run_frame", fail_first)
    summary = pipeline.run()
    assert [frame.status for frame in summary.frames] == ["failed", "done"]
    assert summary.frames[0].error == "MemoryError: no room"
    assert summary.unforeseen == summary.frames[:1]
    assert caplog.text.count("Traceback") == 1
    assert "in fail_first" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sparse_matching": {"extractor_type": "disk"}}, "trained on SIFT keypoints"),
        ({"runtime": {"max_memory_gb": 0.3}}, r"runtime\.max_memory_gb = 0\.3"),
        pytest.param(
            {"reconstruction": {"surface_method": "poisson"}},
            "needs Open3D",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("open3d") is not None, reason="Open3D is installed"
            ),
        ),
    ],
)
@pytest.mark.parametrize("mode", ["sparse", "full"])
def test_settings_that_fail_every_frame_are_refused_before_the_first(
    dataset: Path, mode: str, values: dict[str, object], message: str
) -> None:
    config = configured(dataset, pipeline_mode=mode, matcher_type="lightglue", **values)
    with pytest.raises(ConfigError, match=message):
        Pipeline(config).run()
    assert not config.output_dir.exists()


def test_missing_weights_are_reported_once_and_before_the_first_frame(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("AQUAMVS_CACHE", str(tmp_path / "cache"))
    weights = {"sparse_matching": {"weights": "official"}}
    config = configured(dataset, pipeline_mode="sparse", matcher_type="lightglue", **weights)
    with pytest.raises(WeightsError, match=r"aliked_lightglue\.pth .*no network.*weights: bundled"):
        Pipeline(config).run()
    assert asked == ["github.com"]
    assert not config.output_dir.exists()


@pytest.mark.parametrize("hidden", ["iterdir", "is_file"])
def test_height_maps_that_may_not_be_read_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    (tmp_path / "frame_000000").mkdir()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, hidden, refuse)
    with pytest.raises(DataError, match=f"cannot read {tmp_path}.*Permission denied"):
        finished_height_maps(tmp_path)
