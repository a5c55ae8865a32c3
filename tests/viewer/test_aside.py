"""A listener that is slow holds nobody up, hears all in order, and its errors are not lost."""

from __future__ import annotations

import threading

import pytest

from napari_ood.viewer.aside import MOST_WAITING, Aside


def test_news_are_heard_in_order_and_all_of_them_before_the_block_ends() -> None:
    heard: list[int] = []
    go = threading.Event()

    def listener(news: int) -> None:
        go.wait(10)
        heard.append(news)

    with Aside(listener, "listener") as tell:
        for news in range(MOST_WAITING):
            tell(news)  # returns, though nothing can be heard yet
        assert heard == []
        go.set()
        for news in range(MOST_WAITING, 100):
            tell(news)
    assert heard == list(range(100))
    assert not any(thread.name == "listener" for thread in threading.enumerate())


def test_what_the_listener_raises_is_raised_to_the_teller_even_if_the_queue_is_full() -> None:
    def listener(news: int) -> None:
        raise ValueError(f"cannot hear {news}")

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


def _bad(news: int) -> None:
    raise ValueError("bad")
