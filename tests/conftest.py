"""Fixtures shared by every area."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _single_thread() -> None:
    """Two cores run two pytest workers; more threads each would only contend."""
    torch.set_num_threads(1)
