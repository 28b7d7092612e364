# %% [markdown]
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/tlancaster6/AquaMVS/blob/main/docs/tutorial/benchmark.ipynb)
#
# # Benchmarking Reconstruction Pathways
#
# A *pathway* is one way from images to a surface: a matcher together with an engine.
#
# - **LightGlue**, **RoMa** and **SIFT** are matchers: they find the same points in several images.
#   With the engine `sparse` these points are triangulated and meshed, for a quick look; with `full`
#   they are the seeds of a depth map for every camera, and the depth maps are fused.
# - The **surface sweep** needs no matcher: it moves a height map of the bed up and down until all
#   cameras agree, and derives the depth maps from it.
#
# LightGlue and RoMa are networks. AquaMVS brings small ones of its own, trained on rendered scenes
# (`weights: bundled`), so that everything here runs without a network or a GPU, in a few minutes on
# two cores. On real footage prefer their authors' weights (`weights: official`), downloaded once.

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
from pathlib import Path

from aquamvs import PipelineConfig
from aquamvs.benchmark import BenchmarkResult
from aquamvs.calibration import load_calibration_data
from aquamvs.datasets import (
    fetch_published,
    has_ground_truth,
    load_ground_truth,
    make_example,
)
from aquamvs.evaluation import depth_limit
from aquamvs.io import load_depth_map
from aquamvs.visualization import (
    plot_accuracy,
    plot_depth_comparison,
    plot_runtime_and_points,
    plot_stage_times,
)

# %% [markdown]
# ## Dataset
#
# AquaMVS renders its own example: a sand bed with a cichlid's bower, seen through the water surface
# by a rig of cameras, with exact ground truth. `small` has 5 cameras of 400 x 300 pixels; `medium`
# and `full` have 13 cameras of 800 x 600 and of 1600 x 1200, and take longer in proportion. With
# `PUBLISHED = True` the images are real: the example dataset published with AquaMVS is downloaded
# once (without a network, a message says where it can be had). Nobody knows the truth of real
# images, so that errors stay empty and time and coverage decide. To benchmark your own images,
# point `DATASET` at the folder of your `config.yaml`.

# %%
SCALE = "small"
PUBLISHED = False
FRAME = 0

DATASET = fetch_published() if PUBLISHED else Path("demo") / f"example-{SCALE}"
CONFIG = DATASET / "config.yaml"
if not DATASET.exists():
    make_example(DATASET, scale=SCALE)
print(CONFIG.read_text())

# %% [markdown]
# ## Running the Benchmark
#
# The command line is the primary interface. Without `--pathways` it runs every pathway:
#
# ```console
# $ aquamvs benchmark config.yaml --frame 0
# ```
#
# In the table, look at time and coverage first, then at the median error *in units of the rig's
# limit*: the error that a tenth of a pixel of matching noise leaves at that distance. At 1 x the
# limit, a pathway is as good as the rig allows.

# %% tags=["measured"]
command = ["aquamvs", "benchmark", str(CONFIG), "--frame", str(FRAME)]
completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
print(completed.stdout)

# %% [markdown]
# The command leaves four things in the output folder: `benchmark.json` for programs,
# `benchmark.md` for notes, `benchmark.html` with figures for people, and one folder per pathway
# with its depth maps, clouds and meshes. A pathway that fails stays in the table as a failed row
# with its reason, and the command's exit code is then 1.

# %% [markdown]
# ## Loading Results Programmatically
#
# `benchmark.json` becomes the same `BenchmarkResult` that `run_benchmark(CONFIG, frame=0)` returns
# when you run the benchmark from Python instead.

# %%
config = PipelineConfig.from_yaml(CONFIG)
output = config.output_dir / "benchmark"
result = BenchmarkResult.from_json((output / "benchmark.json").read_text(encoding="utf-8"))
for row in result.results:
    found = f"{row.point_count:,} points" if row.ok else row.error
    print(f"{row.pathway_name:18} {row.status:7} {found}")

# %% [markdown]
# Each row holds what the table showed, with units in the names: `timing.total_time_ms`,
# `timing.stages[name].wall_time_ms`, `point_count`, `cloud_density` (points per square metre of
# surface covered), `coverage`, `accuracy` and `output_dir`.

# %% [markdown]
# ## Visualizing Results
#
# Time and size of the cloud, side by side. Look for a pathway whose right bar is long and whose
# left bar is short, and mind the axis: where bars differ much, it is logarithmic and says so.

# %% tags=["measured"]
plot_runtime_and_points(result)

# %% [markdown]
# More points are not better points: a dense cloud of a wrong surface is still wrong. The errors
# further down decide.

# %% [markdown]
# ## Stage Timing Breakdown
#
# Where does the time go? Every bar is cut into the stages of its pathway, in the order in which
# they run. The widest piece is the one worth making faster, or coarser.

# %% tags=["measured"]
plot_stage_times(result)

# %% tags=["measured"]
for row in [row for row in result.results if row.ok]:
    stage, timing = max(row.timing.stages.items(), key=lambda item: item[1].wall_time_ms)
    share = timing.wall_time_ms / row.timing.total_time_ms
    print(f"{row.pathway_name}: {share:.0%} of the time goes into {stage.replace('_', ' ')}")

# %% [markdown]
# ## Comparing Depth Maps
#
# `full` and the surface sweep give a ray depth for every pixel of every camera, so two pathways can
# be laid side by side: those that `COMPARE` names. Below, one camera's depth: the truth, then each
# pathway, on one colour scale; underneath, each one's error in units of the rig's limit. White is
# exact; grey is unknown. Look at where the errors sit: at edges, in shadows of the relief, or
# everywhere. Without truth, the depth maps alone are shown.

# %%
COMPARE = ("LightGlue + full", "Surface sweep")

calibration = load_calibration_data(config.calibration_path)
camera = calibration.ring_cameras[0]
depth_maps = {
    row.title: load_depth_map(row.output_dir / "depth_maps" / f"{camera}.npz")
    for row in result.results
    if row.pathway_name in COMPARE and row.output_dir
}
true_depth, limit = None, None
if has_ground_truth(DATASET, frame=FRAME):
    truth = load_ground_truth(DATASET, frame=FRAME)
    true_depth = truth.depth(camera)
    models = {
        name: calibration.projection_model(name, truth.intrinsics(name)) for name in truth.cameras
    }
    sizes = [calibration.cameras[name].image_size for name in models]
    limit = depth_limit(list(models.values()), models[camera], true_depth, sizes=sizes).sigma
plot_depth_comparison(depth_maps, true_depth, limit=limit)

# %% [markdown]
# The same over all cameras, as one number per pathway: the circle is the median error, the square
# the root mean square, which also counts the few gross errors. The dashed line is the rig's limit.

# %%
plot_accuracy(result)

# %%
for row in result.results:
    errors = row.accuracy.depth or row.accuracy.height if row.accuracy else None
    if errors is None or errors.median_over_limit is None:
        continue
    print(
        f"{row.pathway_name}: median {1000 * errors.median_abs_m:.2f} mm, "
        f"{errors.median_over_limit:.1f} x the rig's limit; RMS {1000 * errors.rms_m:.2f} mm; "
        f"{errors.coverage:.0%} covered"
    )

# %% [markdown]
# ## Selecting a Pathway
#
# No pathway is best at everything, but some are never the right choice: those that another one
# beats, being nowhere worse and somewhere better in time, error and coverage. Figures within 5 % of
# each other count as equal: another frame could turn them round. What remains is a trade. The next
# cell works it out from the numbers just measured, so on your images it may say something else.

# %% tags=["measured"]
SAME = 1.05
done = [row for row in result.results if row.ok]
scores: dict[str, tuple[float, float, float]] = {}
for row in done:
    errors = row.accuracy.depth or row.accuracy.height if row.accuracy else None
    coverage = errors.coverage if errors else row.coverage
    if coverage:
        rms_mm = 1000 * errors.rms_m if errors else float("inf")
        scores[row.pathway_name] = (row.timing.total_time_ms / 1000, rms_mm, 1 / coverage)


def beats(one: str, other: str) -> bool:
    """Whether a pathway is nowhere worse than another one, and somewhere better."""
    pairs = list(zip(scores[one], scores[other], strict=True))
    return all(a <= SAME * b for a, b in pairs) and any(SAME * a < b for a, b in pairs)


print(f"{'pathway':18} {'time':>8} {'RMS error':>10} {'coverage':>9}")
for name, (seconds, rms_mm, per_coverage) in scores.items():
    better = sorted((scores[other], other) for other in scores if beats(other, name))
    verdict = f"beaten by {better[0][1]}" if better else "worth considering"
    error = f"{rms_mm:.2f} mm" if rms_mm < float("inf") else "unknown"
    print(f"{name:18} {seconds:6.1f} s {error:>10} {1 / per_coverage:9.0%}  {verdict}")
for row in done:
    if row.pathway_name not in scores:
        seconds = row.timing.total_time_ms / 1000
        print(f"{row.pathway_name:18} {seconds:6.1f} s   points alone, for a quick look")

# %% tags=["measured"]
fastest = min(done, key=lambda row: row.timing.total_time_ms).pathway_name


def quickest_of_the_best(column: int) -> str:
    """The fastest of the pathways that are as good as the best one in a column."""
    best = min(score[column] for score in scores.values())
    good = [name for name, score in scores.items() if score[column] <= SAME * best]
    return min(good, key=lambda name: scores[name][0])


print(f"For a first look: {fastest}.")
if any(rms_mm < float("inf") for _, rms_mm, _ in scores.values()):
    print(f"Where errors hurt most: {quickest_of_the_best(1)}.")
print(f"Where gaps hurt most: {quickest_of_the_best(2)}.")

# %% [markdown]
# Two things the numbers cannot know. A height map has one height above each point of the bed, so
# walls, overhangs and fish need the depth maps of a `full` pathway. And the learned matchers earn
# their weights where images are hard: turbid, dim, or with little texture.

# %% [markdown]
# ## Next Steps
#
# - Set the pathway that you chose in your `config.yaml` (`pipeline_mode` and `matcher_type`) and
#   run it over all frames with `aquamvs run config.yaml`: see the
#   [command line guide](../cli_guide.rst).
# - [End-to-end reconstruction in Python](notebook.ipynb) takes a reconstruction apart, stage by
#   stage.
# - When a pathway fails, [Troubleshooting](../troubleshooting.md) explains its message.
