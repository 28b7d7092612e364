"""Work that is shared out among threads."""

import pytest
import torch

from aquamvs.numerics.acceleration import in_parallel, operation_workers


@pytest.fixture
def four_threads():
    torch.set_num_threads(4)


@pytest.mark.parametrize(("workers", "share"), [(1, 4), (2, 2), (4, 1), (8, 1)])
def test_workers_share_the_threads_of_operations(four_threads, workers, share):
    counts = list(in_parallel(lambda _: torch.get_num_threads(), range(8), workers))
    assert counts == [share] * 8
    assert torch.get_num_threads() == 4


def test_an_error_reaches_the_caller_and_leaves_the_threads_as_they_were(four_threads):
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda n: 1 / n, [1, 0, 1], 2))
    assert torch.get_num_threads() == 4


def test_only_the_processor_has_workers(four_threads):
    assert operation_workers(torch.device("cpu"), 3) == 3
    assert operation_workers(torch.device("cpu"), 9) == 4
    assert operation_workers(torch.device("cuda"), 9) == 1
