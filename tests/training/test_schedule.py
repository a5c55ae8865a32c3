from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood.errors import TrainingError
from napari_ood.training import TrainConfig, sgdr_cycles
from napari_ood.training.schedule import Schedule, cycle_lengths


def test_cycles_double_and_the_last_one_ends_exactly_where_asked():
    def lengths(epochs: int) -> tuple[int, ...]:
        return cycle_lengths(TrainConfig(epochs=epochs, cycles=sgdr_cycles(epochs)))

    assert [lengths(n) for n in (1, 3, 7, 10)] == [(1,), (1, 2), (1, 2, 4), (1, 2, 7)]
    assert cycle_lengths(TrainConfig(epochs=30)) == (30,)
    assert cycle_lengths(TrainConfig(epochs=30, cycles=3)) == (4, 8, 18)
    assert cycle_lengths(TrainConfig(cycles=3, cycle_epochs=2)) == (2, 4, 8)


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 4))
def test_cycles_always_fill_the_epochs(epochs, cycles, mult):
    lengths = cycle_lengths(TrainConfig(epochs=epochs, cycles=cycles, cycle_mult=mult))
    assert sum(lengths) == epochs
    assert min(lengths) >= 1


def test_rates_rise_fall_and_restart():
    config = TrainConfig(head_epochs=1, cycles=2, cycle_epochs=1, warmup=0.2)
    schedule = Schedule(config, steps_per_epoch=10)
    assert schedule.n_epochs == 4
    assert [schedule.stage(e) for e in range(4)] == ["heads", "all", "all", "all"]
    rates = [schedule.rate(s) for s in range(40)]
    assert max(rates) == 1.0
    assert [i for i, r in enumerate(rates) if r == 1.0] == [2, 12, 20]
    assert rates[10] == pytest.approx(1 / 3)
    assert rates[30] == pytest.approx(0.5)  # the middle of the last cycle
    assert rates[39] < 0.01
    assert min(rates) > 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"loss": "best"}, "wta_sample"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epsilon": 1.5}, "epsilon"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"anneal_to": 2.0}, "anneal_to"),
        ({"balance": "sqrt"}, "dynamic"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, text):
    with pytest.raises(TrainingError, match=text):
        TrainConfig(**settings)
