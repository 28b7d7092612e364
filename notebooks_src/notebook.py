# %% [markdown]
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/tlancaster6/AquaMVS/blob/main/docs/tutorial/notebook.ipynb)
#
# # End-to-end Reconstruction in Python
#
# From the images of a rig above a tank to a measured surface under water, one stage at a time. Each
# stage is a function that takes what the one before it returned, so you can stop anywhere, look,
# and change something. At the end, the whole chain runs in one call.

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

import torch
from IPython.display import Image

from aquamvs import Pipeline, PipelineConfig, export_mesh
from aquamvs.calibration import compute_undistortion_maps, load_calibration_data
from aquamvs.datasets import (
    fetch_published,
    has_ground_truth,
    load_ground_truth,
    make_example,
)
from aquamvs.dense import PatchMatch
from aquamvs.evaluation import HeightGrid, depth_errors, depth_limit, height_errors
from aquamvs.fusion import consistency_maps, fuse
from aquamvs.io import open_sources, write_image
from aquamvs.matching import SiftMatcher, match_sparse, select_pairs
from aquamvs.meshing import mesh_from_height_map
from aquamvs.pipeline import undistort_views, undistortion_maps
from aquamvs.surface import sweep_surface
from aquamvs.triangulation import TriangulationOptions, depth_range_per_view, triangulate
from aquamvs.visualization import (
    plot_consistency,
    plot_depth_comparison,
    plot_depth_map,
    plot_height_map,
    plot_matches,
    plot_point_cloud,
    plot_refracted_ray,
    plot_rig,
    plot_sparse_cloud,
    view_3d,
)

# %% [markdown]
# ## Dataset
#
# AquaMVS renders its own example: a sand bed with a cichlid's bower, seen through the water
# surface, with exact ground truth. `small` has 5 cameras of 400 x 300 pixels; `medium` and `full`
# have 13 cameras of 800 x 600 and of 1600 x 1200, and take longer in proportion. With
# `PUBLISHED = True` the images are real: the example dataset published with AquaMVS is downloaded
# once (without a network, a message says where it can be had). Nobody knows the truth of real
# images, so that what is compared with it below stays empty.

# %%
SCALE = "small"
PUBLISHED = False
FRAME = 0

DATASET = fetch_published() if PUBLISHED else Path("demo") / f"example-{SCALE}"
if not DATASET.exists():
    make_example(DATASET, scale=SCALE)
config = PipelineConfig.from_yaml(DATASET / "config.yaml")
truth = load_ground_truth(DATASET, frame=FRAME) if has_ground_truth(DATASET, FRAME) else None
known = truth.provenance["scene"] if truth else "unknown"
print(", ".join(config.camera_input_map), "and the truth:", known)

# %% [markdown]
# ## The rig
#
# A calibration says where the cameras stand, how they see, and where the water surface lies. Z
# points down, and the origin is the reference camera. In the plan, look for how many footprints
# cover each place: a point needs two cameras, and every further one makes it better.

# %%
calibration = load_calibration_data(config.calibration_path)
plot_rig(calibration)

# %% [markdown]
# Every ray bends where it enters the water. Below is the ray of one pixel near the corner of an
# image. The dotted line is where a camera model without refraction believes that it goes.

# %%
camera = calibration.ring_cameras[0]
undistortion = compute_undistortion_maps(calibration.cameras[camera])
model = calibration.projection_model(camera, undistortion.K_new)
width, height = calibration.cameras[camera].image_size
corner = model.K.new_tensor([0.05 * width, 0.05 * height])
plot_refracted_ray(model, corner)

# %% [markdown]
# `cast_ray` goes from a pixel to the ray under water, `project` back. The two agree to rounding:

# %%
origin, direction = model.cast_ray(corner)
pixel, valid = model.project(origin + 0.5 * direction)
print(f"there and back: {(pixel - corner).norm():.1e} px off")

# %% [markdown]
# ## Images
#
# One frame is one image from each camera, taken at the same instant. This is what a camera sees.

# %%
sources = open_sources(config.camera_input_map, calibration)
frames = sources.read_frame(FRAME)
picture = Path("demo") / "seen.png"
write_image(picture, frames.images[camera])
Image(str(picture))

# %% [markdown]
# The first stage removes lens distortion. It leaves refraction alone: that depends on depth, so no
# image can be corrected for it, and it stays in the camera model instead.

# %%
views = undistort_views(frames, calibration, undistortion_maps(calibration))
print({view.name: tuple(view.image.shape) for view in views})

# %% [markdown]
# ## Matches
#
# A matcher finds the same points in two images. SIFT needs no network; LightGlue and RoMa take its
# place by name. The lines should run almost parallel: one that crosses the others is a mistake.

# %%
pairs = select_pairs(views, num_neighbors=config.sparse_matching.num_neighbors)
matches = list(match_sparse(SiftMatcher(), views, pairs))
first = matches[0]
plot_matches(views[first.reference].image, views[first.source].image, first)

# %% [markdown]
# ## Sparse points
#
# Triangulation joins the matches of all pairs into tracks, intersects their refracted rays, and
# drops what does not fit. Each point knows how many cameras agree on it and how uncertain it is.
# Two cameras alone cannot tell a mistake from a point, so we ask for three.

# %%
sparse = triangulate(views, matches, TriangulationOptions(min_views=3))
plot_sparse_cloud(sparse.to_point_cloud(), calibration)

# %%
print(
    f"{len(sparse):,} points from {sum(len(m) for m in matches):,} matches; "
    f"median uncertainty {1000 * sparse.sigma.median():.2f} mm along the ray, "
    f"keypoints good to {sparse.pixel_sigma:.2f} px"
)

# %% [markdown]
# ## Depth maps
#
# Sparse points tell each camera between which depths to look, and where to start. PatchMatch then
# gives every pixel a slanted plane: it tries the planes of its neighbours and small changes, and
# keeps the one on which the other cameras agree. Its own uncertainty is on the right: it should be
# largest where the bed is steep, bare, or seen by few cameras.

# %%
ranges = depth_range_per_view(sparse, views)
depth_maps = {}
for view in views.references:
    others = [other for other in views if other is not view]
    depth_maps[view.name] = PatchMatch().estimate(view, others, ranges[view.name], sparse.points)
plot_depth_map(depth_maps[camera])

# %% [markdown]
# Against the truth, the error is shown in units of the rig's limit: the error that a tenth of a
# pixel of matching noise leaves at that place.

# %%
true_depth, limit = None, None
if truth is not None:
    true_depth = truth.depth(camera)
    models, sizes = [view.model for view in views], [view.size for view in views]
    limit = depth_limit(models, model, true_depth, sizes=sizes).sigma
plot_depth_comparison({"PatchMatch": depth_maps[camera]}, true_depth, limit=limit)

# %%
if true_depth is not None:
    errors = depth_errors(depth_maps[camera], true_depth, limit)
    print(
        f"median error {1000 * errors.median_abs:.2f} mm = {errors.median_over_limit:.1f} x the "
        f"limit, RMS {1000 * errors.rms:.2f} mm, {errors.coverage:.0%} of the image"
    )

# %% [markdown]
# ## Fusion
#
# Fusion keeps the points on which several depth maps agree within their own uncertainty, averages
# them, and leaves out what one camera alone claims. First, how many cameras agree with each depth
# of this one; then the cloud. Look for clean edges around the rocks: stray points would hang in the
# water above them.

# %%
estimated = list(depth_maps.values())
consistency = consistency_maps(views.references, estimated)
plot_consistency(next(each for each in consistency if each.camera == camera))

# %% [markdown]
# On the left, dark places are those that this camera alone claims: at the edges of rocks, and where
# it is the only one to look. On the right, low shares are places where the others contradict.

# %%
cloud = fuse(views.references, estimated)
plot_point_cloud(cloud)

# %%
pixels = sum(int(depth_map.valid.sum()) for depth_map in depth_maps.values())
print(
    f"{pixels:,} depths became {len(cloud):,} points, each seen alike by "
    f"{cloud.view_count.double().mean():.1f} cameras on average"
)

# %% [markdown]
# ## A height map
#
# Where the scene is a bed seen from above, there is a shorter way without any matches: the surface
# sweep moves a height map up and down until all cameras agree. Bright is high, and the lines join
# places of equal height. The middle panel is the error against the truth: look for the relief in
# it. Where the relief does not show, it was measured correctly.

# %%
height_map = sweep_surface(views)
error = None
if truth is not None:
    surface = truth.surface
    true_surface = HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)
    error = height_map.z - torch.from_numpy(true_surface.at(*height_map.grid_xy()))
plot_height_map(height_map, error=error)

# %%
if truth is not None:
    heights = height_errors(height_map, true_surface)
    print(
        f"median error {1000 * heights.median_abs:.2f} mm, RMS {1000 * heights.rms:.2f} mm; away "
        f"from steps {1000 * heights.away_from_steps.rms:.2f} mm, near them "
        f"{1000 * heights.near_steps.rms:.2f} mm; {heights.coverage:.0%} of the cells"
    )

# %% [markdown]
# A height map has one height above each place, so it cannot follow the wall of a rock or reach
# beneath it: that is what the errors near steps are.
#
# Turn it: drag with the mouse or a finger, use the arrow keys, zoom with Ctrl and the wheel.

# %%
view_3d(height_map)

# %% [markdown]
# ## Mesh and export
#
# The height map becomes a mesh with the colours of the bed, and the mesh a file that other programs
# open: PLY, OBJ, STL, or GLB for viewers on the web.

# %%
mesh = mesh_from_height_map(height_map)
target = Path("demo") / "bower.glb"
export_mesh(mesh, target)
print(f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} triangles in {target.as_posix()}")

# %% [markdown]
# ## All of it in one call
#
# `Pipeline(config).run()` takes the stages that the configuration selects over all frames and
# resumes where an earlier run stopped, as `aquamvs run config.yaml` does. For one frame,
# `run_frame` gives the results in memory too. These are the files that it leaves:

# %%
finished = Pipeline(config).run_frame(FRAME)
print(f"{config.pathway.name}: {len(finished.reconstruction.cloud):,} points")
for path in sorted(finished.folder.root.rglob("*.*")):
    print("  ", path.relative_to(finished.folder.root).as_posix())

# %% [markdown]
# ## Next Steps
#
# - [Benchmarking Reconstruction Pathways](benchmark.ipynb) runs all pathways on one frame and helps
#   to choose.
# - [Conventions](../conventions.md) is the one page on frames, pixels and units.
# - To reconstruct your own images, let `aquamvs init` write a `config.yaml`: see
#   [Bring your own rig](../own_rig.md).
