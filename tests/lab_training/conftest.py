"""PyTorch, for the tests that need it; they are skipped without."""

import pytest


@pytest.fixture
def torch():
    found = pytest.importorskip("torch")
    found.set_num_threads(1)
    return found
