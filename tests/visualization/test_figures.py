"""Figures hold what they say they show, survive empty input, and leave no trace."""

import dataclasses
import io
import itertools
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from aquamvs.benchmark.results import (
    Accuracy,
    BenchmarkResult,
    PathwayResult,
    StageTiming,
    Status,
    SurfaceAccuracy,
    Timing,
)
from aquamvs.calibration import CalibrationData, CameraData
from aquamvs.errors import DataError, ShapeError
from aquamvs.fusion import ConsistencyMap
from aquamvs.pathways import Stage
from aquamvs.types import DepthMap, HeightMap, Matches, PointCloud
from aquamvs.visualization import (
    figure_png,
    figure_svg,
    plot_accuracy,
    plot_consistency,
    plot_depth_comparison,
    plot_depth_map,
    plot_height_map,
    plot_matches,
    plot_point_cloud,
    plot_refracted_ray,
    plot_rig,
    plot_runtime_and_points,
    plot_sparse_cloud,
    plot_stage_times,
)


def texts(figure: Figure) -> str:
    """All text of a figure, drawn once so that ticks exist."""
    figure_png(figure)
    return "\n".join(item.get_text() for item in figure.findobj(mpl.text.Text))


def images(figure: Figure) -> list[AxesImage]:
    return [image for axes in figure.axes for image in axes.images]


def depth_map(depth: Tensor) -> DepthMap:
    known = depth.isfinite()
    sigma = torch.where(known, 0.001, torch.nan)
    return DepthMap("cam0", depth, known.float(), sigma, torch.eye(3))


def height_map(z: Tensor) -> HeightMap:
    known = z.isfinite()
    sigma = torch.where(known, 0.001, torch.nan)
    return HeightMap(0.0, 1.0, 0.01, z, sigma, known.float(), known.int(), torch.zeros(*z.shape, 3))


def cloud(count: int) -> PointCloud:
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    return PointCloud(
        points,
        points,
        torch.zeros(count, 3),
        torch.ones(count),
        torch.ones(count),
        torch.full((count,), 3, dtype=torch.int32),
    )


def test_far_outliers_do_not_shrink_a_cloud_and_are_counted() -> None:
    sane = cloud(3000)
    points = sane.points.clone()
    points[:3] += 40.0
    strayed = PointCloud(points, *(getattr(sane, name) for name in CLOUD_FIELDS))
    for plot in (plot_point_cloud, plot_sparse_cloud):
        figure = plot(strayed)
        low, high = figure.axes[1].get_xlim()
        assert abs(high - low) < 2
        assert "3 far outliers not shown" in texts(figure)
        assert "outliers" not in texts(plot(sane))


def test_consistency_shows_counts_and_shares_and_greys_what_is_unknown() -> None:
    agreeing = torch.tensor([[0, 1], [2, 4]], dtype=torch.int16)
    seeing = torch.tensor([[0, 4], [4, 4]], dtype=torch.int16)
    figure = plot_consistency(ConsistencyMap("cam3", agreeing, seeing))
    counts, share = (np.asarray(image.get_array(), dtype=float) for image in images(figure)[:2])
    assert np.isnan(counts[0, 0])
    assert counts[1].tolist() == [2, 4]
    assert share[1].tolist() == [0.5, 1]
    assert "cam3: 67% of the depths are confirmed" in texts(figure)
    empty = torch.zeros(4, 4, dtype=torch.int16)
    assert "no depth" in texts(plot_consistency(ConsistencyMap("cam3", empty, empty)))


CLOUD_FIELDS = ("colors", "normals", "confidence", "sigma", "view_count")


def rig(*, tilt: float = 0.0, auxiliary: bool = False) -> CalibrationData:
    K = torch.tensor([[500.0, 0, 199.5], [0, 500, 149.5], [0, 0, 1]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    cameras = {
        name: CameraData(
            name,
            K,
            torch.zeros(5).double(),
            eye,
            torch.tensor([-x, 0.0, 0.0]).double(),
            (400, 300),
            is_auxiliary=auxiliary and name == "east",
        )
        for name, x in (("west", -0.2), ("east", 0.2))
    }
    normal = torch.tensor([tilt, 0.0, -1.0], dtype=torch.float64)
    return CalibrationData(cameras, 1.0, normal / normal.norm(), 1.0, 1.333)


def benchmark(*rows: PathwayResult) -> BenchmarkResult:
    return BenchmarkResult(results=list(rows), frame=0, config_path="c", output_dir="o")  # type: ignore[arg-type]


def good(name: str = "Surface sweep", seconds: float = 2.0, points: int = 5000) -> PathwayResult:
    errors = SurfaceAccuracy(
        median_abs_m=1e-3, rms_m=2e-3, coverage=0.9, median_over_limit=1.5, rms_over_limit=4.0
    )
    return PathwayResult(
        pathway_name=name,
        status=Status.OK,
        timing=Timing(
            {
                Stage.UNDISTORTION: StageTiming(250 * seconds, 0.0, 0.0),
                Stage.SURFACE_SWEEP: StageTiming(750 * seconds, 0.0, 0.0),
            }
        ),
        point_count=points,
        accuracy=Accuracy(depth=errors),
    )


def failed() -> PathwayResult:
    return PathwayResult(pathway_name="RoMa + full", status=Status.FAILED, error="why")


def test_tick_labels_of_a_single_pathway_do_not_overlap() -> None:
    figure = plot_runtime_and_points(benchmark(good(seconds=123.4, points=1_152_497)))
    figure_png(figure)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for axes in figure.axes:
        boxes = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
        shown = [box for box in boxes if axes.bbox.x0 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1]
        assert len(shown) >= 3
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(shown))


def bars(figure: Figure, panel: int = 0) -> list[float]:
    return [patch.get_x() + patch.get_width() for patch in figure.axes[panel].patches]


def test_bars_are_as_long_as_time_and_points_and_say_so() -> None:
    figure = plot_runtime_and_points(
        benchmark(good("a", 2.0, 912_000), failed(), good("b", 3.0, 400_000))
    )
    assert bars(figure, 0) == pytest.approx([2.0, 3.0])
    assert bars(figure, 1) == pytest.approx([912_000, 400_000])
    shown = texts(figure)
    for label in ("2 s", "3 s", "912 k", "400 k", "Total time (s)", "RoMa + full"):
        assert label in shown
    assert shown.count("failed") == 2


def test_bars_of_very_different_lengths_get_a_log_axis_with_the_right_numbers() -> None:
    figure = plot_runtime_and_points(benchmark(good("a", 2.0, 8_312), good("b", 2000.0, 1_812_333)))
    assert figure.axes[0].get_xscale() == "log"
    assert bars(figure, 0) == pytest.approx([2.0, 2000.0])
    shown = texts(figure)
    for label in ("log scale", "8,312", "1.81 M", "2,000 s", "100 k"):
        assert label in shown


def test_stacked_stages_add_up_to_the_total_in_the_tables_colours() -> None:
    figure = plot_stage_times(benchmark(good(seconds=4.0), failed()))
    sweep = figure.axes[0].containers[1]
    assert sweep[0].get_x() + sweep[0].get_width() == pytest.approx(4.0)
    shown = texts(figure)
    assert "undistortion" in shown
    assert "surface sweep" in shown
    assert "fusion" not in shown  # no pathway ran it
    assert "failed" in shown


def test_accuracy_stands_in_units_of_the_limit() -> None:
    figure = plot_accuracy(benchmark(good(), failed()))
    median, rms = (c.get_offsets()[0, 0] for c in figure.axes[0].collections[:2])
    assert (median, rms) == (1.5, 4.0)
    shown = texts(figure)
    assert "Depth maps" in shown
    assert "Height map" not in shown
    assert "failed" in shown


@pytest.mark.parametrize("plot", [plot_runtime_and_points, plot_stage_times, plot_accuracy])
def test_benchmark_figures_name_the_weights_and_rows_do_not_overlap(plot) -> None:
    rows = [
        dataclasses.replace(good("LightGlue + full"), weights="LightGlue (bundled)"),
        good("Surface sweep"),
        dataclasses.replace(good("RoMa + full"), weights="RoMa-style (bundled)"),
    ]
    figure = plot(benchmark(*rows))
    shown = texts(figure)
    assert "LightGlue + full\nLightGlue (bundled)" in shown
    assert "RoMa + full\nRoMa-style (bundled)" in shown
    renderer = figure.canvas.get_renderer()
    labels = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    assert all(below.y1 < above.y0 for above, below in itertools.pairwise(labels))
    assert all(label.x0 >= 0 for label in labels)


@pytest.mark.parametrize("plot", [plot_runtime_and_points, plot_stage_times, plot_accuracy])
@pytest.mark.parametrize("rows", [[], [failed()], [good()], [failed(), good(), failed()]])
def test_benchmark_figures_take_any_rows(plot, rows: list[PathwayResult]) -> None:
    figure = plot(benchmark(*rows))
    assert figure_png(figure).startswith(b"\x89PNG")


def test_a_depth_map_shows_its_depth_and_millimetres_of_sigma() -> None:
    depth = torch.linspace(0.4, 0.6, 600).reshape(20, 30)
    depth[0] = torch.nan
    figure = plot_depth_map(depth_map(depth))
    shown, sigma = (image.get_array() for image in images(figure)[:2])
    assert np.allclose(shown.filled(np.nan), depth.numpy(), equal_nan=True)
    assert float(np.nanmax(sigma.filled(np.nan))) == pytest.approx(1.0)
    assert "95% of the image" in texts(figure)


def test_maps_are_thinned_but_keep_their_place() -> None:
    depth = torch.rand(2400, 1600) + 1
    image = images(plot_depth_map(depth_map(depth)))[0]
    assert image.get_array().shape == (800, 534)
    assert image.get_extent() == [-0.5, 1599.5, 2399.5, -0.5]


def test_compared_depth_maps_share_one_scale_and_errors_are_signed_millimetres() -> None:
    truth = torch.linspace(0.4, 0.6, 600).reshape(20, 30)
    maps = {"up": depth_map(truth - 0.002), "none": None, "down": depth_map(truth + 0.004)}
    figure = plot_depth_comparison(maps, truth)
    depths, errors = images(figure)[:4], images(figure)[4:6]
    assert len({image.get_clim() for image in depths}) == 1
    assert [round(float(e.get_array().mean()), 3) for e in errors] == [-2.0, 4.0]
    low, high = errors[0].get_clim()
    assert low == -high
    shown = texts(figure)
    assert "no depth map" in shown
    assert "median 4 mm" in shown
    scaled = plot_depth_comparison(maps, truth, limit=torch.full_like(truth, 0.001))
    assert float(images(scaled)[5].get_array().mean()) == pytest.approx(4.0, rel=1e-3)
    assert "rig's limit" in texts(scaled)


def test_a_height_map_lies_in_world_metres_with_y_down() -> None:
    x = torch.linspace(0, 1, 30)
    figure = plot_height_map(height_map((1.5 - 0.1 * x).expand(20, 30).clone()))
    axes = figure.axes[0]
    assert images(figure)[0].get_extent() == pytest.approx([-0.005, 0.295, 1.195, 0.995])
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    levels = axes.collections[0].levels
    assert 1.4 <= min(levels[1:-1]) <= max(levels[1:-1]) <= 1.5
    with_error = plot_height_map(height_map(torch.rand(20, 30)), error=torch.full((20, 30), 0.003))
    assert float(images(with_error)[1].get_array().mean()) == pytest.approx(3.0)
    assert "Error of Z (mm)" in texts(with_error)


def test_lines_join_matched_pixels() -> None:
    reference, source = torch.zeros(30, 40, 3), torch.zeros(30, 50, 3)
    start, end = torch.tensor([[5.0, 6.0], [20.0, 9.0]]), torch.tensor([[7.0, 8.0], [30.0, 12.0]])
    matches = Matches("a", "b", start, end, torch.tensor([0.9, 0.2]))
    figure = plot_matches(reference, source, matches)
    segments = figure.axes[0].collections[0].get_segments()
    left = images(figure)[1].get_extent()[0] + 0.5
    assert np.allclose(segments[1], [[5, 6], [7 + left, 8]])  # best score drawn last, on top
    assert np.allclose(segments[0], [[20, 9], [30 + left, 12]])
    many = Matches("a", "b", *(torch.rand(500, 2) for _ in "ab"), torch.rand(500))
    drawn = plot_matches(reference, source, many, max_shown=40)
    assert len(drawn.axes[0].collections[0].get_segments()) == 40
    assert "500 matches, 40 drawn" in texts(drawn)


def test_the_refracted_ray_obeys_snell_on_the_page() -> None:
    model = rig().projection_model("west")
    figure = plot_refracted_ray(model, torch.tensor([399.0, 149.5]))
    x, y = next(
        line.get_xydata().T for line in figure.axes[0].lines if line.get_label() == "refracted ray"
    )
    sines = [dx / np.hypot(dx, dy) for dx, dy in zip(np.diff(x), np.diff(y), strict=True)]
    assert sines[0] / sines[1] == pytest.approx(1.333, rel=1e-9)
    assert y[:2] == pytest.approx([-1.0, 0.0])
    assert f"{np.degrees(np.arcsin(sines[0])):.1f}° in air" in texts(figure)


@pytest.mark.parametrize("tilt", [0.0, 0.1])
def test_the_rigs_side_view_bends_rays_at_the_water(tilt: float) -> None:
    calibration = rig(tilt=tilt, auxiliary=True)
    figure = plot_rig(calibration, floor_z=1.5)
    plan, side = figure.axes[:2]
    n = calibration.interface_normal.numpy()
    paths = [line.get_xydata() for line in side.lines if len(line.get_xydata()) == 3]
    assert len(paths) == 4
    for path in paths:
        # The middle point lies on the water's plane (tilted about Y, so within this view).
        assert n[0] * path[1, 0] + n[2] * (path[1, 1] - 1.0) == pytest.approx(0, abs=1e-12)
        assert path[2, 1] == pytest.approx(1.5)
    assert len(plan.patches) == 2
    shown = texts(figure)
    assert "west" in shown
    assert "auxiliary camera" in shown


def test_clouds_are_thinned_to_what_can_be_seen() -> None:
    figure = plot_point_cloud(cloud(3000), max_points=1000)
    assert len(figure.axes[1].collections[0].get_offsets()) == 1000
    assert "3,000 points" in texts(figure)
    sparse = plot_sparse_cloud(cloud(50), rig())
    assert "cameras" in texts(sparse)
    assert "Views that agree" in texts(sparse)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plot_point_cloud(cloud(0)),
        lambda: plot_sparse_cloud(cloud(0)),
        lambda: plot_height_map(height_map(torch.full((3, 3), torch.nan))),
        lambda: plot_depth_comparison({"a": None}),
    ],
)
def test_nothing_to_show_is_said_in_words(figure) -> None:
    shown = texts(figure())
    assert "empty" in shown or "no depth map" in shown


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plot_depth_map(depth_map(torch.full((20, 30), torch.nan))),
        lambda: plot_depth_map(depth_map(torch.full((20, 30), 0.5))),
        lambda: plot_depth_comparison(
            {"a": depth_map(torch.full((20, 30), torch.nan))}, torch.ones(20, 30)
        ),
        lambda: plot_depth_comparison({"a": depth_map(torch.ones(20, 30))}, torch.ones(20, 30)),
        lambda: plot_height_map(height_map(torch.full((20, 30), 1.5))),
        lambda: plot_height_map(height_map(torch.ones(1, 1))),
        lambda: plot_matches(
            torch.zeros(20, 30, 3),
            torch.zeros(25, 20, 3),
            Matches("a", "b", torch.empty(0, 2), torch.empty(0, 2), torch.empty(0)),
        ),
        lambda: plot_point_cloud(cloud(1)),
        lambda: plot_sparse_cloud(cloud(1), rig()),
        lambda: plot_refracted_ray(
            rig().projection_model("west"), torch.tensor([199.5, 149.5])
        ),  # straight down
    ],
)
def test_degenerate_input_is_drawn_without_a_warning(figure) -> None:
    with Image.open(io.BytesIO(figure_png(figure()))) as image:
        assert np.ptp(np.asarray(image.convert("L"))) > 50  # something is on the page


def test_wrong_shapes_and_pixels_past_the_horizon_are_refused() -> None:
    with pytest.raises(ShapeError, match="depth map of a"):
        plot_depth_comparison({"a": depth_map(torch.ones(3, 3))}, torch.ones(4, 4))
    with pytest.raises(ShapeError, match="error"):
        plot_height_map(height_map(torch.ones(3, 3)), error=torch.ones(4, 4))
    nothing = Matches("a", "b", torch.empty(0, 2), torch.empty(0, 2), torch.empty(0))
    with pytest.raises(ShapeError, match="source"):
        plot_matches(torch.zeros(3, 3, 3), torch.zeros(3, 3), nothing)
    with pytest.raises(DataError, match="below the water"):
        plot_rig(rig(), floor_z=0.5)
    camera = rig().cameras["west"]
    across = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).double()
    calibration = CalibrationData(
        {"west": CameraData("west", camera.K, camera.dist_coeffs, across, camera.t, (400, 300))},
        1.0,
        torch.tensor([0.0, 0.0, -1.0]).double(),
        1.0,
        1.333,
    )
    with pytest.raises(DataError, match="past the horizon"):
        plot_refracted_ray(calibration.projection_model("west"), torch.tensor([200.0, 0.0]))


def test_the_same_figure_gives_the_same_bytes() -> None:
    for write in (figure_png, figure_svg):
        first, second = (write(plot_stage_times(benchmark(good()))) for _ in range(2))
        assert first == second


def test_figures_leave_pyplot_and_its_settings_alone() -> None:
    code = (
        "import sys, aquamvs.visualization as v\n"
        "assert 'matplotlib' not in sys.modules\n"
        "v.plot_depth_comparison\n"
        "import matplotlib as m\n"
        "rc = lambda: {k: m.rcParams[k] for k in m.rcParams if k != 'backend'}\n"
        "before = rc()\n"
        "figure = v.plot_depth_comparison({})\n"
        "v.figure_svg(figure); assert figure._repr_png_().startswith(b'\\x89PNG')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert rc() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
