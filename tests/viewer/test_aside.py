"""A listener that is slow holds nobody up, hears all in order, and its errors are not lost."""

from __future__ import annotations

import threading
import time

import pytest

from napari_ood.viewer.aside import MOST_WAITING, Aside


def test_news_are_heard_in_order_and_all_of_them_before_the_block_ends() -> None:
    heard: list[int] = []
    go = threading.Event()

    def listener(news: list[int]) -> None:
        go.wait(60)
        assert 1 <= len(news) <= MOST_WAITING
        heard.extend(news)

    with Aside(listener, "listener") as tell:
        for news in range(MOST_WAITING):
            tell(news)  # returns, though nothing can be heard yet
        assert heard == []
        go.set()
        for news in range(MOST_WAITING, 100):
            tell(news)
    assert heard == list(range(100))
    assert not any(thread.name == "listener" for thread in threading.enumerate())


def test_the_first_news_are_heard_at_once_and_later_ones_gather_for_a_pause() -> None:
    calls: list[tuple[float, list[int]]] = []
    first, last = threading.Event(), threading.Event()

    def listener(news: list[int]) -> None:
        calls.append((time.monotonic(), news))
        first.set()
        if news[-1] == 2:
            last.set()

    for _ in range(10):
        calls.clear()
        first.clear()
        last.clear()
        with Aside(listener, "listener", pause=1.0) as tell:
            tell(0)
            assert first.wait(60)
            tell(1)
            tell(2)
            in_time = time.monotonic() < calls[0][0] + 1.0
            assert last.wait(60)  # though nothing more is told
        if in_time:
            break  # else this thread had no core for so long that the pause was over
    assert [news for _, news in calls] == [[0], [1, 2]]
    assert calls[1][0] - calls[0][0] >= 1.0


def test_many_news_and_the_end_of_the_block_wait_for_no_pause() -> None:
    calls: list[list[int]] = []
    start = time.monotonic()
    with Aside(calls.append, "listener", pause=60) as tell:
        for news in range(3 * MOST_WAITING):
            tell(news)
        tell(-1)
    assert time.monotonic() - start < 30
    assert [one for call in calls for one in call] == [*range(3 * MOST_WAITING), -1]
    assert len(calls) <= 5


def test_what_the_listener_raises_is_raised_to_the_teller_even_if_the_queue_is_full() -> None:
    def listener(news: list[int]) -> None:
        raise ValueError(f"cannot hear {news[0]}")

    with pytest.raises(ValueError, match="cannot hear 0"), Aside(listener, "listener") as tell:
        for news in range(10 * MOST_WAITING):
            tell(news)


def test_a_failure_on_the_last_news_is_raised_at_the_end_of_the_block() -> None:
    with pytest.raises(ValueError, match="bad"), Aside(_bad, "listener") as tell:
        tell(0)


def test_the_tellers_own_failure_is_the_one_that_counts() -> None:
    with pytest.raises(KeyError), Aside(_bad, "listener") as tell:
        tell(0)
        raise KeyError("own")


def _bad(news: list[int]) -> None:
    raise ValueError("bad")
