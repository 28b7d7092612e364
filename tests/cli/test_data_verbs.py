"""The verbs around a reconstruction, as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from aquamvs import Pipeline, PipelineConfig
from aquamvs.cli import build_parser, main
from aquamvs.io import load_mesh, read_image, save_mesh, write_image
from aquamvs.pathways import PipelineMode
from aquamvs.types import Mesh


def shown(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict:
    """Run a command with --json; what it printed."""
    assert main([str(argument) for argument in arguments] + ["--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def output(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frame of a surface sweep."""
    folder = tmp_path_factory.mktemp("surface")
    config = PipelineConfig.from_yaml(tiny_dataset / "config.yaml")
    update = {"pipeline_mode": PipelineMode.SURFACE, "output_dir": folder}
    Pipeline(config.model_copy(update=update)).run()
    return folder / "frame_000000"


@pytest.fixture
def recordings(tiny_dataset: Path, tmp_path: Path) -> Path:
    """Image folders with a prefix, one of no camera, and one that the pattern does not fit."""
    folder = tmp_path / "recordings"
    for path in (tiny_dataset / "images").iterdir():
        shutil.copytree(path, folder / f"dive7-{path.name}")
    shutil.copytree(path, folder / "dive7-spare")
    shutil.copytree(path, folder / "Notes")
    (folder / "log.txt").write_text("no input")
    return folder


def test_init_finds_cameras_by_pattern_and_says_what_did_not_match(
    recordings: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "new" / "config.yaml"
    arguments = ["init", "--input-dir", recordings, "--pattern", r"dive\d+-(\w+)"]
    arguments += ["--calibration", tiny_dataset / "calibration.json", "--config", config]
    arguments += ["--output-dir", tmp_path / "results"]
    match = shown(capsys, *arguments)["match"]
    assert list(match["not_calibrated"]) == ["spare"]
    assert [Path(path).name for path in match["ignored"]] == ["Notes"]
    written = PipelineConfig.from_yaml(config)
    assert written.camera_input_map["cam1"] == recordings / "dive7-cam1"
    assert written.pipeline_mode is PipelineMode.SURFACE
    assert len(Pipeline(written).inputs.sources.sources) == 5
    assert "config.yaml exists" in shown(capsys, *arguments, code=2)["error"]
    shown(capsys, *arguments, "--overwrite", "--preset", "quality")
    assert PipelineConfig.from_yaml(config).reconstruction.min_consistent_views == 3
    assert "keys" not in config.read_text()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("dive", "no group"), ("(", "no regular expression"), ("(dive)", "both of camera 'dive'")],
)
def test_init_refuses_patterns_that_name_no_camera(
    recordings: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pattern: str,
    message: str,
) -> None:
    found = shown(
        capsys,
        *("init", "--input-dir", recordings, "--pattern", pattern),
        *("--calibration", tiny_dataset / "calibration.json"),
        *("--config", tmp_path / "config.yaml"),
        code=2,
    )
    assert message in found["error"]
    assert not (tmp_path / "config.yaml").exists()


def test_init_refuses_a_rig_of_which_a_camera_is_missing(
    recordings: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(recordings / "dive7-cam2")
    found = shown(
        capsys,
        *("init", "--input-dir", recordings, "--pattern", "dive7-(.*)"),
        *("--calibration", tiny_dataset / "calibration.json"),
        *("--config", tmp_path / "config.yaml"),
        code=2,
    )
    assert "calibrated cameras cam2" in found["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_command_a_terminal_or_are_no_text_are_shown_as_codes(
    recordings: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for spare in (b"dive7-\x1b[31mred", b"dive7-caf\xe9"):
        (recordings / "dive7-spare").rename(recordings / os.fsdecode(spare))
        shutil.copytree(recordings / "dive7-cam0", recordings / "dive7-spare")
    arguments = ["init", "--input-dir", str(recordings), "--pattern", "dive7-(.*)"]
    arguments += ["--calibration", str(tiny_dataset / "calibration.json")]
    arguments += ["--config", str(tmp_path / "config.yaml"), "--overwrite"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert r"\x1b[31mred" in text
    assert r"caf\udce9" in text
    assert "\x1b" not in text
    text.encode()
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.encode())
    assert os.fsdecode(b"caf\xe9") in found["match"]["not_calibrated"]


def test_a_pattern_that_fits_without_its_group_names_no_camera(
    recordings: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(
        capsys,
        *("init", "--input-dir", recordings, "--pattern", "dive7-(cam[1-9])?"),
        *("--calibration", tiny_dataset / "calibration.json"),
        *("--config", tmp_path / "config.yaml"),
        code=2,
    )
    assert "cameras cam0 (there are: Notes, dive7-cam0, dive7-spare)" in found["error"]


def test_references_have_the_pixels_that_a_run_masks(
    tiny_dataset: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_dataset / "config.yaml"
    images = shown(capsys, "export-refs", config, "--output-dir", tmp_path)["images"]
    assert sorted(images) == [f"cam{i}" for i in range(5)]
    for name, path in images.items():
        undistorted = output / "undistorted" / f"{name}.png"
        assert Path(path).read_bytes() == undistorted.read_bytes()
    error = shown(capsys, "export-refs", config, "--frame", 9, code=2)["error"]
    assert "frame 9 does not exist" in error


@pytest.mark.parametrize("kind", ["obj", "stl", "glb", "gltf", "ply"])
def test_meshes_of_a_tree_are_converted_and_clouds_left_out(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    arguments = ["export-mesh", output, "--format", kind, "--output-dir", tmp_path]
    (path,) = shown(capsys, *arguments)["meshes"]
    assert Path(path) == tmp_path / "mesh" / f"surface.{kind}"
    original = load_mesh(output / "mesh" / "surface.ply")
    assert len(trimesh.load(path, force="mesh").faces) == len(original.faces)


def test_flags_of_aquamvs_1_name_the_same_folders(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = ["export-mesh", output, "--format", "obj", "--output-dir", tmp_path / "new"]
    old = [
        "export-mesh",
        "--input-dir",
        output,
        "--format",
        "obj",
        "--output-dir",
        tmp_path / "old",
    ]
    for arguments in (new, old):
        (path,) = shown(capsys, *arguments)["meshes"]
        assert Path(path).is_file()
    with pytest.raises(SystemExit):  # which of the two?
        main(["export-mesh", str(output), "--input-dir", str(output), "--format", "obj"])
    parser = build_parser()
    one, two = (
        parser.parse_args(["init", flag, "recordings", "--calibration", "c.json"])
        for flag in ("--video-dir", "--input-dir")
    )
    assert one == two


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("locked", [".", "frame_000001"])
def test_export_mesh_says_which_folder_it_may_not_read(
    output: Path, tmp_path: Path, locked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(output, tmp_path / "run" / "frame_000000")
    folder = tmp_path / "run" / locked
    folder.mkdir(exist_ok=True)
    folder.chmod(0)
    shown(capsys, "export-mesh", tmp_path / "run", "--format", "obj", code=2)
    folder.chmod(0o700)
    assert not list(tmp_path.rglob("*.obj"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_evaluate_says_that_it_may_not_read_a_folder(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    found = shown(capsys, "evaluate", locked, output / "depth_maps", code=2)
    assert "permission denied" in found["error"]


def test_a_mesh_is_simplified_and_never_replaced_by_itself(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fast_simplification")
    mesh = output / "mesh" / "surface.ply"
    arguments = ["export-mesh", mesh, "--format", "ply"]
    assert "by itself" in shown(capsys, *arguments, code=2)["error"]
    (path,) = shown(capsys, *arguments, "--simplify", 500, "--output-dir", tmp_path)["meshes"]
    assert 300 < len(load_mesh(path).faces) <= 500


def test_what_moves_through_the_picture_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bed = torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(0))
    for camera in ("a", "b"):
        for frame in range(12):
            image = bed.clone()
            image[10:20, 5 * frame : 5 * frame + 8] = 1.0  # a fish of 8 pixels at 5 per frame
            write_image(tmp_path / "in" / camera / f"{frame:03d}.png", image)
    arguments = ["temporal-filter", tmp_path / "in", "--window", 7, "--framestep", 5]
    frames = shown(capsys, *arguments, "--output-dir", tmp_path / "out")["frames"]
    assert frames == {str(tmp_path / "out" / camera): 3 for camera in ("a", "b")}
    names = sorted(path.name for path in (tmp_path / "out" / "b").iterdir())
    assert names == [f"frame_{frame:06d}.png" for frame in (0, 5, 10)]
    for name in names:
        found = read_image(tmp_path / "out" / "b" / name)
        torch.testing.assert_close(found, bed, atol=0.5 / 255 + 1e-6, rtol=0)
    assert "window is 13" in shown(capsys, *arguments[:3], 13, code=2)["error"]


def test_results_are_judged_by_the_truth(
    tiny_dataset: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tiny_dataset / "ground_truth" / "frame_000000"
    surface, cloud = truth / "surface.npz", output / "point_cloud" / "fused.ply"
    heights, mesh = output / "surface" / "height_map.npz", output / "mesh" / "surface.ply"
    errors = shown(capsys, "evaluate", heights, surface)["errors"]
    assert 1e-5 < errors["median_abs"] < 2e-3
    pooled = shown(capsys, "evaluate", output / "depth_maps", truth / "depth")["errors"]
    single = shown(
        capsys, "evaluate", output / "depth_maps" / "cam1.npz", truth / "depth" / "cam1.npz"
    )["errors"]
    assert pooled["count"] > single["count"] > 1000
    assert shown(capsys, "evaluate", cloud, surface)["errors"]["f_score"]["0.005"] > 0.5
    to_truth = shown(capsys, "evaluate", mesh, surface)["errors"]["to_truth"]
    assert to_truth["median_abs"] < 2e-3
    assert "bias" not in to_truth  # distances have no sign
    assert shown(capsys, "evaluate", cloud, mesh)["errors"]["distance"]["median_abs"] < 1e-6
    assert shown(capsys, "evaluate", cloud, cloud)["errors"]["to_truth"]["max_abs"] == 0
    assert "do not compare" in shown(capsys, "evaluate", heights, cloud, code=2)["error"]
    assert "does not exist" in shown(capsys, "evaluate", "none", cloud, code=2)["error"]
    assert main(["evaluate", str(heights), str(surface)]) == 0
    assert "median_abs" in capsys.readouterr().out


def test_distances_to_a_shifted_mesh_are_the_shift(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corners = torch.tensor([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    faces, colors = torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.ones(4, 3)
    normals = torch.tensor([[0.0, 0, -1]]).expand(4, 3)
    for name, shift in (("a", 0.0), ("b", 0.004)):
        vertices = corners + torch.tensor([0, 0, shift])
        save_mesh(tmp_path / f"{name}.ply", Mesh(vertices, faces, normals, colors))
    arguments = ["evaluate", tmp_path / "a.ply", tmp_path / "b.ply", "--sample-spacing", 0.05]
    errors = shown(capsys, *arguments)["errors"]
    assert errors["to_truth"]["rms"] == pytest.approx(0.004, rel=1e-4)
    assert errors["from_truth"]["rms"] == pytest.approx(0.004, rel=1e-4)


def test_the_doctor_passes_here_and_fails_where_the_self_test_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shown(capsys, "doctor")
    assert found["passed"]
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["self-test"]["finding"] == "ok"
    assert {"torch", "memory", "cuda", "network weights", "codec mp4 video"} <= set(by_name)
    monkeypatch.setattr("aquamvs.diagnosis._SELF_TEST_LIMIT_GSD", 1e-9)
    assert not shown(capsys, "doctor", code=1)["passed"]


def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    script += "\nCOMP_WORDS=(aquamvs export-mesh --fo); COMP_CWORD=2; _shtab_aquamvs; "
    script += 'echo "${COMPREPLY[@]}"'
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["--format"]


def test_depth_maps_of_another_size_do_not_compare(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cam0.npz"
    plane = np.zeros((3, 4), np.float32)
    np.savez(path, depth=plane, confidence=plane, sigma=plane, K=np.eye(3))
    found = shown(capsys, "evaluate", output / "depth_maps" / "cam0.npz", path, code=2)
    assert "has shape (150, 200); the truth has (3, 4)" in found["error"]


def test_cameras_and_height_maps_are_exported(
    tiny_dataset: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export-cameras", tiny_dataset / "config.yaml", "--output-dir", tmp_path]
    assert len(shown(capsys, *arguments, "--format", "rays")["files"]) == 5
    assert "rays bend" in shown(capsys, *arguments, "--format", "colmap", code=2)["error"]
    heights = output / "surface" / "height_map.npz"
    arguments = ["export-heights", heights, "--output", tmp_path / "h.nc"]
    assert Path(shown(capsys, *arguments)["files"][0]).read_bytes().startswith(b"CDF\x02")


def test_the_height_maps_of_a_run_become_one_store_or_a_file_each(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import xarray

    for frame in ("frame_000002", "frame_000004"):
        shutil.copytree(output / "surface", tmp_path / "run" / frame / "surface")
    arguments = ["export-heights", tmp_path / "run", "--format"]
    store = shown(capsys, *arguments, "zarr", "--interval", "0.5")["files"]
    assert store == [str(tmp_path / "run" / "heights.zarr")]
    with xarray.open_zarr(store[0], consolidated=False) as series:
        assert series.time.to_numpy().tolist() == [1.0, 2.0]
        assert np.isfinite(series.z.to_numpy()).any()
    assert "not empty" in shown(capsys, *arguments, "zarr", code=2)["error"]
    assert shown(capsys, *arguments, "zarr", "--overwrite")["files"] == store
    tiffs = shown(capsys, *arguments, "geotiff", "--output", tmp_path / "tiffs")["files"]
    assert [Path(path).name for path in tiffs] == ["frame_000002.tif", "frame_000004.tif"]
    assert all(Path(path).is_file() for path in tiffs)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds 0 height maps" in shown(capsys, "export-heights", empty, code=2)["error"]
