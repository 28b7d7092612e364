"""Points per second of the refractive projection, beside aquakit's on the same points.

Both project the same random points with the same camera in one run, in turns, so that whatever else
the machine does falls on both. Needs the development extra (aquakit).
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from aquakit import RefractiveProjectionModel as AquaKitModel
from torch import Tensor

from aquamvs.projection import RefractiveProjectionModel

CPU_INFO = Path("/proc/cpuinfo")
DTYPES = {"float64": torch.float64, "float32": torch.float32}

Projection = Callable[[Tensor], tuple[Tensor, Tensor]]


def machine() -> str:
    """Name of the processor, as well as the system knows it."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def camera_arguments(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
    """K, R, t, water_z and the vertical normal, the only one that aquakit knows."""
    K = torch.tensor([[1589.0, 0, 799.5], [0, 1589.0, 599.5], [0, 0, 1]], dtype=dtype)
    turn = torch.tensor(
        [[0, -0.3, -0.1], [0.3, 0, -0.2], [0.1, 0.2, 0]], dtype=torch.float64
    )  # a rotation vector's matrix: the camera is not aligned with the world
    R = torch.linalg.matrix_exp(turn).to(dtype)
    t = torch.tensor([0.1, -0.2, 0.05], dtype=dtype)
    return K, R, t, 1.0, torch.tensor([0.0, 0.0, -1.0], dtype=dtype)


def scene(count: int, dtype: torch.dtype) -> Tensor:
    """Points from 5 cm to 1 m below the water, up to 1 m to every side, shape (count, 3)."""
    unit = torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, high = torch.tensor([-1.0, -1.0, 1.05]), torch.tensor([1.0, 1.0, 2.0])
    return (low + unit * (high - low)).to(dtype)


def median_seconds(projections: list[Projection], points: Tensor, repeats: int) -> list[float]:
    """Median time of each projection, run in turns after one unmeasured call."""
    times: list[list[float]] = [[] for _ in projections]
    for project in projections:
        project(points)
    for _ in range(repeats):
        for taken, project in zip(times, projections, strict=True):
            start = time.perf_counter()
            project(points)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def compare(name: str, count: int, repeats: int) -> str:
    """One line of the table: speeds, ratio, differences from each other and from float64."""
    dtype = DTYPES[name]
    arguments = camera_arguments(dtype)
    ours = RefractiveProjectionModel(*arguments, 1.0, 1.333)
    theirs = AquaKitModel(*arguments, 1.0, 1.333)
    points = scene(count, dtype)
    # The same camera and points, as they are in this dtype, in float64: what rounding costs.
    K, R, t, water_z, normal = arguments
    exact = RefractiveProjectionModel(
        K.double(), R.double(), t.double(), water_z, normal.double(), 1.0, 1.333
    )
    with torch.no_grad():
        first, second = median_seconds([ours.project, theirs.project], points, repeats)
        truth, known = exact.project(points.double())
        errors = []
        for model in (ours, theirs):
            pixels, valid = model.project(points)
            if not torch.equal(valid, known):
                raise SystemExit("the two models disagree about which points are visible")
            errors.append(float((pixels - truth)[known].abs().max()))
        difference = float((ours.project(points)[0] - theirs.project(points)[0])[known].abs().max())
    return (
        f"{name:8}  {count / first:>12,.0f}  {count / second:>12,.0f}  {second / first:>5.1f}  "
        f"{difference:>8.1e}  {errors[0]:>8.1e}  {errors[1]:>8.1e}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{options.points:,} points, median of {options.repeats} runs, no gradients\n")
    print(
        f"{'':8}  {'points per second':^26}  {'':5}  {'difference and rounding, px':>28}\n"
        f"{'dtype':8}  {'aquamvs':>12}  {'aquakit':>12}  {'ratio':>5}  "
        f"{'between':>8}  {'aquamvs':>8}  {'aquakit':>8}"
    )
    for name in DTYPES:
        print(compare(name, options.points, options.repeats))


if __name__ == "__main__":
    main()
