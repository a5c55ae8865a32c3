"""Lanes share the cores, keep to their own, and leave everybody else's as they were."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest
import torch

from napari_ood.models.lanes import MOST_LANES, Lanes


@pytest.mark.parametrize(
    ("n_threads", "lanes", "each"),
    [(1, 1, 1), (2, 2, 1), (MOST_LANES, MOST_LANES, 1), (12, 6, 2), (17, 5, 3)],
)
def test_lanes_share_the_cores_and_others_keep_theirs(
    n_threads: int, lanes: int, each: int
) -> None:
    before = torch.get_num_threads()
    shared = Lanes(n_threads)
    assert shared.n == lanes
    met = threading.Barrier(lanes)

    def look() -> tuple[str, int, int]:
        met.wait(60)  # each lane is asked once
        first = torch.get_num_threads()
        torch.randn(300, 300) @ torch.randn(300, 300)  # torch sets up a thread on its first use
        return threading.current_thread().name, first, torch.get_num_threads()

    found = [future.result(60) for future in [shared.submit(look) for _ in range(lanes)]]
    assert len({name for name, *_ in found}) == lanes
    assert {counts for _, *rest in found for counts in rest} == {each}
    assert torch.get_num_threads() == before
    with_others = []
    thread = threading.Thread(target=lambda: with_others.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert with_others == [before]
    shared.close()
    assert not any(t.name.startswith("ood-forward") for t in threading.enumerate())


def test_what_waits_is_dropped_when_lanes_close() -> None:
    lanes, begun, go = Lanes(1), threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return go.wait(60)

    running = lanes.submit(hold)
    waiting = lanes.submit(lambda: True)
    begun.wait(60)
    closing = threading.Thread(target=lanes.close)
    closing.start()
    with pytest.raises(CancelledError):
        waiting.result(60)
    go.set()
    closing.join(60)
    assert running.result(60)


def test_what_a_lane_raises_reaches_who_asks() -> None:
    lanes = Lanes(1)
    future = lanes.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        future.result(60)
    lanes.close()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_lanes_that_cannot_all_begin_leave_no_thread_behind(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, before = threading.Thread.start, torch.get_num_threads()

    def start(thread: threading.Thread) -> None:
        if thread.name == "ood-forward_1":
            raise error
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(type(error)):
        Lanes(3)
    assert not any(t.name.startswith("ood-forward") for t in threading.enumerate())
    assert torch.get_num_threads() == before


def test_lanes_that_begin_at_the_same_time_do_not_see_each_others_settings() -> None:
    before, found = torch.get_num_threads(), []

    def begin() -> None:
        lanes = Lanes()
        found.append(lanes.n)
        lanes.close()

    torch.set_num_threads(2)  # also where the environment allows one only
    try:
        for _ in range(20):
            threads = [threading.Thread(target=begin) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        torch.set_num_threads(before)
    assert found == [2] * 40
