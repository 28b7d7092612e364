"""``aquamvs change`` as a user meets it: volumes on the screen, files in a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aquamvs.cli import main
from aquamvs.io import save_height_map
from aquamvs.types import HeightMap

SPACING, HEAP = 0.005, 0.02


def write_map(path: Path, heap: float, *, shift: float = 0.0, side: int = 60) -> Path:
    z = torch.full((side, side), 1.5 + shift)
    z[20:30, 20:30] -= heap
    sigma = torch.full_like(z, 0.0005)
    count = torch.full((side, side), 4, dtype=torch.int32)
    color = torch.full((side, side, 3), 0.5)
    height = HeightMap(0.0, 0.0, SPACING, z, sigma, torch.ones_like(z), count, color)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_height_map(path, height)
    return path


@pytest.fixture
def run_output(tmp_path: Path) -> Path:
    """The tree of a run over three frames in which a heap grows."""
    for frame, heap in enumerate((0.0, HEAP / 2, HEAP)):
        write_map(tmp_path / f"frame_{frame:06d}" / "surface" / "height_map.npz", heap)
    return tmp_path


def test_a_run_is_compared_with_its_first_frame(
    run_output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["change", str(run_output)]) == 0
    shown = capsys.readouterr().out
    litres = 1000 * 100 * SPACING**2 * HEAP
    assert f"{litres:.3f} ±" in shown
    folder = run_output / "change"
    assert shown.strip().splitlines()[-1] == str(folder)
    report = json.loads((folder / "change.json").read_text())
    volumes = [each["volume_up"] for each in report["changes"]]
    assert volumes == pytest.approx([litres / 2000, litres / 1000], rel=1e-3)
    expected = {"change.json", "change.gif", "volumes.png"} | {
        f"frame_00000{n}.{kind}" for n in (1, 2) for kind in ("npz", "png")
    }
    assert {path.name for path in folder.iterdir()} == expected
    with Image.open(folder / "change.gif") as animation:
        assert animation.n_frames == 3
    with np.load(folder / "frame_000002.npz") as maps:
        assert float(maps["rise"][25, 25]) == pytest.approx(HEAP, abs=1e-6)


def test_two_files_with_json_for_machines_and_stable_ground(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_map(tmp_path / "monday" / "bed.npz", 0.0)
    after = write_map(tmp_path / "tuesday" / "bed.npz", HEAP, shift=-0.003)
    command = ["change", str(before), str(after), "--json", "--output-dir", str(tmp_path / "out")]
    assert main([*command, "--stable", "0", "0.2", "0.3", "0.3"]) == 0
    report = json.loads(capsys.readouterr().out)
    (change,) = report["changes"]
    assert change["offset"] == pytest.approx(0.003, abs=1e-6)
    assert change["volume_up"] == pytest.approx(100 * SPACING**2 * HEAP, rel=1e-3)
    assert (tmp_path / "out" / "001_bed.npz").is_file()  # both files are called bed
    assert report == json.loads((tmp_path / "out" / "change.json").read_text())


def test_numbers_and_maps_of_a_large_bed_are_whole_though_the_animation_is_thinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_map(tmp_path / "a.npz", 0.0, side=850)
    after = write_map(tmp_path / "b.npz", HEAP, side=850)
    command = ["change", str(before), str(after), "--json", "--output-dir", str(tmp_path / "out")]
    assert main(command) == 0
    (change,) = json.loads(capsys.readouterr().out)["changes"]
    assert change["spacing"] == SPACING
    assert change["area"] == pytest.approx((850 * SPACING) ** 2)
    assert change["volume_up"] == pytest.approx(100 * SPACING**2 * HEAP, rel=1e-3)
    with np.load(tmp_path / "out" / "b.npz") as maps:
        assert maps["rise"].shape == (850, 850)


def test_a_map_called_volumes_does_not_overwrite_the_figure_of_all(tmp_path: Path) -> None:
    before, after = (write_map(tmp_path / f"{name}.npz", 0.0) for name in ("bed", "volumes"))
    assert main(["change", str(before), str(after), "--output-dir", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "001_volumes.png",
        "volumes.png",
    }


def test_the_same_maps_give_the_same_bytes(run_output: Path) -> None:
    for name in ("a", "b"):
        assert main(["change", str(run_output), "--output-dir", str(run_output / name)]) == 0
    for path in (run_output / "a").iterdir():
        assert path.read_bytes() == (run_output / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{one}"], "one height map was given"),
        (["{empty}"], "holds 0 height maps"),
        (["{one}", "{empty}/none.npz"], "does not exist"),
        (["{one}", "{one}", "--min-significance", "-1"], "--min-significance is -1"),
        (["{one}", "{one}", "--correlation-length", "0"], "--correlation-length is 0"),
        (["{one}", "{one}", "--stable", "5", "5", "6", "6"], "stable ground has no cell"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    one = write_map(tmp_path / "one.npz", 0.0)
    filled = [each.format(one=one, empty=tmp_path / "empty") for each in arguments]
    assert main(["change", *filled]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not (tmp_path / "change").exists()
