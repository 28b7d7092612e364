import errno
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from aquamvs.calibration import CalibrationData, compute_undistortion_maps, load_calibration_data
from aquamvs.config import PipelineConfig
from aquamvs.datasets import (
    SceneOptions,
    load_ground_truth,
    make_example,
    make_rig,
    write_dataset,
)
from aquamvs.errors import DataError
from aquamvs.io import read_image, read_mask
from aquamvs.io.storage import new_folder


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write(out: Path, rig: CalibrationData, **options: object) -> Path:
    arguments = {"rig": rig, "scene_kind": "plane", "seed": 0} | options
    return write_dataset(out, **arguments)  # type: ignore[arg-type]


def test_the_example_is_complete_and_its_configuration_loads(tmp_path: Path) -> None:
    out = make_example(tmp_path / "deep" / "example", scale="small", seed=1, masks=True)
    assert out == tmp_path / "deep" / "example"
    names = [f"cam{i}" for i in range(5)]
    expected = {
        "calibration.json",
        "config.yaml",
        "ground_truth/provenance.json",
        "ground_truth/frame_000000/surface.npz",
        *(f"images/{name}/frame_000000.png" for name in names),
        *(f"masks/{name}.png" for name in names),
        *(f"ground_truth/frame_000000/depth/{name}.npz" for name in names),
    }
    assert set(hashes(out)) == expected
    assert [path.name for path in out.parent.iterdir()] == ["example"]
    config = PipelineConfig.from_yaml(out / "config.yaml")
    assert list(config.camera_input_map) == names
    assert yaml.safe_load((out / "config.yaml").read_text())["mask_dir"] == "masks"
    rig = load_calibration_data(out / "calibration.json")
    for name in names:
        assert read_image(out / "images" / name / "frame_000000.png").shape == (300, 400, 3)
        assert read_mask(out / "masks" / f"{name}.png", (400, 300)).all()
        assert torch.equal(rig.cameras[name].K, make_rig("small5").cameras[name].K)


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads(
    tiny_rig: CalibrationData, tmp_path: Path
) -> None:
    first = hashes(write(tmp_path / "a", tiny_rig, frames=2, workers=1))
    assert hashes(write(tmp_path / "b", tiny_rig, frames=2, workers=3)) == first
    other = hashes(write(tmp_path / "c", tiny_rig, frames=2, seed=1))
    images = [key for key in first if key.startswith("images")]
    assert len(images) == 10
    assert all(first[key] != other[key] for key in images)
    # Frames of a still scene share the light and differ by their noise.
    pair = [f"images/cam0/frame_00000{i}.png" for i in (0, 1)]
    assert first[pair[0]] != first[pair[1]]


def test_no_file_names_the_machine(tiny_rig: CalibrationData, tmp_path: Path) -> None:
    out = write(tmp_path / "example", tiny_rig)
    for path in out.rglob("*"):
        if path.suffix in (".json", ".yaml"):
            assert str(tmp_path) not in path.read_text()


def test_masks_leave_out_walls_and_what_is_beyond_the_tank(tmp_path: Path) -> None:
    rig = make_rig("ring13", image_size=(80, 60))
    rig = CalibrationData(
        {name: rig.cameras[name] for name in ("cam0", "cam4", "cam8", "cam12")},
        rig.water_z,
        rig.interface_normal,
        rig.n_air,
        rig.n_water,
    )
    out = write(tmp_path / "example", rig, masks=True)
    assert read_mask(out / "masks" / "cam0.png", (80, 60)).all()
    fisheye = read_mask(out / "masks" / "cam12.png", (80, 60))
    assert 0.05 < float(fisheye.double().mean()) < 0.95
    truth = compute_undistortion_maps(rig.cameras["cam12"])
    assert truth.map_x.shape == fisheye.shape


def test_more_frames_than_the_disk_holds_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2000000000 frames would take about .* GiB free"):
        make_example(tmp_path / "deep" / "example", scale="tiny", frames=2_000_000_000)
    assert list(tmp_path.iterdir()) == []


def test_the_predicted_size_is_about_that_of_the_files(
    tiny_rig: CalibrationData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(tmp_path / "first", tiny_rig, frames=2)
    size = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())

    def free(share: float) -> None:
        usage = SimpleNamespace(free=int(share * size))
        monkeypatch.setattr("aquamvs.io.storage.shutil.disk_usage", lambda _: usage)

    free(0.7)
    with pytest.raises(DataError, match="2 frames would take"):
        write(tmp_path / "second", tiny_rig, frames=2)
    free(1.3)
    assert write(tmp_path / "second", tiny_rig, frames=2).is_dir()


def test_a_folder_that_holds_something_is_kept(tiny_rig: CalibrationData, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        write(out, tiny_rig)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    write(out, tiny_rig, overwrite=True)
    assert (out / "config.yaml").is_file()
    assert not (out / "notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_filled(tiny_rig: CalibrationData, tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    assert (write(out, tiny_rig) / "config.yaml").is_file()


def test_a_failure_leaves_nothing_and_keeps_what_was_there(
    tiny_rig: CalibrationData, tmp_path: Path
) -> None:
    class StopError(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        del done, total
        if "cam3" in what:
            raise StopError

    with pytest.raises(StopError):
        write(tmp_path / "new", tiny_rig, progress=stop)
    assert list(tmp_path.iterdir()) == []
    old = write(tmp_path / "old", tiny_rig)
    before = hashes(old)
    with pytest.raises(StopError):
        write(old, tiny_rig, seed=5, overwrite=True, progress=stop)
    assert hashes(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_what_stood_there_comes_back_if_the_new_folder_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("keep")
    replace = os.replace

    def fail_for_the_new(source: Path, target: Path) -> None:
        if target == tmp_path / "old" and source.parent == tmp_path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_the_new)
    with (
        pytest.raises(DataError, match="cannot be created"),
        new_folder(tmp_path / "old", overwrite=True),
    ):
        pass
    assert (tmp_path / "old" / "notes.txt").read_text() == "keep"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_progress_names_every_image(tiny_rig: CalibrationData, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    write(tmp_path / "example", tiny_rig, frames=2, progress=lambda *each: told.append(each))
    assert told == [
        (f"frame {frame}: cam{i}", 5 * frame + i + 1, 10) for frame in range(2) for i in range(5)
    ]


def test_a_series_takes_the_options_of_each_frame(
    tiny_rig: CalibrationData, tmp_path: Path
) -> None:
    days = [SceneOptions(depth=depth) for depth in (0.3, 0.3, 0.4)]
    folder = write(tmp_path / "series", tiny_rig, options=days)
    surfaces = [load_ground_truth(folder, frame=frame).surface.z for frame in range(3)]
    assert torch.equal(surfaces[0], surfaces[1])
    assert float(surfaces[2].mean() - surfaces[0].mean()) == pytest.approx(0.1, abs=0.01)
    provenance = load_ground_truth(folder).provenance
    assert provenance["frames"] == 3
    assert [each["depth"] for each in provenance["frame_options"]] == [0.3, 0.3, 0.4]
    with pytest.raises(DataError, match="frames is 0"):
        write(tmp_path / "none", tiny_rig, options=[])


def test_a_file_in_the_way_is_an_error(tiny_rig: CalibrationData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        write(tmp_path / "file", tiny_rig)
    with pytest.raises(DataError, match="cannot be created"):
        write(tmp_path / "file" / "example", tiny_rig)


def test_impossible_requests_are_refused_before_anything_is_written(
    tiny_rig: CalibrationData, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="frames is 0"):
        write(tmp_path / "a", tiny_rig, frames=0)
    with pytest.raises(DataError, match=r"'huge'.*small, medium, full"):
        make_example(tmp_path / "b", scale="huge")
    with pytest.raises(DataError, match="out of the water"):
        write(tmp_path / "c", tiny_rig, options=SceneOptions(depth=0.2, slope=(1.0, 0.0)))
    assert list(tmp_path.iterdir()) == []
