"""Whether a GPU gives what the processor gives, and how long it takes, in one command.

Run ``python benchmarks/gpu.py`` on a machine with an NVIDIA GPU; it renders its scenes, needs no
network and ends within ten minutes. First, projection, surface sweep and full mode are compared
between processor and GPU on a small scene, and the patch matcher's kernels with tensor operations.
Then both pathways run on 13 views of 1600 x 1200: the first run apart, because it compiles, and the
median of those that follow, for every stage. ``--device cpu --scale tiny`` tries the script itself;
``pytest tests/dense/test_patches.py`` runs the tests of the kernels on the GPU. (A script that is
called cuda.py would hide the package ``cuda``, on which numba-cuda is built.)

Targets on an H100: sweep 0.5 s and the whole surface pathway 3 s; depth stage of full mode 5 s.
"""

import argparse
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from aquamvs import Pipeline, PipelineConfig
from aquamvs.benchmark import describe_machine
from aquamvs.datasets import ExampleScale, make_example
from aquamvs.dense.patches import TensorPatchMatcher, Window, create_patch_matcher
from aquamvs.numerics.acceleration import has_cuda_kernels
from aquamvs.numerics.pyramid import build_pyramid
from aquamvs.pathways import MatcherType, PipelineMode, Stage
from aquamvs.pipeline import Reconstruction, StageRecorder, reconstruct

LEAST_KNOWN = 0.99
"""Share of pixels or cells that must be known on both devices or on neither."""
SAME_SURFACE = 2e-4
"""Metres by which 95 % of depths and heights may differ. Rounding changes which planes win, and so
depths: between compiled code and tensor operations on one processor it is 4e-5 m."""
SAME_PIXEL = 2e-2
"""Pixels by which float32 projections may differ."""
SAME_COST = 2e-3
"""By which 99.9 % of the matching costs may differ."""
PACKAGES = ("torch", "triton", "numba", "numba-cuda", "cuda-bindings", "numpy")


class Recorder(StageRecorder):
    """Also keeps the GPU's peak memory of every stage, GiB."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.peaks: dict[str, float] = {}
        self._on_gpu = device.startswith("cuda")

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """See :meth:`StageRecorder.stage`."""
        with super().stage(name):
            yield
        if self._on_gpu:
            peak = torch.cuda.max_memory_allocated() / 2**30
            self.peaks[name] = max(peak, self.peaks.get(name, 0.0))


class Script:
    """What the parts share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began = time.perf_counter()
        self.failed: list[str] = []

    def say(self, text: str) -> None:
        """Print with the time since the beginning."""
        print(f"[{time.perf_counter() - self.began:5.0f} s] {text}", flush=True)

    def check(self, name: str, holds: bool, found: str) -> None:
        """Print whether something holds, and remember it if not."""
        self.say(f"{'ok    ' if holds else 'FAILED'}  {name}: {found}")
        if not holds:
            self.failed.append(name)

    def part(self, function: Callable[["Script"], None]) -> None:
        """Run a part; one that fails must not cost the others their turn on a borrowed machine."""
        try:
            function(self)
        except Exception:  # noqa: BLE001  (shown, and the exit code says so)
            traceback.print_exc(file=sys.stdout)
            self.failed.append(function.__name__)

    def config(self, scale: str, mode: PipelineMode) -> PipelineConfig:
        """Of a scene that is rendered unless it is there."""
        folder = Path(self.options.data) / scale
        if not folder.exists():
            self.say(f"rendering the example, scale {scale}")
            make_example(folder, scale=scale)
        config = PipelineConfig.from_yaml(folder / "config.yaml").model_copy(
            update={"pipeline_mode": mode, "matcher_type": self.options.matcher}
        )
        return config.with_device(self.options.device)

    def on_both(self, mode: PipelineMode) -> list[Reconstruction]:
        """A small scene, reconstructed on the processor and on the GPU."""
        config = self.config(ExampleScale.TINY, mode)
        # A network's rounding would change the matches, and these the range of depths.
        config = config.model_copy(update={"matcher_type": MatcherType.SIFT})
        return [run(config.with_device(device))[1] for device in ("cpu", self.options.device)]

    def wait(self) -> None:
        """Until the GPU has done what it was given."""
        if self.options.device.startswith("cuda"):
            torch.cuda.synchronize()


def run(config: PipelineConfig) -> tuple[Recorder, Reconstruction]:
    """Undistort and reconstruct, without files."""
    recorder = Recorder(config.runtime.device)
    inputs = Pipeline(config).inputs
    with recorder.stage(Stage.UNDISTORTION):
        views = inputs.read_views(0)
    return recorder, reconstruct(views, config, recorder=recorder)


def compare(script: Script, name: str, expected: Tensor, found: Tensor) -> None:
    """Surfaces of both devices."""
    found = found.cpu()
    known, there = torch.isfinite(expected), torch.isfinite(found)
    alike = float((known == there).float().mean())
    away = (found - expected)[known & there].abs().double()
    far = float(away.quantile(0.95))
    script.check(
        name,
        alike >= LEAST_KNOWN and far <= SAME_SURFACE,
        f"{100 * alike:.2f}% known alike, 95% within {1e3 * far:.4f} mm, median "
        f"{1e3 * float(away.median()):.4f} mm",
    )


def projection(script: Script) -> None:
    """Rays and pixels, in both precisions."""
    config = script.config(ExampleScale.TINY, PipelineMode.SURFACE).with_device("cpu")
    views = Pipeline(config).inputs.read_views(0)
    model = views.views[0].model
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(100_000, 2, generator=generator, dtype=torch.float64)
    pixels *= torch.tensor(views.views[0].size)
    depth = 0.2 + torch.rand(100_000, generator=generator, dtype=torch.float64)
    origin, direction = model.cast_ray(pixels)
    points = origin + depth[:, None] * direction
    expected, valid = model.project(points)
    there = model.to(script.options.device)
    for dtype, limit in ((torch.float64, 1e-6), (torch.float32, SAME_PIXEL)):
        found, seen = there.project(points.to(script.options.device, dtype))
        away = float((found.cpu().double() - expected)[valid].abs().max())
        same = bool((seen.cpu() == valid).all())
        script.check(f"projection {dtype}", away <= limit and same, f"{away:.2g} px at most")


def surface(script: Script) -> None:
    """The surface sweep of a small scene."""
    expected, found = (made.height_map for made in script.on_both(PipelineMode.SURFACE))
    assert expected is not None
    assert found is not None
    compare(script, "surface sweep", expected.z, found.z)


def full(script: Script) -> None:
    """Full mode of a small scene."""
    expected, found = (
        torch.stack([depth_map.depth for depth_map in made.depth_maps])
        for made in script.on_both(PipelineMode.FULL)
    )
    compare(script, "full mode", expected, found)


def kernels(script: Script) -> None:
    """The patch matcher that this machine uses, against tensor operations: costs and time."""
    config = script.config(script.options.scale, PipelineMode.FULL)
    views = Pipeline(config).inputs.read_views(0)
    reference, *others = [build_pyramid(view, 1)[0] for view in views.views]
    window = Window.gaussian(3)
    matcher = create_patch_matcher(reference, others, window)
    tensors = TensorPatchMatcher(reference, others, window)
    rays = matcher.rays
    pixels = rays.pixels()
    level = views.views[0].model.camera_height + 0.3  # any surface will do
    depth = ((level - rays.origin[:, 2]) / rays.direction[:, 2]).float().clamp(0.1, 2.0)
    depth = torch.stack([depth, 1.01 * depth, 1.02 * depth])
    normal = rays.up.expand(*depth.shape, 3)
    asked = torch.ones(len(pixels), len(others), dtype=torch.bool, device=pixels.device)
    results, taken = [], []
    for judge in (matcher, tensors):
        times = []
        for _ in range(3):
            script.wait()
            start = time.perf_counter()
            costs = judge.costs(pixels, depth, normal, asked)
            script.wait()
            times.append(time.perf_counter() - start)
        results.append(costs)
        taken.append(times)
    both = torch.isfinite(results[0]) & torch.isfinite(results[1])
    known = float((torch.isfinite(results[0]) == torch.isfinite(results[1])).float().mean())
    away = (results[0] - results[1])[both].abs()[::97]
    far = float(away.float().quantile(0.999))
    samples = 49 * results[0].numel()
    script.check(
        f"{type(matcher).__name__} like tensors",
        known > LEAST_KNOWN and far <= SAME_COST,
        f"{100 * float(both.float().mean()):.0f}% seen, 99.9% within {far:.2g}; "
        + ", ".join(
            f"{name} {min(times[1:]):.3f} s ({1e9 * min(times[1:]) / samples:.3f} ns a sample), "
            f"first {times[0]:.1f} s"
            for name, times in zip(("kernels", "tensors"), taken, strict=True)
        ),
    )


def surface_times(script: Script) -> None:
    """The surface pathway."""
    measure(script, PipelineMode.SURFACE)


def full_times(script: Script) -> None:
    """Full mode."""
    measure(script, PipelineMode.FULL)


def measure(script: Script, mode: PipelineMode) -> None:
    """Print the times of a pathway, every stage's median after the first run."""
    config = script.config(script.options.scale, mode)
    runs: list[Recorder] = []
    for number in range(1 + script.options.repeats):
        start = time.perf_counter()
        runs.append(run(config)[0])
        last = time.perf_counter() - start
        script.say(f"{mode} run {number}: {1e-3 * runs[-1].timing.total_time_ms:.2f} s")
        if time.perf_counter() - script.began + last > 60 * script.options.minutes:
            break
    first, later = runs[0], runs[1:] or runs
    print(f"{mode:32} first, s  median, s  least, s  processor, s  GPU peak, GiB")
    for name, stage in first.timing.stages.items():
        walls = [1e-3 * each.timing.stages[name].wall_time_ms for each in later]
        cpu = statistics.median(1e-3 * each.timing.stages[name].cpu_time_ms for each in later)
        print(
            f"  {name:30} {1e-3 * stage.wall_time_ms:8.2f} {statistics.median(walls):10.3f} "
            f"{min(walls):9.3f} {cpu:13.2f} {max(r.peaks.get(name, 0.0) for r in later):14.2f}"
        )
    totals = [1e-3 * each.timing.total_time_ms for each in later]
    print(
        f"  {'all':30} {1e-3 * first.timing.total_time_ms:8.2f} {statistics.median(totals):10.3f} "
        f"{min(totals):9.3f}   ({len(totals)} runs)",
        flush=True,
    )


PARTS = (projection, kernels, surface, full, surface_times, full_times)


def main() -> int:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=ExampleScale, default=ExampleScale.FULL)
    parser.add_argument("--matcher", type=MatcherType, default=MatcherType.LIGHTGLUE)
    parser.add_argument("--data", type=Path, help="folder of rendered scenes, kept if given")
    parser.add_argument("--repeats", type=int, default=5, help="after the first run")
    parser.add_argument("--minutes", type=float, default=8, help="then begin no further run")
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--parts", nargs="*", choices=names, default=names)
    options = parser.parse_args()
    for name, value in describe_machine(options.device).items():
        print(f"{name}: {value}")
    for name in PACKAGES:
        try:
            print(f"{name}: {version(name)}")
        except PackageNotFoundError:
            print(f"{name}: not installed")
    print(f"compiled kernels of the GPU: {has_cuda_kernels(torch.empty(0, device=options.device))}")
    with tempfile.TemporaryDirectory() as folder:
        options.data = options.data or Path(folder)
        script = Script(options)
        for part in PARTS:
            if part.__name__ in options.parts:
                script.part(part)
    script.say("failed: " + ", ".join(script.failed) if script.failed else "all parts passed")
    return 1 if script.failed else 0


if __name__ == "__main__":
    sys.exit(main())
