# %% [markdown]
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/tlancaster6/AquaMVS/blob/main/docs/tutorial/refraction.ipynb)
#
# # Why Water Matters
#
# A ray of light bends where it enters the water. How much does it matter if the camera model does
# not know that, if it has been made to fit by calibration, or if the water stands a little higher
# than it believes? This tutorial reconstructs one frame under each of these beliefs and measures
# the damage.

# %% [markdown]
# ## Installation
#
# The next cell installs AquaMVS on Colab. Anywhere else it does nothing: there, install AquaMVS
# once, as the README says.

# %%
import subprocess
import sys

if "google.colab" in sys.modules:
    package = "aquamvs @ git+https://github.com/tlancaster6/AquaMVS@main"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)

# %%
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from aquamvs import PipelineConfig
from aquamvs.calibration import load_calibration_data
from aquamvs.datasets import load_ground_truth, make_example
from aquamvs.evaluation import HeightGrid, height_errors, model_bias, rig_limit
from aquamvs.io import open_sources
from aquamvs.pipeline import undistort_views, undistortion_maps
from aquamvs.projection import RefractiveProjectionModel, fit_pinhole, moved_surface, straight
from aquamvs.surface import sweep_surface
from aquamvs.types import HeightMap
from aquamvs.visualization import (
    flip_book,
    plot_error_curves,
    plot_error_maps,
    plot_refracted_ray,
)

# %% [markdown]
# ## One frame, and the truth
#
# AquaMVS renders its own example, for real images come without the exact truth that this page
# compares with. `SCALE` is its size: `small` has 5 cameras of 400 x 300 pixels; `medium` and `full`
# have 13 cameras of 800 x 600 and of 1600 x 1200, and take longer in proportion.

# %%
SCALE = "small"
DATASET = Path("demo") / f"example-{SCALE}"

if not DATASET.exists():
    make_example(DATASET, scale=SCALE)
config = PipelineConfig.from_yaml(DATASET / "config.yaml")
calibration = load_calibration_data(config.calibration_path)
frames = open_sources(config.camera_input_map, calibration).read_frame(0)
views = undistort_views(frames, calibration, undistortion_maps(calibration))
models = [view.model for view in views]
surface = load_ground_truth(DATASET).surface
truth = HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)
bed = (float(surface.z.min()), float(surface.z.max()))
print(
    f"water at Z = {calibration.water_z:.2f} m, bed between {bed[0]:.2f} and {bed[1]:.2f} m, "
    f"index {calibration.n_water:.3f}"
)

# %% [markdown]
# The ray of a pixel near the corner of an image. The dotted line is where a model without water
# believes that it goes: at the bed it is centimetres away, and the further out, the more.

# %%
width, height = views.views[0].size
plot_refracted_ray(models[0], models[0].K.new_tensor([0.05 * width, 0.05 * height]))

# %% [markdown]
# ## Three beliefs
#
# 1. **Refraction**: the model knows where the water is and what it does.
# 2. **Index ignored**: the same calibrated cameras, but rays go straight on.
# 3. **Pinhole fitted**: someone calibrated the rig through the water with an ordinary camera model.
#    Its focal length and place take up as much of the refraction as they can; we give it the best
#    fit there is, over exactly the depths of this bed.

# %%
fits = [fit_pinhole(view.model, view.size, bed) for view in views]
for view, fit in zip(views, fits, strict=True):
    longer = float(fit.model.K[0, 0] / view.model.K[0, 0])
    print(
        f"{view.name}: focal length x {longer:.2f}, misfit {fit.rms_px:.2f} px RMS, "
        f"{fit.max_px:.1f} px at worst"
    )

# %% [markdown]
# The focal length has grown by roughly the index of water: under water everything looks larger. The
# misfit does not look like much. Now the same surface sweep runs with each of the three.

# %%
beliefs = {
    "Refraction": models,
    "Index ignored": [straight(model) for model in models],
    "Pinhole fitted": [fit.model for fit in fits],
}


def reconstruct(believed: Sequence[RefractiveProjectionModel]) -> HeightMap:
    """The height map of the frame by cameras that are believed to be these."""
    pairs = zip(views, believed, strict=True)
    return sweep_surface(replace(views, views=tuple(replace(v, model=m) for v, m in pairs)))


def error_map(found: HeightMap) -> HeightGrid:
    """Found minus true Z."""
    true_z = torch.from_numpy(truth.at(*found.grid_xy()))
    return HeightGrid(found.x0, found.y0, found.spacing, found.z - true_z)


found = {name: reconstruct(believed) for name, believed in beliefs.items()}
plot_error_maps({name: error_map(each) for name, each in found.items()})

# %% [markdown]
# Mind the three scales. Look for the *shape* of the errors: without refraction the whole bed stands
# too high and is bent like a bowl. The fitted pinhole is right on average and still bent, and this
# bend looks just like relief.

# %%
for name, each in found.items():
    errors = height_errors(each, truth)
    print(
        f"{name:15} median {1000 * errors.median_abs:6.2f} mm, RMS {1000 * errors.rms:6.2f} mm, "
        f"bias {1000 * errors.bias:+7.2f} mm, {errors.coverage:.0%} covered"
    )

# %% [markdown]
# ## It could have been known beforehand
#
# What a wrong model does to a point needs no images: project the point by the true cameras,
# triangulate the pixels by those believed in. `model_bias` does that, and also says how far the
# views then disagree. That residual is all that a reconstruction can notice. Below: level ground at
# the middle of the bed.

# %%
side = torch.linspace(-0.4, 0.4, 41, dtype=torch.float64)


def level(z: float) -> torch.Tensor:
    """Points of level ground under the rig, shape (rows, columns, 3)."""
    grid_y, grid_x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([grid_x, grid_y, torch.full_like(grid_x, z)], dim=-1)


step = float(side[1] - side[0])
middle = sum(bed) / 2
sizes = [view.size for view in views]
seen_by_three = rig_limit(models, level(middle), sizes=sizes).view_count >= 3
limit = float(rig_limit(models, level(middle), sizes=sizes).height[seen_by_three].median())
for name, believed in beliefs.items():
    bias = model_bias(models, believed, level(middle), sizes=sizes)
    shift = 1000 * bias.shift[seen_by_three]
    print(
        f"{name:15} predicted bias {float(shift[:, 2].mean()):+7.2f} mm, RMS "
        f"{float(shift[:, 2].square().mean().sqrt()):6.2f} mm; the views disagree by "
        f"{float(bias.residual_px[seen_by_three].mean()):.2f} px"
    )

# %% [markdown]
# Compare with the biases that were measured above. The fitted pinhole's mean even changes its sign:
# how much of a bowl is above and below zero depends on the part of the bed that is averaged. And
# note how little the views complain: a rig cannot tell by its residuals that its model is wrong by
# centimetres.
#
# ## At another depth
#
# The pinhole was fitted to the depths of this bed. Move the slider to bring the ground to another
# depth: the error of a model that merely fits depends on where it was fitted.

# %%
depths = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
pinholes = beliefs["Pinhole fitted"]
pages = []
for depth in depths:
    bias = model_bias(models, pinholes, level(calibration.water_z + depth), sizes=sizes)
    shift_z = torch.where(bias.view_count >= 3, bias.shift[..., 2], torch.nan)
    grid = HeightGrid(float(side[0]), float(side[0]), step, shift_z)
    pages.append(plot_error_maps({f"{100 * depth:.0f} cm deep": grid}, reach=0.03))
flip_book(pages, [f"ground {100 * depth:.0f} cm under water" for depth in depths], start=3)

# %% [markdown]
# ## How well must the water surface be known?
#
# Refraction in the model helps only as far as the model knows the water. Two things can be off: its
# level (it evaporates) and its tilt (the tank was moved). The dashed line is the rig's limit: the
# error that a tenth of a pixel of matching noise leaves. Where a curve crosses it, the water
# begins to matter more than the images. The curves are straight, so that their slopes tell where,
# even beyond the figure.

# %%
RISES_MM = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)


def rms_of(believed: Sequence[RefractiveProjectionModel], *, level_out: bool = False) -> float:
    """RMS error of Z on level ground; with ``level_out`` without what all points share."""
    shift = model_bias(models, believed, level(middle), sizes=sizes).shift[seen_by_three][:, 2]
    return float((shift - shift.mean() if level_out else shift).square().mean().sqrt())


moved = [[moved_surface(model, rise=-mm / 1000) for model in models] for mm in RISES_MM]
plot_error_curves(
    {
        "height": (RISES_MM, [rms_of(each) for each in moved]),
        "shape (without the common shift)": (
            RISES_MM,
            [rms_of(each, level_out=True) for each in moved],
        ),
    },
    x_label="Water higher than believed (mm)",
    limit=limit,
)

# %%
TILTS_DEG = (0.0, 0.5, 1.0, 1.5, 2.0)
tilted = [[moved_surface(model, tilt_deg=-tilt) for model in models] for tilt in TILTS_DEG]
plot_error_curves(
    {"height": (TILTS_DEG, [rms_of(each) for each in tilted])},
    x_label="Water more tilted than believed (degrees)",
    limit=limit,
)

# %%
per_mm = rms_of(moved[-1]) / RISES_MM[-1]
shape_per_mm = rms_of(moved[-1], level_out=True) / RISES_MM[-1]
per_degree = rms_of(tilted[-1]) / TILTS_DEG[-1]
print(f"heights reach the rig's limit ({1000 * limit:.2f} mm) when the water is off by")
print(f"  {limit / per_mm:5.1f} mm in level, or {limit / per_degree:.1f} degrees in tilt;")
print(f"  {limit / shape_per_mm:5.1f} mm in level for the shape alone")

# %% [markdown]
# A level that is off moves the whole bed by a part of it and hardly bends it: for shape, and for
# change measured against ground that did not move (see
# [Measuring Change](change.ipynb)), it is nearly harmless. For absolute depth it is not.
#
# Last, the prediction against a reconstruction: the same images, and a model whose water stands
# 5 mm too low.

# %%
measured = (
    height_errors(reconstruct(moved[-1]), truth).bias
    - height_errors(found["Refraction"], truth).bias
)
predicted = model_bias(models, moved[-1], level(middle), sizes=sizes).shift[seen_by_three][:, 2]
print(
    f"predicted shift {1000 * float(predicted.mean()):+.2f} mm, measured {1000 * measured:+.2f} mm"
)

# %% [markdown]
# ## Next Steps
#
# - [Refraction](../theory/refraction.md) has the equations.
# - [Measuring Change](change.ipynb) uses what was learned here about the water level.
# - [Conventions](../conventions.md) says how the water surface is written down.
