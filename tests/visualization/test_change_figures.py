"""Figures of change: what they show, on one scale, as files and as a flip book."""

import io
import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from aquamvs.errors import DataError
from aquamvs.evaluation import HeightDifference, height_difference
from aquamvs.types import HeightMap
from aquamvs.visualization import (
    change_frames,
    figure_png,
    figures_gif,
    flip_book,
    plot_height_difference,
    plot_volumes,
)


def height_map(heap: float, *, side: int = 60) -> HeightMap:
    z = torch.full((side, side), 1.5)
    z[20:30, 20:30] -= heap
    z[40:50, 40:50] += heap / 2
    z[0] = torch.nan
    known = z.isfinite()
    sigma = torch.where(known, 0.0005, torch.nan)
    color = torch.full((side, side, 3), 0.5)
    return HeightMap(0.2, -0.1, 0.005, z, sigma, known.float(), known.int(), color)


def series() -> tuple[list[HeightMap], list[HeightDifference]]:
    maps = [height_map(heap) for heap in (0.0, 0.01, 0.02)]
    return maps, [height_difference(maps[0], each, min_significance=2) for each in maps[1:]]


def texts(figure: Figure) -> str:
    figure_png(figure)
    return "\n".join(item.get_text() for item in figure.findobj(mpl.text.Text))


def test_the_title_states_the_volumes_that_the_difference_holds() -> None:
    _, (_, last) = series()
    litres = 1000 * last.volume_up
    assert litres == pytest.approx(1000 * 100 * 0.005**2 * 0.02, rel=1e-4)
    assert f"piled {litres:.3f} ± {2000 * last.volume_up_sigma:.3f} l" in texts(
        plot_height_difference(last)
    )


def test_both_signs_are_outlined_and_unknown_cells_are_grey() -> None:
    _, (_, last) = series()
    figure = plot_height_difference(last, reach=0.02)
    change = figure.axes[0]
    assert len([c for c in change.collections if isinstance(c, mpl.contour.ContourSet)]) == 2
    image = change.images[0]
    assert image.get_clim() == (-20.0, 20.0)
    assert np.isnan(np.asarray(image.get_array(), dtype=float)[0]).all()


def test_bars_are_volumes_with_two_sigma() -> None:
    _, differences = series()
    figure = plot_volumes(differences, ["Monday", "Tuesday"])
    axes = figure.axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    expected = [1000 * each.volume_up for each in differences]
    expected += [-1000 * each.volume_down for each in differences]
    assert heights == pytest.approx(expected)
    assert "Tuesday" in texts(figure)
    with pytest.raises(DataError, match="1 labels for 2"):
        plot_volumes(differences, ["Monday"])
    assert "no change" in texts(plot_volumes([]))


def test_frames_share_size_and_scale_and_the_first_shows_no_change() -> None:
    maps, differences = series()
    frames = change_frames(maps, differences)
    scales = {frame.axes[1].images[0].get_clim() for frame in frames}
    assert len(scales) == 1
    first = np.asarray(frames[0].axes[1].images[0].get_array(), dtype=float)
    assert set(first[np.isfinite(first)]) == {0.0}
    with pytest.raises(DataError, match="one difference fewer"):
        change_frames(maps, differences[:1])


def test_maps_on_another_grid_are_shown_on_that_of_the_first() -> None:
    maps = [height_map(0.0), height_map(0.02, side=70)]
    frames = change_frames(maps, [height_difference(*maps, min_significance=2)])
    assert len({frame.axes[0].get_xlim() for frame in frames}) == 1
    assert len(figures_gif(frames)) > 0


def test_gif_has_a_picture_for_each_frame_and_the_same_bytes_twice() -> None:
    maps, differences = series()
    data = figures_gif(change_frames(maps, differences))
    assert data == figures_gif(change_frames(maps, differences))
    with Image.open(io.BytesIO(data)) as animation:
        assert animation.n_frames == 3
        shown = []
        for index in range(3):
            animation.seek(index)
            shown.append(np.asarray(animation.convert("RGB"), dtype=int))
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(shown))
    assert len({picture.shape for picture in shown}) == 1


def test_a_gif_needs_figures_of_one_size() -> None:
    maps, differences = series()
    frames = change_frames(maps, differences)
    with pytest.raises(DataError, match="0 figures"):
        figures_gif([])
    with pytest.raises(DataError, match="one size"):
        figures_gif([frames[0], plot_volumes(differences)])


def test_flip_book_holds_every_picture_and_shows_the_one_asked_for() -> None:
    maps, differences = series()
    book = flip_book(change_frames(maps, differences), ["a<b", "two", "three"], start=1)
    page = book._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 3
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert re.findall(r'data-label="(\w+)" src="[^"]+">', page) == ["two"]  # the others are hidden
    assert "@" not in re.sub(r'src="[^"]+"', "", page)
    assert "http" not in page


@pytest.mark.parametrize(("labels", "start"), [(["one"], 0), (["a", "b", "c"], 3)])
def test_flip_book_needs_a_label_for_each_and_a_start_among_them(
    labels: list[str], start: int
) -> None:
    maps, differences = series()
    with pytest.raises(DataError, match="expected at least one figure"):
        flip_book(change_frames(maps, differences), labels, start=start)
