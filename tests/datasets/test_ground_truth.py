import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from aquamvs.calibration import CalibrationData, compute_undistortion_maps, load_calibration_data
from aquamvs.datasets import (
    Scene,
    SceneOptions,
    has_ground_truth,
    load_ground_truth,
    make_scene,
    write_dataset,
)
from aquamvs.datasets.ground_truth import true_surface
from aquamvs.errors import DataError
from aquamvs.pixels import pixel_grid


@pytest.fixture(scope="module")
def dataset(tiny_rig: CalibrationData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(
        tmp_path_factory.mktemp("truth") / "example",
        rig=tiny_rig,
        scene_kind="boxes",
        seed=1,
        frames=2,
        options=SceneOptions(n_fish=2),
    )


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return copytree(dataset, tmp_path / "copy")


def test_depth_files_lift_pixels_onto_the_surface(dataset: Path) -> None:
    """From files alone: depth -> point; away from walls it lies on the surface grid."""
    truth = load_ground_truth(dataset)
    calibration = load_calibration_data(dataset / "calibration.json")
    assert truth.cameras == tuple(calibration.cameras)
    surface = truth.surface
    for name in truth.cameras:
        depth = truth.depth(name)
        camera = calibration.cameras[name]
        assert depth.dtype == torch.float32
        assert tuple(depth.shape) == camera.image_size[::-1]
        K = compute_undistortion_maps(camera).K_new
        assert torch.equal(truth.intrinsics(name), K)
        pixels = pixel_grid(camera.image_size, dtype=torch.float64)
        origins, directions = calibration.projection_model(name, K).cast_ray(pixels)
        points = origins + depth.double()[..., None] * directions
        column = ((points[..., 0] - surface.x0) / surface.spacing).round().long()
        row = ((points[..., 1] - surface.y0) / surface.spacing).round().long()
        rows, columns = surface.z.shape
        known = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        row, column = row.clamp(0, rows - 1), column.clamp(0, columns - 1)
        known &= ~surface.discontinuity[row, column]
        gap = (surface.z[row, column] - points[..., 2])[known].abs()
        # Half a cell of 11 mm on the steepest ripple, and fish above the bed.
        assert float(gap.quantile(0.9)) < 2e-3
        assert float(known.double().mean()) > 0.5


def test_cameras_agree_on_every_point_that_both_see(dataset: Path) -> None:
    truth = load_ground_truth(dataset)
    calibration = load_calibration_data(dataset / "calibration.json")
    models = {
        name: calibration.projection_model(name, truth.intrinsics(name)) for name in truth.cameras
    }
    width, height = calibration.cameras["cam0"].image_size
    pixels = pixel_grid((width, height), dtype=torch.float64)
    origins, directions = models["cam0"].cast_ray(pixels)
    points = origins + truth.depth("cam0").double()[..., None] * directions
    seen, _ = models["cam2"].project(points)
    nearest = seen.round().long()
    inside = ((nearest >= 0) & (nearest < torch.tensor([width, height]))).all(-1)
    other_origins, _ = models["cam2"].cast_ray(seen[inside])
    expected = (points[inside] - other_origins).norm(dim=-1)
    u, v = nearest[inside].unbind(-1)
    found = truth.depth("cam2")[v, u].double()
    assert int(inside.sum()) > 2000
    # Nearest pixel: up to half a pixel away; hidden points differ by more.
    assert float((found - expected).abs().quantile(0.8)) < 2e-3


def test_only_fish_change_the_truth_between_frames(dataset: Path) -> None:
    first, second = (load_ground_truth(dataset, frame) for frame in (0, 1))
    assert torch.equal(first.surface.z, second.surface.z)
    changed = first.depth("cam0") != second.depth("cam0")
    assert 0 < int(changed.sum()) < 0.2 * changed.numel()


def test_surface_grid_samples_the_scene_at_cell_centres(
    bower: Scene, small_rig: CalibrationData
) -> None:
    surface = true_surface(bower)
    rows, columns = surface.z.shape
    row, column = torch.tensor([0, 3, rows - 1]), torch.tensor([0, 40, columns - 1])
    x = surface.x0 + surface.spacing * column.double()
    y = surface.y0 + surface.spacing * row.double()
    torch.testing.assert_close(
        surface.z[row, column], bower.height(x, y).float(), atol=1e-7, rtol=0
    )
    assert torch.isfinite(surface.z).all()
    assert surface.spacing == pytest.approx(bower.place.gsd, rel=0.05)


def test_discontinuities_are_marked_at_walls_only(
    boxes: Scene, bower: Scene, tiny_rig: CalibrationData
) -> None:
    surface = true_surface(boxes)
    z = surface.z
    jump = torch.zeros_like(surface.discontinuity)
    jump[:, 1:] |= (z[:, 1:] - z[:, :-1]).abs() > 0.02
    jump[1:, :] |= (z[1:] - z[:-1]).abs() > 0.02
    assert int(jump.sum()) > 50
    assert surface.discontinuity[jump].all()
    plane = true_surface(make_scene("plane", seed=0, rig=tiny_rig))
    assert not plane.discontinuity.any()
    share = true_surface(bower).discontinuity.double().mean()
    assert 0 < float(share) < 0.1


def test_provenance_makes_the_scene_again(dataset: Path, tiny_rig: CalibrationData) -> None:
    provenance = load_ground_truth(dataset).provenance
    assert provenance["rig"] == "custom"
    assert provenance["software"].startswith("aquamvs ")
    options = {key: tuple(v) if isinstance(v, list) else v
               for key, v in provenance["options"].items()}  # fmt: skip
    scene = make_scene(
        provenance["scene"],
        seed=provenance["seed"],
        rig=tiny_rig,
        options=SceneOptions(**options),
    )
    surface = true_surface(scene)
    assert torch.equal(surface.z, load_ground_truth(dataset).surface.z)


def test_truth_of_a_frame_that_was_not_rendered_is_an_error(dataset: Path, tmp_path: Path) -> None:
    assert has_ground_truth(dataset, 1)
    assert not has_ground_truth(dataset, 2)
    assert not has_ground_truth(tmp_path)
    with pytest.raises(DataError, match="no ground truth of frame 2"):
        load_ground_truth(dataset, 2)
    with pytest.raises(DataError, match=r"'cam9'.*cam0"):
        load_ground_truth(dataset).depth("cam9")


def test_pickled_arrays_are_refused(copy: Path) -> None:
    path = copy / "ground_truth" / "frame_000000" / "surface.npz"
    np.savez(path, z=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="surface"):
        load_ground_truth(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": None}, "no array 'z'"),
        ({"z": np.zeros((2, 2))}, "float64"),
        ({"z": np.zeros((2, 2), dtype=np.float32)}, "discontinuity"),
        ({"spacing": np.float64(-1)}, "spacing"),
    ],
    ids=["missing", "dtype", "shape", "spacing"],
)
def test_an_inconsistent_surface_is_refused(
    change: dict[str, object], message: str, copy: Path
) -> None:
    path = copy / "ground_truth" / "frame_000000" / "surface.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays |= change
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(DataError, match=message):
        load_ground_truth(copy)


@pytest.mark.parametrize("name", ["surface.npz", "depth/cam1.npz"])
def test_truncated_files_are_refused(name: str, copy: Path) -> None:
    path = copy / "ground_truth" / "frame_000000" / name
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=path.name):
        load_ground_truth(copy)


def test_broken_provenance_is_refused(copy: Path) -> None:
    path = copy / "ground_truth" / "provenance.json"
    for text in ("{", json.dumps([1])):
        path.write_text(text)
        with pytest.raises(DataError, match="provenance"):
            load_ground_truth(copy)
    path.unlink()
    with pytest.raises(DataError, match="provenance"):
        load_ground_truth(copy)
