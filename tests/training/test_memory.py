"""Peak memory of work with tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_ood.training.memory import peak_bytes, weight_bytes

MB = 4 * 250_000


@pytest.fixture
def x() -> torch.Tensor:
    return torch.zeros(250_000)


def test_the_peak_counts_what_lives_at_once(x: torch.Tensor) -> None:
    with torch.inference_mode():
        assert peak_bytes(lambda: ((x + 1) + 1) + 1) == 2 * MB
        assert peak_bytes(lambda: [x + 1, x + 2, x + 3]) == 3 * MB
        assert peak_bytes(lambda: x.view(500, 500).t()[10:]) == 0


def test_training_keeps_what_the_backward_pass_needs(x: torch.Tensor) -> None:
    net = nn.Sequential(*(nn.Sequential(nn.Linear(500, 500, bias=False), nn.Tanh()) for _ in "abc"))
    rows = x.view(500, 500)
    with torch.inference_mode():
        answering = peak_bytes(lambda: net(rows))
    training = peak_bytes(lambda: net(rows).sum().backward())
    assert 2 * MB <= answering <= 3 * MB
    # Three outputs of tanh are kept, and freed while three gradients of weights are made.
    assert 4 * MB <= training <= 9 * MB
    assert training > answering
    assert weight_bytes([net]) == 3 * MB
