import math

import pytest

from aquamvs.errors import ConfigError, StageError
from aquamvs.matching import Pair, select_pairs, unordered_pairs
from aquamvs.types import UndistortedViews


@pytest.fixture
def ring(model_at, blank_view):
    """Eight ring cameras and one in the middle that is auxiliary."""
    places = {f"ring{k}": (0.5 * math.cos(k * math.pi / 4), 0.5 * math.sin(k * math.pi / 4))
              for k in range(8)}  # fmt: skip
    views = [blank_view(name, model_at(x, y, focal=150.0)) for name, (x, y) in places.items()]
    views.append(blank_view("centre", model_at(0.0, 0.0, focal=150.0), auxiliary=True))
    return UndistortedViews(0, tuple(views))


def sources(pairs, reference):
    return [pair.source for pair in pairs if pair.reference == reference]


def test_ring_cameras_are_matched_with_their_neighbours_and_the_centre(ring):
    pairs = select_pairs(ring, num_neighbors=2)
    for k in range(8):
        found = sources(pairs, f"ring{k}")
        assert set(found[:2]) == {f"ring{(k - 1) % 8}", f"ring{(k + 1) % 8}"}
        assert found[2:] == ["centre"]


def test_auxiliary_cameras_are_sources_only_and_only_on_request(ring):
    with_centre = select_pairs(ring)
    assert sources(with_centre, "centre") == []
    assert {p.source for p in select_pairs(ring, include_center=False)} == {
        f"ring{k}" for k in range(8)
    }


def test_pairs_do_not_depend_on_the_order_of_the_cameras(ring):
    expected = set(select_pairs(ring, num_neighbors=3))
    shuffled = [ring.views[k] for k in (4, 8, 1, 6, 0, 7, 2, 5, 3)]
    assert set(select_pairs(UndistortedViews(0, tuple(shuffled)), num_neighbors=3)) == expected


def test_symmetric_neighbours_tie_and_go_by_name(ring):
    # By symmetry ring1 and ring7 score alike for ring0; with one place, the smaller name has it.
    assert sources(select_pairs(ring, num_neighbors=1, include_center=False), "ring0") == ["ring1"]


def test_cameras_without_common_field_of_view_are_not_paired(model_at, blank_view):
    views = [blank_view(n, model_at(x, 0.0)) for n, x in (("a", 0.0), ("b", 0.2), ("far", 9.0))]
    pairs = select_pairs(UndistortedViews(0, tuple(views)))
    assert set(pairs) == {Pair("a", "b"), Pair("b", "a")}


def test_a_rig_that_shares_nothing_is_an_error_that_names_the_depth(model_at, blank_view):
    views = [blank_view(n, model_at(x, 0.0)) for n, x in (("a", 0.0), ("b", 9.0))]
    with pytest.raises(StageError, match="none of the 2 views share any part of a bed 1 m below"):
        select_pairs(UndistortedViews(0, tuple(views)))


def test_a_deeper_bed_brings_distant_cameras_together(model_at, blank_view):
    views = UndistortedViews(
        0, tuple(blank_view(n, model_at(x, 0.0)) for n, x in (("a", 0.0), ("b", 1.5)))
    )
    with pytest.raises(StageError):
        select_pairs(views, bed_depth=0.1)
    assert len(select_pairs(views, bed_depth=2.0)) == 2


@pytest.mark.parametrize("options", [{"num_neighbors": 0}, {"bed_depth": 0.0}])
def test_impossible_options_are_refused(ring, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        select_pairs(ring, **options)


@pytest.mark.parametrize("count", [2, 13, 40])
def test_any_number_of_cameras(model_at, blank_view, count):
    views = [
        blank_view(f"c{k:02d}", model_at(0.2 * (k % 7), 0.2 * (k // 7), focal=120.0))
        for k in range(count)
    ]
    pairs = select_pairs(UndistortedViews(0, tuple(views)), num_neighbors=4)
    per_reference = [len(sources(pairs, view.name)) for view in views]
    assert min(per_reference) >= 1
    assert max(per_reference) == min(4, count - 1)
    assert all(pair.reference != pair.source for pair in pairs)


def test_each_unordered_pair_is_matched_once():
    pairs = [Pair("b", "a"), Pair("a", "b"), Pair("c", "a"), Pair("b", "a")]
    assert unordered_pairs(pairs) == (Pair("a", "b"), Pair("a", "c"))
