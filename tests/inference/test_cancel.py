"""A run that is cancelled keeps what it has computed, and begins nothing any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_ood import Bundle, Slide, run_slide
from napari_ood.inference.network import Answer, Network

pytestmark = pytest.mark.usefixtures("small_shards")

LANES = 4


@pytest.fixture
def four_lanes() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(LANES)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("four_lanes")
def test_batches_in_a_lane_are_stored_and_those_that_wait_for_one_dropped(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six are begun, four of them are being computed when it is cancelled."""
    begin, answer = Network.begin, Network._answer
    begun: list[int] = []
    entered, computed = list[int](), list[int]()
    full, goes_on = threading.Event(), threading.Event()

    def begin_counted(self: Network, tiles: NDArray[np.uint8]) -> object:
        begun.append(len(tiles))
        return begin(self, tiles)

    def answer_late(self: Network, tiles: NDArray[np.uint8]) -> Answer:
        entered.append(len(tiles))
        if len(entered) == LANES:
            full.set()
        assert goes_on.wait(60)
        found = answer(self, tiles)
        computed.append(len(tiles))
        return found

    def cancel() -> bool:
        if len(begun) < LANES + 2:
            return False
        assert full.wait(60)
        threading.Timer(0.2, goes_on.set).start()
        return True

    monkeypatch.setattr(Network, "begin", begin_counted)
    monkeypatch.setattr(Network, "_answer", answer_late)
    # One tile each, so that the first block has enough of them.
    out = tmp_path / "a.ood.zarr"
    run = run_slide(slide, tiny_bundle, out, device="cpu", batch_size=1, cancel=cancel)
    assert len(begun) == LANES + 2 and len(computed) == LANES
    assert run.n_tiles == sum(computed)
    assert run.provenance["sessions"][0]["n_tiles"] == run.n_tiles


def test_what_waited_to_be_stored_is_stored(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers lie ready for up to two seconds, or until their block is through."""
    answer, computed = Network._answer, list[int]()

    def answer_counted(self: Network, tiles: NDArray[np.uint8]) -> Answer:
        found = answer(self, tiles)
        computed.append(len(tiles))
        return found

    monkeypatch.setattr(Network, "_answer", answer_counted)
    part = run_slide(
        slide, tiny_bundle, tmp_path / "a.ood.zarr", device="cpu", batch_size=2,
        cancel=lambda: sum(computed) >= 9,
    )  # fmt: skip
    assert part.n_tiles == sum(computed) >= 9
    whole = run_slide(slide, tiny_bundle, tmp_path / "b.ood.zarr", device="cpu", batch_size=2)
    assert part.n_tiles < whole.n_tiles
    kept = part.done[whole.done]
    assert part.logits.tobytes() == whole.logits[kept].tobytes()
    assert part.features.tobytes() == whole.features[kept].tobytes()
