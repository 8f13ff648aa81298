"""One CPU thread a test process: the models are tiny, and several processes share the cores."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
