"""Correspondences between two images."""

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from torch import Tensor

from ..errors import ShapeError
from ..types import Matches
from .canvas import SEQUENTIAL, PlotFigure, numpy_image, thinned_extent

_WIDTH = 9.5
"""Inches."""

_GAP = 0.02
"""Space between the images, as a part of the reference's width."""


def plot_matches(
    reference: Tensor, source: Tensor, matches: Matches, *, max_shown: int = 150
) -> PlotFigure:
    """Two images side by side and lines between matched points, coloured by score.

    Args:
        reference: Image of ``matches.reference``, RGB, shape (H, W, 3), in [0, 1].
        source: Image of ``matches.source``, RGB, shape (H', W', 3), in [0, 1].
        matches: Correspondences between the two.
        max_shown: Lines drawn at most, spread evenly over the scores.

    Returns:
        The figure; without matches it shows the images and says so.

    Raises:
        ShapeError: An image has another shape.

    Example:
        >>> from aquamvs.visualization import plot_matches
        >>> from aquamvs.matching import create_matcher
        >>> matches = create_matcher("sift").match(views["cam0"], views["cam1"])
        >>> figure = plot_matches(views["cam0"].image, views["cam1"].image, matches, max_shown=20)
        >>> [panel.get_title() for panel in figure.axes]
        ['cam0 - cam1: ... matches, 20 drawn', '']
    """
    for name, image in (("reference", reference), ("source", source)):
        if image.ndim != 3 or image.shape[2] != 3:
            raise ShapeError(name, tuple(image.shape), "(H, W, 3)")
    shift = reference.shape[1] * (1 + _GAP)
    tallest = max(reference.shape[0], source.shape[0])
    figure = PlotFigure(_WIDTH, 0.5 + 0.92 * _WIDTH * tallest / (shift + source.shape[1]))
    axes = figure.subplots()
    left, right, bottom, _ = thinned_extent(tuple(reference.shape))
    axes.imshow(numpy_image(reference.clamp(0, 1)), extent=(left, right, bottom, -0.5))
    left, right, low, _ = thinned_extent(tuple(source.shape))
    axes.imshow(numpy_image(source.clamp(0, 1)), extent=(left + shift, right + shift, low, -0.5))
    axes.set_xlim(-0.5, right + shift)
    axes.set_ylim(max(bottom, low), -0.5)
    axes.set_axis_off()
    shown = _spread(matches.scores, max_shown)
    start = matches.reference_pixels[shown].double().cpu().numpy()
    end = matches.source_pixels[shown].double().cpu().numpy() + np.array([shift, 0.0])
    norm = Normalize(0.0, 1.0)
    colors = mpl.colormaps[SEQUENTIAL](norm(matches.scores[shown].double().cpu().numpy()))
    if len(shown):
        axes.add_collection(
            LineCollection(list(np.stack([start, end], axis=1)), colors=colors, linewidths=0.7)
        )
        for pixels in (start, end):
            axes.scatter(pixels[:, 0], pixels[:, 1], s=5, c=colors, linewidths=0)
        mappable = ScalarMappable(norm, SEQUENTIAL)
        figure.colorbar(mappable, ax=axes, label="Score", fraction=0.03, pad=0.01, shrink=0.9)
    count = f"{len(matches)} matches" if len(matches) else "no matches"
    drawn = f", {len(shown)} drawn" if len(shown) < len(matches) else ""
    axes.set_title(f"{matches.reference} - {matches.source}: {count}{drawn}", fontsize=10)
    return figure


def _spread(scores: Tensor, count: int) -> Tensor:
    """Indices of ``count`` items spread evenly over the ranks of their scores, worst first."""
    order = torch.argsort(scores.cpu(), stable=True)
    if len(order) <= count:
        return order
    return order[torch.linspace(0, len(order) - 1, count).round().long()]
