"""Figures of model errors: scales, RMS in the titles, the limit."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from aquamvs.errors import DataError
from aquamvs.evaluation import HeightGrid
from aquamvs.visualization import figure_png, plot_error_curves, plot_error_maps


def texts(figure: Figure) -> str:
    figure_png(figure)
    return "\n".join(item.get_text() for item in figure.findobj(mpl.text.Text))


def grid(error: float) -> HeightGrid:
    z = torch.full((20, 30), error)
    z[0, 0] = torch.nan
    return HeightGrid(0.0, 0.0, 0.01, z)


def test_each_panel_has_its_own_scale_unless_one_is_given() -> None:
    errors = {"small": grid(0.001), "large": grid(-0.08)}
    own = [axes.images[0].get_clim() for axes in plot_error_maps(errors).axes if axes.images]
    assert own[0] != own[1]
    figure = plot_error_maps(errors, reach=0.02, title="both")
    shared = [axes.images[0].get_clim() for axes in figure.axes if axes.images]
    assert shared == [(-20.0, 20.0)] * 2
    shown = texts(figure)
    assert "small: RMS 1 mm" in shown
    assert "large: RMS 80 mm" in shown


def test_unknown_errors_and_no_errors_say_so() -> None:
    assert "nothing: unknown" in texts(plot_error_maps({"nothing": grid(torch.nan)}))
    assert "no error to show" in texts(plot_error_maps({}))
    assert "no curve to show" in texts(plot_error_curves({}, x_label="x"))


def test_curves_are_in_millimetres_under_the_limit_line() -> None:
    figure = plot_error_curves({"a": ([0, 1], [0, 0.002])}, x_label="mm", limit=0.0005)
    curve, line = figure.axes[0].lines[:2]
    assert np.allclose(curve.get_ydata(), [0, 2])
    assert np.allclose(line.get_ydata(), 0.5)
    assert "rig's limit" in texts(figure)
    with pytest.raises(DataError, match="curve a: 1 errors for 2"):
        plot_error_curves({"a": ([0, 1], [0.0])}, x_label="mm")
