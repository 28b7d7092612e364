import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.errors import ConfigError, ShapeError
from aquamvs.triangulation import Tracks, build_tracks
from aquamvs.types import Matches


def matches(reference, source, rows):
    """Matches from rows of (u_ref, v_ref, u_src, v_src, score)."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    return Matches(reference, source, table[:, :2], table[:, 2:4], table[:, 4].float())


def members(tracks):
    """Each track as a set of (camera, u, v)."""
    result = [set() for _ in range(len(tracks))]
    for track, camera, (u, v) in zip(
        tracks.track.tolist(), tracks.camera.tolist(), tracks.pixels.tolist(), strict=True
    ):
        result[track].add((tracks.cameras[camera], u, v))
    return result


A, B, C, D = ((f"c{k}", 10.0 * k, 5.0) for k in range(4))


def edge(first, second, score=0.5):
    return (*first[1:], *second[1:], score)


def test_matches_that_share_keypoints_become_one_track():
    tracks = build_tracks(
        [matches("c0", "c1", [edge(A, B, 0.9)]), matches("c1", "c2", [edge(B, C, 0.5)])]
    )
    assert members(tracks) == [{A, B, C}]
    assert tracks.scores.tolist() == pytest.approx([0.7])
    assert tracks.view_count.tolist() == [3]


def test_a_conflict_is_split_at_the_weakest_match():
    """Two keypoints of camera c0 in one component: the weakest match between them is wrong."""
    other = ("c0", 77.0, 8.0)
    tracks = build_tracks(
        [
            matches("c0", "c1", [edge(A, B, 0.9)]),
            matches("c1", "c2", [edge(B, C, 0.2)]),
            matches("c2", "c3", [edge(C, D, 0.7)]),
            matches("c3", "c0", [edge(D, other, 0.8)]),
        ]
    )
    assert members(tracks) == [{A, B}, {C, D, other}]


def test_a_conflict_elsewhere_leaves_other_tracks_alone():
    other = ("c0", 77.0, 8.0)
    clean = [("c0", 200.0, 9.0), ("c1", 210.0, 9.0)]
    tracks = build_tracks(
        [
            matches("c0", "c1", [edge(A, B, 0.9), edge(*clean, 0.1)]),
            matches("c1", "c0", [edge(B, other, 0.3)]),
        ]
    )
    assert members(tracks) == [{A, B}, set(clean)]


def random_matches(seed, cameras=5, points=30, noise=40):
    """True matches of points, and some between random keypoints."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(cameras, points, 2, generator=generator).double() * 100
    result = []
    for i in range(cameras):
        for j in range(i + 1, cameras):
            seen = torch.rand(points, generator=generator) < 0.5
            wrong = torch.randint(points, (2, noise // 10), generator=generator)
            first = torch.cat([places[i][seen], places[i][wrong[0]]])
            second = torch.cat([places[j][seen], places[j][wrong[1]]])
            scores = torch.rand(len(first), generator=generator)
            result.append(Matches(f"c{i}", f"c{j}", first, second, scores))
    return result


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_track_sees_a_camera_twice_and_no_keypoint_is_in_two_tracks(seed):
    tracks = build_tracks(random_matches(seed))
    key = tracks.track * len(tracks.cameras) + tracks.camera
    assert len(key.unique()) == len(key)
    every = [m for group in members(tracks) for m in group]
    assert len(set(every)) == len(every)
    assert tracks.view_count.min() >= 2
    assert bool((tracks.track[1:] >= tracks.track[:-1]).all())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_tracks_do_not_depend_on_the_order_or_direction_of_the_matches(seed):
    forward = random_matches(seed)
    turned = [
        Matches(m.source, m.reference, m.source_pixels.flip(0), m.reference_pixels.flip(0),
                m.scores.flip(0))
        for m in reversed(forward)
    ]  # fmt: skip
    first, second = build_tracks(forward), build_tracks(turned)
    assert first.cameras == second.cameras
    for name in ("track", "camera", "pixels", "scores"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_a_pair_matched_in_both_directions_counts_once():
    once = build_tracks([matches("c0", "c1", [edge(A, B, 0.4)])])
    twice = build_tracks(
        [matches("c0", "c1", [edge(A, B, 0.4)]), matches("c1", "c0", [edge(B, A, 0.8)])]
    )
    assert members(once) == members(twice)
    assert twice.scores.tolist() == pytest.approx([0.8])


def test_nearby_keypoints_join_only_when_quantised():
    near = ("c1", 10.01, 5.01)
    pair = [
        matches("c0", "c1", [edge(A, B)]),
        matches("c1", "c2", [edge(near, C)]),
    ]
    assert len(build_tracks(pair)) == 2
    joined = build_tracks(pair, quantum_px=0.5)
    assert len(joined) == 1
    # The merged keypoint lies at the mean of its members.
    torch.testing.assert_close(joined.pixels[1], torch.tensor([10.005, 5.005]).double())


def test_exact_keypoints_keep_their_last_bit():
    value = 0.1 + 0.2
    tracks = build_tracks([matches("c0", "c1", [(value, 1 / 3, 2 / 3, value, 1.0)] * 3)])
    assert tracks.pixels.tolist() == [[value, 1 / 3], [2 / 3, value]]


def test_no_matches_give_no_tracks():
    assert len(build_tracks([])) == 0
    assert len(build_tracks([matches("c0", "c1", [])])) == 0


def test_selection_and_removal_renumber_nothing_but_what_they_should():
    tracks = build_tracks(random_matches(3))
    keep = torch.arange(len(tracks)) % 3 == 0
    chosen = tracks.select(keep)
    assert members(chosen) == [m for m, k in zip(members(tracks), keep, strict=True) if k]
    dropped = torch.zeros(len(tracks.track), dtype=torch.bool)
    dropped[0] = True
    assert sum(map(len, members(tracks.without(dropped)))) == len(tracks.track) - 1


def test_sums_and_maxima_over_tracks():
    tracks = build_tracks(random_matches(4))
    values = torch.rand(len(tracks.track), generator=torch.Generator().manual_seed(0)).double()
    for t in range(len(tracks)):
        own = values[tracks.track == t]
        assert tracks.total(values)[t] == pytest.approx(float(own.sum()))
        assert tracks.largest(values)[t] == own.max()


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="quantum_px"):
        build_tracks([], quantum_px=-1.0)
    with pytest.raises(ShapeError, match="pixels"):
        Tracks(("a",), torch.zeros(2).long(), torch.zeros(2).long(), torch.zeros(3, 2),
               torch.zeros(1))  # fmt: skip
