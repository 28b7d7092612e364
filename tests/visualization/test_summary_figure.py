"""The summary figure: three panels of one scene, bright where it is high."""

import numpy as np
import pytest
import torch

from aquamvs.errors import ShapeError
from aquamvs.types import HeightMap
from aquamvs.visualization import figure_png, plot_summary


def height_map(z: torch.Tensor) -> HeightMap:
    known = z.isfinite()
    color = torch.zeros(*z.shape, 3)
    return HeightMap(0.0, 0.0, 0.01, z, torch.zeros_like(z), known.float(), known.int(), color)


def heap() -> torch.Tensor:
    place = torch.linspace(-1, 1, 60)
    z = 1.5 - 0.05 * torch.exp(-4 * (place[:, None] ** 2 + place[None, :] ** 2))
    z[:, :5] = torch.nan
    return z


def test_relief_is_bright_on_the_heap_and_grey_where_unknown() -> None:
    figure = plot_summary(torch.rand(30, 40, 3), height_map(heap()))
    figure_png(figure)
    relief = np.asarray(figure.axes[1].images[0].get_array())
    assert relief[30, 32, :2].mean() > relief[2:8, 50:58, :2].mean() + 0.2
    assert np.allclose(relief[10, 2, :3], 0xDD / 255, atol=0.01)


def test_error_panel_names_its_median_and_is_left_out_without_truth() -> None:
    z = heap()
    error = torch.full_like(z, -0.0021)
    figure = plot_summary(torch.rand(30, 40, 3), height_map(z), error, title="tank")
    assert "median 2.1 mm" in figure.axes[2].get_title()
    without = plot_summary(torch.rand(30, 40, 3), height_map(z))
    assert len(without.axes) == len(figure.axes) - 2  # the panel and its colour bar


def test_shapes_are_checked_and_an_empty_map_says_so() -> None:
    z = heap()
    with pytest.raises(ShapeError, match="image"):
        plot_summary(torch.rand(30, 40), height_map(z))
    with pytest.raises(ShapeError, match="error"):
        plot_summary(torch.rand(30, 40, 3), height_map(z), z[:5])
    empty = plot_summary(torch.rand(30, 40, 3), height_map(torch.full((5, 5), torch.nan)))
    assert "empty" in empty.axes[0].texts[0].get_text()
