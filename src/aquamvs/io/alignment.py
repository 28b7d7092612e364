"""Which image of which camera belongs to one instant.

Images belong together by the number in their names, videos by their timestamps, and whatever has
neither by its position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .sources import FrameSource, ImageFolder
from .video import VideoFile

_NUMBER = re.compile(r"(\d+)\D*$")
_RATE_TOLERANCE = 0.01
"""Cameras whose rates differ by less count as equally slow; the one that dropped fewest leads."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Alignment:
    """The cameras' images by instant.

    Attributes:
        indices: Camera name to the index of its image for every instant; None: it has none.
        labels: What each instant is called in messages.
        notes: What a user should know: images that are missing, clocks that differ.
    """

    indices: dict[str, tuple[int | None, ...]]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def align(sources: Mapping[str, FrameSource]) -> Alignment:
    """Find out which images belong together.

    Args:
        sources: Camera name to its images or video.

    Returns:
        The instants.

    Raises:
        DataError: The cameras have unequal numbers of frames, and neither numbers nor timestamps
            say which belong together.
    """
    numbers = {k: _numbers(s) for k, s in sources.items() if isinstance(s, ImageFolder)}
    times = {k: s.times for k, s in sources.items() if isinstance(s, VideoFile)}
    if len(numbers) == len(sources):
        known = {name: value for name, value in numbers.items() if value is not None}
        if len(known) == len(sources) and set.intersection(*map(set, known.values())):
            return _by_number(known)
    if len(times) == len(sources):
        clocks = {name: np.array(value) for name, value in times.items() if value is not None}
        if len(clocks) == len(sources) and _differ(clocks):
            return _by_time(clocks)
    return _by_position(sources)


def _by_position(sources: Mapping[str, FrameSource]) -> Alignment:
    counts = {name: source.frame_count for name, source in sources.items()}
    low, high = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[low] != counts[high]:
        raise DataError(
            f"cameras have unequal numbers of frames: {low} has {counts[low]} ({sources[low].path})"
            f", {high} has {counts[high]} ({sources[high].path}); give each the same synchronised "
            "frames"
        )
    every = tuple(range(counts[low]))
    return Alignment(dict.fromkeys(sources, every), tuple(f"frame {index}" for index in every))


def _numbers(folder: ImageFolder) -> tuple[int, ...] | None:
    """The last number in each image's name; None unless all have one of their own."""
    found = [_NUMBER.search(path.stem) for path in folder.files]
    numbers = tuple(int(match.group(1)) for match in found if match is not None)
    return numbers if len(set(numbers)) == len(found) else None


def _by_number(numbers: Mapping[str, tuple[int, ...]]) -> Alignment:
    instants = sorted(set().union(*numbers.values()))
    indices: dict[str, tuple[int | None, ...]] = {}
    notes = []
    for name, own in numbers.items():
        place = {number: index for index, number in enumerate(own)}
        indices[name] = tuple(place.get(number) for number in instants)
        missing = [number for number in instants if number not in place]
        if missing:
            shown = ", ".join(map(str, missing[:_SHOWN]))
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            notes.append(f"camera {name} has no image {shown}{more}")
    return Alignment(indices, tuple(f"image {number}" for number in instants), tuple(notes))


def _differ(clocks: Mapping[str, np.ndarray]) -> bool:
    """Whether positions would not do: other numbers of frames, starts or rates."""
    first = next(iter(clocks.values()))
    tolerance = 0.5 * _period(first)
    return any(
        len(clock) != len(first) or bool((np.abs(clock - first) > tolerance).any())
        for clock in clocks.values()
    )


def _by_time(clocks: Mapping[str, np.ndarray]) -> Alignment:
    """The instants of the slowest camera; of the others the frame nearest in time, if it is near.

    A frame is near within half the slowest camera's period.
    """
    slowest = max(map(_period, clocks.values()))
    slow = [c for c in clocks.values() if _period(c) > (1 - _RATE_TOLERANCE) * slowest]
    instants, reach = max(slow, key=len), 0.5 * slowest
    start = max(clock[0] for clock in clocks.values()) - reach
    end = min(clock[-1] for clock in clocks.values()) + reach
    instants = instants[(instants >= start) & (instants <= end)]
    if len(instants) == 0:
        raise DataError(f"the videos have no moment in common: {'; '.join(_clock_notes(clocks))}")
    indices: dict[str, tuple[int | None, ...]] = {}
    for name, clock in clocks.items():
        upper = np.searchsorted(clock, instants).clip(1, max(len(clock) - 1, 1))
        lower = upper - 1
        upper = np.minimum(upper, len(clock) - 1)
        later = np.abs(clock[upper] - instants) < np.abs(clock[lower] - instants)
        nearest = np.where(later, upper, lower)
        near = np.abs(clock[nearest] - instants) <= reach
        indices[name] = tuple(
            int(index) if ok else None for index, ok in zip(nearest, near, strict=True)
        )
    labels = tuple(f"the moment {instant:.3f} s" for instant in instants)
    notes = ("the videos' clocks differ; frames are matched by time", *_clock_notes(clocks))
    return Alignment(indices, labels, notes)


def _clock_notes(clocks: Mapping[str, np.ndarray]) -> list[str]:
    return [
        f"{name}: {len(clock)} frames from {clock[0]:.3f} s at {1 / _period(clock):.3f} per second"
        for name, clock in clocks.items()
    ]


def _period(clock: np.ndarray) -> float:
    """Median time between frames, seconds; one second for a single frame."""
    return float(np.median(np.diff(clock))) if len(clock) > 1 else 1.0
