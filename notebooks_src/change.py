# %% [markdown]
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/tlancaster6/AquaMVS/blob/main/docs/tutorial/change.ipynb)
#
# # Measuring Change: a Bower Before and After
#
# A male cichlid digs a pit and heaps the sand up beside it. How much sand did he move, where, and
# how sure are we? This tutorial follows a bower over a few days, from the images to litres with an
# uncertainty, and shows what has to be checked before such a number is believed.

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
from dataclasses import replace
from pathlib import Path

import torch

from aquamvs import Pipeline, PipelineConfig
from aquamvs.datasets import SceneOptions, load_ground_truth, make_example
from aquamvs.evaluation import HeightGrid, height_difference
from aquamvs.io import load_height_map
from aquamvs.pathways import PipelineMode
from aquamvs.pipeline import frame_folder
from aquamvs.visualization import (
    change_frames,
    flip_book,
    plot_height_difference,
    plot_height_map,
    plot_volumes,
)

# %% [markdown]
# ## A series
#
# AquaMVS renders the series itself, so that the truth is known: the same bed on five mornings. On
# the first two *nothing* changes; then the bower grows. `BOWER` is the part of its final relief
# that it has on each day. `SCALE` is the size of the example: `small` has 5 cameras of 400 x 300
# pixels; `medium` and `full` have 13 cameras of 800 x 600 and of 1600 x 1200, and take longer in
# proportion. Images of your own take the command at the end of this page.

# %%
SCALE = "small"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
BOWER = (0.5, 0.5, 0.6, 0.8, 1.0)
DATASET = Path("demo") / f"series-{SCALE}"

if not DATASET.exists():
    series = [SceneOptions(bower_relief=part, depth=0.3) for part in BOWER]
    make_example(DATASET, scale=SCALE, options=series)

# %% [markdown]
# ## Height maps
#
# For change on a bed, a height map is what we want: one height above every place, each with its
# uncertainty. The surface sweep makes one for each frame. For your own images, set
# `pipeline_mode: surface` in `config.yaml` and call `aquamvs run config.yaml`.

# %%
config = PipelineConfig.from_yaml(DATASET / "config.yaml")
config = config.model_copy(update={"pipeline_mode": PipelineMode.SURFACE})
summary = Pipeline(config).run()
maps = [
    load_height_map(frame_folder(config.output_dir, status.frame).height_map)
    for status in summary.frames
]
plot_height_map(maps[0], title=DAYS[0])

# %% [markdown]
# The grids of the maps need not be the same: the later map is interpolated at the cells of the
# first.
#
# ## First, measure nothing
#
# Between Monday and Tuesday nothing happened. The difference of the two maps is therefore pure
# error, and the best test that there is: any "change" in it is one that the method makes up.

# %%
CORRELATION = 5 * maps[0].spacing
nothing = height_difference(maps[0], maps[1], min_significance=2, correlation_length=CORRELATION)
plot_height_difference(nothing)

# %%
known = torch.isfinite(nothing.significance)
beyond = (nothing.significance[known].abs() >= 2).double().mean()
blotches = nothing.rise[known].square().mean().sqrt()
print(f"the two maps differ by {1000 * blotches:.2f} mm RMS where nothing changed")
print(f"cells beyond two sigmas: {beyond:.2%} (4.6% if sigma were exact, less if it is cautious)")
print(f"area where change is detected: {1e4 * (nothing.area_up + nothing.area_down):.0f} cm²")

# %% [markdown]
# On the left, look at the grain: errors come in blotches about a window wide, not cell by cell,
# because neighbouring cells share most of their pixels. That is what `correlation_length` says, and
# why a volume is less certain than a sum of independent cells would be. On the right, single cells
# may pass two sigmas by chance; with this many cells, some always do. A region therefore counts
# only if it stands out *for the whole map*. Such regions are outlined on the left; here there
# should be none.

# %% [markdown]
# ## From Monday to Friday
#
# Red came up, blue went down. Look for the heap and the pit inside their outlines, and for a
# quiet bed around them: a tinge over the whole map would be a shift of the water level, not sand.

# %%
differences = [
    height_difference(maps[0], later, min_significance=2, correlation_length=CORRELATION)
    for later in maps[1:]
]
plot_height_difference(differences[-1])

# %% [markdown]
# ## Is it true?
#
# Here the truth is known. The true volumes are summed over the same cells as the measured ones.
# Look whether they lie within the ±, which are two sigmas: 95 of 100 should.

# %%
first = load_ground_truth(DATASET, frame=0).surface
x, y = maps[0].grid_xy()
start = HeightGrid(first.x0, first.y0, first.spacing, first.z).at(x, y)
within = []
for day, frame, found in zip(DAYS[1:], range(1, 5), differences, strict=True):
    later = load_ground_truth(DATASET, frame=frame).surface
    end = HeightGrid(later.x0, later.y0, later.spacing, later.z).at(x, y)
    rise = torch.from_numpy(start - end).nan_to_num(0.0)
    cell = 1000 * maps[0].spacing ** 2
    piled, dug = cell * rise.clamp(min=0).sum(), cell * (-rise).clamp(min=0).sum()
    print(
        f"{day:10} piled {1000 * found.volume_up:.3f} ± {2000 * found.volume_up_sigma:.3f} l "
        f"(true {piled:.3f}), dug {1000 * found.volume_down:.3f} ± "
        f"{2000 * found.volume_down_sigma:.3f} l (true {dug:.3f})"
    )
    if found.volume_up > 0:
        within.append(abs(1000 * found.volume_up - piled) <= 2000 * found.volume_up_sigma)
    if found.volume_down > 0:
        within.append(abs(1000 * found.volume_down - dug) <= 2000 * found.volume_down_sigma)
print(f"{sum(within)} of {len(within)} true volumes lie within the ± of a measured one")

# %% [markdown]
# Tuesday's zeros have no ±: nothing stood out, so nothing was summed. For the same reason a volume
# tends to be a little too small: ground that moved by less than the noise, as at the foot of a
# heap, is not in it, nor is it in its sigma. Had we summed single cells beyond two sigmas instead,
# much more of that foot would be missing:

# %%
last = differences[-1]
rose = last.significance >= 2
by_cell = 1000 * maps[0].spacing ** 2 * float(last.rise[rose].sum())
print(f"cell by cell: {by_cell:.3f} l; over regions: {1000 * last.volume_up:.3f} l")

# %% [markdown]
# ## The week
#
# A bar that grows from day to day, with error bars that do not overlap: that is a bower being
# built. A bar whose error bar reaches zero is not evidence of anything.

# %%
plot_volumes(differences, DAYS[1:])

# %% [markdown]
# Move the slider, or press Play.

# %%
flip_book(change_frames(maps, differences, DAYS), DAYS, start=4)

# %% [markdown]
# ## When the water level has moved
#
# Sigma describes errors of matching. An error that a whole map shares is not in it: if water
# evaporates between two recordings and nobody tells the calibration, the whole bed seems to shift.
# Name a part of the bed that nobody touches, and its shift is taken off, with its own uncertainty
# added to the volumes. Here we raise Friday's map by 2 mm and take it back, on the strip at the
# upper edge that four cameras or more see, away from the bower.

# %%
shifted = replace(maps[4], z=maps[4].z - 0.002)
strip = (y < y.min() + 0.3 * (y.max() - y.min())) & (maps[0].view_count >= 4)
for stable in (None, strip):
    found = height_difference(
        maps[0], shifted, min_significance=2, correlation_length=CORRELATION, stable=stable
    )
    name = "as it is" if stable is None else "levelled"
    print(
        f"{name}: piled {1000 * found.volume_up:.3f} ± {2000 * found.volume_up_sigma:.3f} l; "
        f"ground moved {1000 * found.offset:.2f} ± {2000 * found.offset_sigma:.2f} mm"
    )

# %% [markdown]
# `stable_scatter` of the result says whether sigma can be trusted: it is the spread of the
# significance on that ground, about 1 if sigma is right and less if it is cautious.

# %%
print(f"scatter on the stable ground: {found.stable_scatter:.2f} sigma")

# %% [markdown]
# ## On the command line
#
# The same for a run's output folder, or for height maps named one by one: figures, maps, numbers
# (`change.json`) and an animation (`change.gif`) in one folder.

# %%
command = ["aquamvs", "change", str(DATASET / "output")]
completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
print(completed.stdout)

# %% [markdown]
# ## Next Steps
#
# - [Why water matters](refraction.ipynb) shows what a wrong water level does to a surface.
# - [End-to-end reconstruction in Python](notebook.ipynb) shows how a height map is made.
# - `aquamvs change --help`, or the [command line guide](../cli_guide.rst).
