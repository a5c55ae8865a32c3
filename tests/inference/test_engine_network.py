"""The engine's network: batches that do not fit are halved, copies to a GPU overlap, in order."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from napari_ood import Bundle, DeviceError, load_bundle
from napari_ood.inference.network import Fitting, Network
from napari_ood.inference.upload import N_BUFFERS, Uploads


class SmallMemory:
    """A network on a device with room for a few tiles."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[int] = []

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.tried.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("no room")
        return batch.float() * 2, batch.float() + 1


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_begin_there() -> None:
    memory = SmallMemory(room=5)
    fitting = Fitting(memory, most=32)
    batch = torch.arange(27.0).reshape(27, 1)
    for _ in range(2):
        logits, features = fitting(batch)
        assert torch.equal(logits, batch * 2)
        assert torch.equal(features, batch + 1)
    # 27 → 13 → 6 → 3 tiles at once; the second batch fails no more.
    assert memory.tried == [27, 13, 6, *[3] * 18]


def test_memory_for_no_tile_at_all_is_said() -> None:
    memory = SmallMemory(room=0)
    with pytest.raises(DeviceError, match=r"single tile.*--device cpu"):
        Fitting(memory, most=8)(torch.zeros(8, 1))
    assert memory.tried == [8, 4, 2, 1]


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Fitting(broken, most=8)(torch.zeros(8, 1))


def test_begun_batches_are_the_networks_own_answers(tiny_bundle: Bundle) -> None:
    network = Network(tiny_bundle, "cpu", 4)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for n in (4, 4, 1)]
    begun = [network.begin(batch) for batch in batches]
    for batch, answer in zip(batches, begun, strict=True):
        with torch.inference_mode():
            expected = tiny_bundle.network("cpu")(torch.from_numpy(batch))
        for ours, theirs in zip(answer(), expected, strict=True):
            # Other cores add up in another order.
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
    network.close()


def test_bits_do_not_depend_on_how_many_cores_there_are() -> None:
    bundle, before, answers = load_bundle("lymph-node-he"), torch.get_num_threads(), []
    tiles = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), dtype=np.uint8)
    try:
        for cores in (1, 3):
            torch.set_num_threads(cores)
            network = Network(bundle, "cpu", 4)
            begun = [network.begin(batch) for batch in np.split(tiles, 2)]
            assert network.n_ahead >= cores
            answers.append([array for answer in begun for array in answer()])
            network.close()
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, three)


def test_one_image_as_a_whole_is_computed_by_all_cores() -> None:
    bundle, before = load_bundle("dermoscopy"), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        network = Network(bundle, "cpu", 4)
    finally:
        torch.set_num_threads(before)
    lanes = [t.name for t in threading.enumerate() if t.name.startswith("ood-forward")]
    network.close()
    assert len(lanes) == 1


class FakeGpu:
    """What ``Uploads`` uses of ``torch.cuda``, as a log of what is called."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.n = 0

    def event(self) -> Any:
        name = f"event {self.n}"
        self.n += 1

        def log(what: str) -> Any:
            return lambda *_: self.log.append(f"{name} {what}")

        return SimpleNamespace(name=name, synchronize=log("synchronize"), record=log("record"))

    def stream(self, *_: Any) -> Any:
        return SimpleNamespace(wait_event=lambda e: self.log.append(f"wait for {e.name}"))


def test_a_buffer_is_filled_again_only_after_its_copy_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu, empty = FakeGpu(), torch.empty
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "Stream", gpu.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", gpu.stream)
    from contextlib import nullcontext

    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None, raising=False)
    uploads = Uploads("cpu", (4, 2, 2, 3))
    rng = np.random.default_rng(0)
    for i in range(2 * N_BUFFERS):
        tiles = rng.integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
        gpu.log.clear()
        batch = uploads.upload(tiles)
        own = f"event {i % N_BUFFERS}"
        assert gpu.log == [f"{own} synchronize", f"{own} record", f"wait for {own}"]
        assert torch.equal(batch, torch.from_numpy(tiles))
    answer = uploads.download((torch.ones(3, 2), torch.zeros(3, 5)))
    ended = gpu.log[-1].removesuffix(" record")
    logits, features = answer()
    assert gpu.log[-1] == f"{ended} synchronize"
    assert logits.shape == (3, 2)
    assert features.shape == (3, 5)
