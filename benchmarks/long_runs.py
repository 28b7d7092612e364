"""Kill a run at random moments, fill its disk, and time it alone and with two workers.

    python benchmarks/long_runs.py --frames 6 --kills 20 --seed 0
    python benchmarks/long_runs.py --frames 8 --kills 0 --scene FOLDER

After every kill each file that has its final name must hold what an undisturbed run writes, and a
run that is started again must complete with the same bytes and redo unfinished frames only.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from aquamvs.datasets import SceneOptions, write_dataset


def make_dataset(folder: Path, frames: int) -> Path:
    """A tiny dataset for the surface sweep; its configuration file."""
    write_dataset(
        folder,
        rig="small5",
        scene_kind="bower",
        seed=0,
        frames=frames,
        image_size=(200, 150),
        options=SceneOptions(depth=0.3, n_fish=2),
    )
    return configure(folder / "config.yaml", pipeline_mode="surface")


def repeat_scene(scene: Path, folder: Path, frames: int) -> Path:
    """A dataset of the same frame again and again, for rates; its configuration file."""
    for images in sorted((scene / "images").iterdir()):
        (folder / "images" / images.name).mkdir(parents=True)
        first = min(images.iterdir())
        for frame in range(frames):
            shutil.copy(first, folder / "images" / images.name / f"{frame:06d}{first.suffix}")
    for name in ("calibration.json", "config.yaml"):
        shutil.copy(scene / name, folder)
    return configure(folder / "config.yaml", pipeline_mode="surface")


def configure(config: Path, **changes: object) -> Path:
    """Change keys of a configuration file."""
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **changes}))
    return config


def start(config: Path, *options: str, largest_file: int | None = None) -> subprocess.Popen[str]:
    """Start a run in a process (group) of its own.

    Args:
        config: Configuration file.
        options: Of ``aquamvs run``.
        largest_file: Bytes at which a file stops growing, as on a full disk.
    """

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "aquamvs", "run", str(config), "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limit,
    )


def statuses(run: subprocess.Popen[str]) -> list[str]:
    """Wait for a run; what became of its frames."""
    out, _ = run.communicate()
    return [frame["status"] for frame in json.loads(out)["frames"]]


def kill_after(run: subprocess.Popen[str], seconds: float) -> bool:
    """Kill a run at a moment; False if it had ended by then."""
    try:
        run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
        run.communicate()
        return True
    return False


def products(folder: Path) -> dict[str, bytes]:
    """Every file that has its final name, but reports, whose times differ."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "report.json" and not path.name.startswith(".")
    }


def leftovers(folder: Path) -> list[Path]:
    """Temporary files."""
    return [path for path in folder.rglob(".*") if path.is_file()]


def finished(folder: Path) -> int:
    """Frames that carry their report."""
    return len(list(folder.glob("frame_*/report.json")))


def survive(
    config: Path, output: Path, truth: dict[str, bytes], moments: list[float]
) -> tuple[int, int]:
    """Kill runs at the given moments after their start, then let one end.

    Returns:
        Kills survived and kills tried; a run that had ended before its moment was not killed, and
        the next one begins anew.
    """
    survived = tried = 0
    for seconds in moments:
        if not kill_after(start(config), seconds):
            shutil.rmtree(output)
            continue
        tried += 1
        partial = products(output)
        survived += all(truth[name] == content for name, content in partial.items())
    before = finished(output)
    ended = statuses(start(config))
    whole = products(output) == truth and not leftovers(output)
    if ended.count("skipped") != before or ended.count("failed") or not whole:
        return 0, tried
    return survived, tried


def _full_disk(config: Path, output: Path, truth: dict[str, bytes]) -> bool:
    """Frames fail on a file system of 1 MiB and complete once there is room."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(output)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603
        failed = statuses(start(config, largest_file=100_000))
        print("  (no file system could be mounted: files were kept from growing instead)")
    else:
        failed = statuses(start(config))
        no_reports_of_failed = finished(output) == len(failed) - failed.count("failed")
        subprocess.run(["umount", str(output)], check=True)  # noqa: S603, S607
        if not no_reports_of_failed:
            return False
    ended = statuses(start(config))
    return "failed" in failed and "failed" not in ended and products(output) == truth


def main() -> int:
    """Print counts and rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", type=Path, help="rendered scene to repeat; default: a tiny one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if options.scene:
            config = repeat_scene(options.scene, Path(place) / "data", options.frames)
        else:
            config = make_dataset(Path(place) / "data", options.frames)
        output = config.parent / "output"
        seconds = {}
        truth: dict[str, bytes] = {}
        for name, flags in {"serial": (), "2 workers": ("--workers", "2")}.items():
            shutil.rmtree(output, ignore_errors=True)
            begin = time.monotonic()
            assert set(statuses(start(config, *flags))) == {"done"}
            seconds[name] = time.monotonic() - begin
            found = products(output)
            truth = truth or found
            rate = options.frames / seconds[name]
            same = "same bytes" if found == truth else "OTHER BYTES"
            print(f"{name:10s} {rate:6.2f} frames/s, the start included; {same}", flush=True)
        if not options.kills:
            return 0
        shutil.rmtree(output)
        rng = np.random.default_rng(options.seed)
        moments = rng.uniform(0, seconds["serial"], options.kills).tolist()
        survived, tried = survive(config, output, truth, moments)
        print(f"kills survived of kills tried: {survived} of {tried}")
        print(f"full disk: {'survived' if _full_disk(config, output, truth) else 'NOT survived'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
