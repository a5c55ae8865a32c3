from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from napari_ood.errors import TrainingCancelled, TrainingError
from napari_ood.training import train
from napari_ood.training.lr_range import suggest


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_suggested():
    rates = [10 ** (-5 + i / 10) for i in range(41)]
    losses = [1 - 0.02 * i if i <= 30 else 0.4 + 0.1 * (i - 30) for i in range(41)]
    losses[3] = 0.0  # of a few batches only
    assert suggest(rates, losses) == pytest.approx(1e-3)
    with pytest.raises(TrainingError, match="no finite loss"):
        suggest(rates[:5], losses[:5])


def test_auto_finds_a_rate_that_learns_and_changes_nothing_else(data, config):
    config = replace(config, epochs=2, learning_rate="auto", dropout=0.2)
    trained = train(*data, config)
    found = trained.lr_range
    assert trained.learning_rate == found.suggestion
    # Where exactly depends on rounding, and so on the number of threads.
    assert 1e-4 < found.suggestion < 1e-1
    assert min(found.losses) < 0.9 * found.losses[10]
    assert len(found.rates) == len(found.losses) <= 100
    assert json.loads(json.dumps(found.as_dict()))["suggestion"] == found.suggestion
    direct = train(*data, replace(config, learning_rate=found.suggestion))
    for a, b in zip(
        trained.net.state_dict().values(), direct.net.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("step", [0, 30])
def test_cancelling_the_range_test_is_no_error_of_the_tiles(data, config, step):
    asked = iter(range(1000))
    with pytest.raises(TrainingCancelled, match="range test"):
        train(*data, replace(config, learning_rate="auto"), cancel=lambda: next(asked) == step)
