"""Volumes of heaps against their stated uncertainty: in simulated noise and in rendered series.

Run ``python benchmarks/change_volumes.py``. Heaps of known volume are laid on beds whose errors
have a known size and correlation; ``actual / stated`` is the RMS error of the volume over what
``height_difference`` states, 1 where it is right. ``bias`` is the mean error over the same. Heaps
have two forms: a cone, and a bell whose foot runs out so flat that part of it is below any noise.

``--data FOLDER`` adds rendered bowers that grow, reconstructed by the surface sweep (5 cameras of
400 x 300 pixels; rendered into the folder once and kept). Development uses seeds 0 to 9; reported
figures come from seeds 100 to 119. There the volumes' error over the stated sigma is printed for
every seed, with the scatter of single cells (1 where a cell's sigma is right, less where it is
cautious) and the radius within which errors were found to be correlated.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from aquamvs import PipelineConfig
from aquamvs.datasets import SceneOptions, load_ground_truth, write_dataset
from aquamvs.evaluation import HeightGrid, height_difference
from aquamvs.pipeline import open_inputs
from aquamvs.surface import sweep_surface
from aquamvs.types import HeightMap

SPACING, SIGMA, RADIUS = 0.002, 0.0004, 5
"""Cell size and sigma, metres, and radius of correlated errors, cells, of the simulated maps."""
SIDE, DEPTH = 200, 1.5
CORRELATION_CELLS = 5
"""What ``aquamvs change`` takes for the surface sweep's maps."""
LITRES = 1000
SERIES = (0.5, 0.75, 1.0)
"""Part of a bower's relief that it has in each frame of a rendered series."""


def cone(distance: Tensor, radius: float) -> Tensor:
    return (1 - distance / radius).clamp(min=0)


def bell(distance: Tensor, radius: float) -> Tensor:
    return torch.exp(-2 * (distance / radius) ** 2)


def noisy_map(z: Tensor, random: np.random.Generator) -> HeightMap:
    """A map with errors of ``SIGMA``, correlated as exp(-(distance / RADIUS)²)."""
    pad = 4 * RADIUS
    white = random.standard_normal((SIDE + 2 * pad, SIDE + 2 * pad))
    smooth = gaussian_filter(white, RADIUS / 2)[pad:-pad, pad:-pad]
    error = SIGMA * math.sqrt(math.pi) * RADIUS * torch.from_numpy(smooth)
    known = torch.ones_like(z)
    colour = torch.zeros(*z.shape, 3)
    return HeightMap(
        0.0, 0.0, SPACING, z + error, torch.full_like(z, SIGMA), known, known.int(), colour
    )


def simulated(count: int) -> None:
    place = SPACING * (torch.arange(SIDE, dtype=torch.float64) - SIDE / 2)
    distance = torch.hypot(place[:, None], place[None, :])
    bed = torch.full((SIDE, SIDE), DEPTH, dtype=torch.float64)
    forms: dict[str, Callable[[Tensor, float], Tensor]] = {"cone": cone, "bell": bell}
    print(f"simulated heaps, {count} each: sigma {1000 * SIGMA} mm, correlated in {RADIUS} cells")
    print("form  height mm  radius cm  volume l  stated l    bias  actual / stated")
    row = 0
    for name, form in forms.items():
        for height in (0.0025, 0.01):
            for radius in (0.05, 0.1, 0.15):
                heap = height * form(distance, radius)
                volume = SPACING**2 * float(heap.sum())
                row += 1
                errors, sigmas = [], []
                for seed in range(count):
                    random = np.random.default_rng([row, seed])
                    found = height_difference(
                        noisy_map(bed, random),
                        noisy_map(bed - heap, random),
                        min_significance=2,
                        correlation_length=RADIUS * SPACING,
                    )
                    errors.append(found.volume_up - volume)
                    sigmas.append(found.volume_up_sigma)
                ratio = np.array(errors) / np.array(sigmas)
                print(
                    f"{name}  {1000 * height:9.1f}  {100 * radius:9.0f}  {LITRES * volume:8.4f}  "
                    f"{LITRES * np.mean(sigmas):8.5f}  {ratio.mean():+6.2f}  "
                    f"{np.sqrt(np.mean(ratio**2)):15.2f}",
                    flush=True,
                )


def true_heights(dataset: Path, frame: int, like: HeightMap) -> Tensor:
    surface = load_ground_truth(dataset, frame=frame).surface
    grid = HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)
    return torch.as_tensor(grid.at(*like.grid_xy()))


def correlation_radius(ratio: Tensor, known: Tensor) -> float:
    """Radius of a disk with the integral of the errors' correlation, cells.

    The correlation over shifts is summed up to its first zero along the rows and the columns and
    taken as Gaussian, so that lost cells and the mean of the map do little harm.
    """
    centred = torch.where(known, ratio - ratio[known].mean(), 0.0)
    radii = []
    for axis in (0, 1):
        total = 1.0
        for shift in range(1, 40):
            a, b = (
                centred.narrow(axis, 0, centred.shape[axis] - shift),
                centred.narrow(axis, shift, centred.shape[axis] - shift),
            )
            both = known.narrow(axis, 0, known.shape[axis] - shift) & known.narrow(
                axis, shift, known.shape[axis] - shift
            )
            correlation = float((a * b)[both].mean() / centred[known].square().mean())
            if correlation <= 0:
                break
            total += 2 * correlation
        radii.append(total / math.sqrt(math.pi))  # of exp(-(h / r)²), whose integral is r sqrt(pi)
    return float(np.mean(radii))


def rendered(folder: Path, seeds: range) -> None:
    print("rendered bowers: error of the volume / stated sigma")
    print("seed  frame  piled l (true)     error  dug l (true)       error  scatter  radius cells")
    all_ratios = []
    for seed in seeds:
        dataset = folder / f"change_{seed}"
        if not dataset.exists():
            options = [SceneOptions(bower_relief=part, depth=0.3) for part in SERIES]
            write_dataset(dataset, rig="small5", scene_kind="bower", seed=seed, options=options)
        inputs = open_inputs(PipelineConfig.from_yaml(dataset / "config.yaml"))
        maps = [sweep_surface(inputs.read_views(frame)) for frame in range(len(SERIES))]
        start = true_heights(dataset, 0, maps[0])
        for frame in range(1, len(SERIES)):
            length = CORRELATION_CELLS * maps[0].spacing
            found = height_difference(
                maps[0], maps[frame], min_significance=2, correlation_length=length
            )
            true_rise = start - true_heights(dataset, frame, maps[0])
            known = torch.isfinite(found.rise) & torch.isfinite(true_rise)
            true_rise = torch.where(known, true_rise, 0.0)
            cell = maps[0].spacing ** 2
            true_up = cell * float(true_rise.clamp(min=0).sum())
            true_down = cell * float((-true_rise).clamp(min=0).sum())
            ratio = torch.where(known, (found.rise - true_rise) / found.sigma, 0.0)
            up = (found.volume_up - true_up) / found.volume_up_sigma
            down = (found.volume_down - true_down) / found.volume_down_sigma
            all_ratios += [up, down]
            print(
                f"{seed:4}  {frame:5}  {LITRES * found.volume_up:6.3f} ({LITRES * true_up:6.3f})  "
                f"{up:+8.2f}  {LITRES * found.volume_down:6.3f} ({LITRES * true_down:6.3f})  "
                f"{down:+8.2f}  {float(ratio[known].square().mean().sqrt()):7.2f}  "
                f"{correlation_radius(ratio, known):12.1f}",
                flush=True,
            )
    print(f"actual / stated over all: {np.sqrt(np.mean(np.square(all_ratios))):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="simulated heaps of each kind")
    parser.add_argument(
        "--data", type=Path, help="folder of rendered series; none are made without"
    )
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=4, help="rendered series")
    options = parser.parse_args()
    simulated(options.count)
    if options.data is not None:
        rendered(options.data, range(options.first_seed, options.first_seed + options.seeds))


if __name__ == "__main__":
    main()
