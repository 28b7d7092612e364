import pytest
import torch
from torch.nn import functional

from aquamvs.matching.assignment import mutual_best, nearest_candidates, runner_up, similarity
from aquamvs.matching.guidance import Candidates
from aquamvs.matching.spread import spread_selection


def descriptors(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, 16, generator=generator), dim=1)


def every_pair(n, m):
    i, j = torch.meshgrid(torch.arange(n), torch.arange(m), indexing="ij")
    return Candidates(i.flatten(), j.flatten())


def test_similarity_is_the_cosine_of_each_pair():
    a, b = descriptors(30, 0), descriptors(40, 1)
    pairs = every_pair(30, 40)
    torch.testing.assert_close(similarity(pairs, a, b), (a @ b.T).flatten())


def test_mutual_best_is_that_of_the_full_matrix():
    a, b = descriptors(60, 0), descriptors(50, 1)
    scores = a @ b.T
    expected = {
        (i, int(scores[i].argmax()))
        for i in range(60)
        if int(scores[:, scores[i].argmax()].argmax()) == i
    }
    for pairs in (every_pair(60, 50), nearest_candidates(a, b)):
        chosen = mutual_best(pairs, similarity(pairs, a, b), (60, 50))
        found = set(
            zip(pairs.reference[chosen].tolist(), pairs.source[chosen].tolist(), strict=True)
        )
        assert found == expected


def test_a_keypoint_is_matched_once_even_where_scores_tie():
    pairs = every_pair(4, 5)
    chosen = mutual_best(pairs, torch.ones(20), (4, 5))
    assert pairs.reference[chosen].tolist() == [0]
    assert pairs.source[chosen].tolist() == [0]


def test_gating_lets_a_true_match_win_that_loses_in_the_full_matrix():
    scores = torch.tensor([0.8, 0.9, 0.7, 0.6])  # (0,0), (0,1), (1,0), (1,1)
    pairs = every_pair(2, 2)
    assert mutual_best(pairs, scores, (2, 2)).tolist() == [1]
    gated = Candidates(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert mutual_best(gated, scores[[0, 3]], (2, 2)).tolist() == [0, 1]


def test_the_runner_up_is_the_best_rival_elsewhere_in_either_view():
    first = torch.tensor([[0.0, 0.0], [50.0, 0.0]])
    second = torch.tensor([[0.0, 0.0], [1.0, 0.0], [50.0, 0.0]])
    pairs = every_pair(2, 3)
    scores = torch.tensor([0.9, 0.85, 0.3, 0.6, 0.1, 0.2])
    chosen = torch.tensor([0])  # pair (0, 0); (0, 1) is 1 px away: the same image point
    assert runner_up(pairs, scores, chosen, (first, second), 3.0).item() == pytest.approx(0.6)
    assert runner_up(pairs, scores, chosen, (first, second), 0.5).item() == pytest.approx(0.85)


def test_without_rivals_the_runner_up_is_infinitely_bad():
    pairs = Candidates(torch.tensor([0]), torch.tensor([0]))
    point = torch.zeros(1, 2)
    rival = runner_up(pairs, torch.tensor([0.9]), torch.tensor([0]), (point, point), 3.0)
    assert torch.isneginf(rival).all()


def test_no_descriptors_give_no_candidates():
    assert len(nearest_candidates(torch.zeros(0, 16), descriptors(3, 0))) == 0
    assert len(nearest_candidates(descriptors(3, 0), torch.zeros(0, 16))) == 0


@pytest.mark.parametrize("limit", [1, 40, 333])
def test_selection_is_as_long_as_asked_spread_and_strong(limit):
    generator = torch.Generator().manual_seed(0)
    # Nine of ten points crowd in the left tenth of the image and are stronger.
    pixels = torch.rand(1000, 2, generator=generator) * torch.tensor([400.0, 300.0])
    pixels[:900, 0] /= 10
    scores = torch.rand(1000, generator=generator)
    scores[:900] += 1
    kept = spread_selection(pixels, scores, size=(400, 300), limit=limit)
    assert len(kept) == limit == len(kept.unique())
    assert bool((kept[1:] > kept[:-1]).all())
    if limit == 40:
        assert int((pixels[kept, 0] > 40).sum()) > 20
    if limit == 1:
        assert scores[kept] == scores.max()


def test_selection_does_not_depend_on_the_order_of_the_points():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(500, 2, generator=generator) * 100
    scores = (torch.rand(500, generator=generator) * 5).round()  # many ties
    order = torch.randperm(500, generator=generator)
    first = spread_selection(pixels, scores, size=(100, 100), limit=60)
    second = spread_selection(pixels[order], scores[order], size=(100, 100), limit=60)
    assert set(first.tolist()) == set(order[second].tolist())


def test_few_points_are_all_kept():
    pixels = torch.rand(5, 2)
    assert spread_selection(pixels, torch.rand(5), size=(9, 9), limit=9).tolist() == [0, 1, 2, 3, 4]
