"""Tracks: which keypoints of which views show one scene point.

Matches of many pairs are joined into connected components. A point appears at most once in a view,
so a component with two keypoints of one view holds a wrong match. Such a component is grown again
match by match, the strongest first, leaving out every match that would bring two keypoints of a
view together (Kruskal's algorithm with that one constraint).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..types import Matches

_Indices = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tracks:
    """Observations grouped by scene point.

    Attributes:
        cameras: Camera names, sorted.
        track: Track of each observation, 0 to T - 1, ascending, shape (O,), int64.
        camera: Position of each observation's camera in ``cameras``, shape (O,), int64; at most
            one observation per track and camera.
        pixels: shape (O, 2), float64.
        scores: Mean score of the matches of each track, shape (T,), float32.

    Example:
        >>> import torch
        >>> from aquamvs.triangulation import build_tracks
        >>> from aquamvs.types import Matches
        >>> pixels = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
        >>> tracks = build_tracks([Matches("cam0", "cam1", pixels, pixels + 1, torch.ones(2))])
        >>> tracks.cameras, tracks.track.tolist(), tracks.camera.tolist()
        (('cam0', 'cam1'), [0, 0, 1, 1], [0, 1, 0, 1])
    """

    cameras: tuple[str, ...]
    track: Tensor
    camera: Tensor
    pixels: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        count = self.track.shape[0]
        if tuple(self.camera.shape) != (count,):
            raise ShapeError("camera", tuple(self.camera.shape), f"({count},)")
        if tuple(self.pixels.shape) != (count, 2):
            raise ShapeError("pixels", tuple(self.pixels.shape), f"({count}, 2)")

    def __len__(self) -> int:
        return self.scores.shape[0]

    @property
    def view_count(self) -> Tensor:
        """Observations of each track, shape (T,), int64."""
        return torch.bincount(self.track, minlength=len(self))

    def rows(self, camera: int) -> Tensor:
        """Positions of a camera's observations, ascending; no two belong to one track."""
        return (self.camera == camera).nonzero()[:, 0]

    def total(self, values: Tensor) -> Tensor:
        """Sum of ``values``, shape (O, ...), over each track, shape (T, ...).

        Camera by camera, so that no two summands of a track meet: the same bytes on every run and
        every device.
        """
        total = values.new_zeros(len(self), *values.shape[1:])
        for camera in range(len(self.cameras)):
            rows = self.rows(camera)
            total[self.track[rows]] += values[rows]
        return total

    def largest(self, values: Tensor) -> Tensor:
        """Largest of ``values``, shape (O,), in each track, shape (T,); -inf in an empty one."""
        largest = values.new_full((len(self),), -torch.inf)
        return largest.scatter_reduce(0, self.track, values, "amax")

    def to(self, device: str | torch.device) -> Tracks:
        """These tracks on ``device``."""
        return Tracks(
            self.cameras,
            self.track.to(device),
            self.camera.to(device),
            self.pixels.to(device),
            self.scores.to(device),
        )

    def select(self, keep: Tensor) -> Tracks:
        """The tracks of a mask, shape (T,), renumbered."""
        number = torch.cumsum(keep, 0) - 1
        rows = keep[self.track]
        return Tracks(
            self.cameras,
            number[self.track[rows]],
            self.camera[rows],
            self.pixels[rows],
            self.scores[keep],
        )

    def without(self, dropped: Tensor) -> Tracks:
        """These tracks less the observations of a mask, shape (O,)."""
        keep = ~dropped
        return Tracks(
            self.cameras, self.track[keep], self.camera[keep], self.pixels[keep], self.scores
        )


def build_tracks(matches: Sequence[Matches], *, quantum_px: float = 0.0) -> Tracks:
    """Join pairwise matches into tracks.

    The result does not depend on the order of the matches or on the direction of the pairs.

    Args:
        matches: Of any number of pairs.
        quantum_px: Keypoints of a view that fall into the same square of this side are one
            keypoint, at their mean. 0: only keypoints at exactly the same place, as those of a
            matcher that extracts the features of each view once.

    Returns:
        Tracks of two or more views, on the CPU, ordered by their first camera and pixel.

    Raises:
        ConfigError: ``quantum_px`` is negative.

    Example:
        >>> import torch
        >>> from aquamvs.triangulation import build_tracks
        >>> from aquamvs.types import Matches
        >>> first, second, third = torch.tensor([[[10.0, 20.0]], [[11.0, 20.0]], [[12.0, 20.0]]])
        >>> pairs = [
        ...     Matches("cam0", "cam1", first, second, torch.ones(1)),
        ...     Matches("cam1", "cam2", second, third, torch.ones(1)),
        ... ]
        >>> tracks = build_tracks(pairs)
        >>> len(tracks.scores), tracks.cameras  # one point, seen by three cameras
        (1, ('cam0', 'cam1', 'cam2'))
    """
    if not quantum_px >= 0:
        raise ConfigError(f"quantum_px is {quantum_px}; expected 0 or a size in pixels")
    cameras = tuple(sorted({name for m in matches for name in (m.reference, m.source)}))
    nodes, edges, scores = _graph(matches, cameras, quantum_px)
    labels = _components(len(nodes), edges)
    labels = _split_conflicts(labels, nodes[:, 0].astype(np.int64), edges, scores)
    return _collect(cameras, nodes, labels, edges, scores)


def _graph(
    matches: Sequence[Matches], cameras: tuple[str, ...], quantum_px: float
) -> tuple[_Floats, _Indices, _Floats]:
    """Keypoints (camera, u, v), shape (K, 3); matches as pairs of them, shape (E, 2); scores."""
    ends: list[_Floats] = [np.zeros((0, 3))]
    for m in matches:
        for name, pixels in ((m.reference, m.reference_pixels), (m.source, m.source_pixels)):
            place = pixels.detach().cpu().double().numpy()
            camera = np.full((len(place), 1), cameras.index(name), dtype=np.float64)
            ends.append(np.concatenate([camera, place], axis=1))
    table = np.concatenate(ends)
    key = table.copy()
    if quantum_px > 0:
        key[:, 1:] = np.floor(key[:, 1:] / quantum_px)
    _, node = np.unique(key, axis=0, return_inverse=True)
    node = node.reshape(-1)
    members = np.bincount(node)
    nodes = np.stack(
        [np.bincount(node, weights=table[:, k]) / members for k in range(3)], axis=1
    ).reshape(-1, 3)
    if quantum_px == 0:  # a mean of equal numbers may differ from them by rounding
        nodes[node] = table
    first = np.concatenate([[0], np.cumsum([2 * len(m) for m in matches])]).astype(np.int64)
    pairs = [
        np.stack([node[a : a + len(m)], node[a + len(m) : a + 2 * len(m)]], axis=1)
        for a, m in zip(first[:-1], matches, strict=True)
    ]
    edges = np.concatenate([np.zeros((0, 2), dtype=np.int64), *pairs])
    scores = np.concatenate([np.zeros(0), *(m.scores.detach().cpu().double() for m in matches)])
    return nodes, *_unique_edges(np.sort(edges, axis=1), scores)


def _unique_edges(edges: _Indices, scores: _Floats) -> tuple[_Indices, _Floats]:
    """Each pair of keypoints once, with its best score: both directions may have been matched."""
    order = np.lexsort([-scores, edges[:, 1], edges[:, 0]])
    edges, scores = edges[order], scores[order]
    first = np.ones(len(edges), dtype=bool)
    first[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return edges[first], scores[first]


def _components(count: int, edges: _Indices) -> _Indices:
    """Component of each keypoint."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if count == 0:
        return np.zeros(0, dtype=np.int64)
    ones = np.ones(len(edges), dtype=np.int8)
    graph = coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _split_conflicts(
    labels: _Indices, camera: _Indices, edges: _Indices, scores: _Floats
) -> _Indices:
    """Components with every view at most once; new labels are node numbers above all old ones."""
    if len(labels) == 0:
        return labels
    twice = np.unique(np.stack([labels, camera], axis=1), axis=0, return_counts=True)
    conflicting = np.unique(twice[0][twice[1] > 1, 0])
    inside = np.isin(labels[edges[:, 0]], conflicting)
    order = np.lexsort([edges[inside, 1], edges[inside, 0], -scores[inside]])
    members = np.flatnonzero(np.isin(labels, conflicting))
    parent = {int(node): int(node) for node in members}
    views = {int(node): 1 << int(camera[node]) for node in members}

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in edges[inside][order]:
        first, second = root(int(a)), root(int(b))
        if first != second and not views[first] & views[second]:
            parent[second] = first
            views[first] |= views[second]
    labels = labels.copy()
    labels[members] = [len(labels) + root(int(node)) for node in members]
    return labels


def _collect(
    cameras: tuple[str, ...], nodes: _Floats, labels: _Indices, edges: _Indices, scores: _Floats
) -> Tracks:
    """Number the components of two or more keypoints by their first keypoint."""
    _, first, component, size = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    component = component.reshape(-1)
    order = np.argsort(np.where(size > 1, first, len(labels)), kind="stable")[: (size > 1).sum()]
    number = np.full(len(size), -1, dtype=np.int64)
    number[order] = np.arange(len(order))
    track = number[component]
    joined = (track[edges[:, 0]] >= 0) & (track[edges[:, 0]] == track[edges[:, 1]])
    owner = track[edges[joined, 0]]
    links = np.bincount(owner, minlength=len(order))
    strength = np.bincount(owner, weights=scores[joined], minlength=len(order))
    rows = np.flatnonzero(track >= 0)
    rows = rows[np.argsort(track[rows], kind="stable")]
    return Tracks(
        cameras,
        torch.from_numpy(track[rows]),
        torch.from_numpy(nodes[rows, 0].astype(np.int64)),
        torch.from_numpy(nodes[rows, 1:].copy()),
        torch.from_numpy((strength / np.maximum(links, 1)).astype(np.float32)),
    )
