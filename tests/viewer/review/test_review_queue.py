"""The review queue without a window: regions, verdicts, undo, restart, moved thresholds."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood import Bundle, Run, Slide
from napari_ood.models import load_bundle
from napari_ood.review import review_folder
from napari_ood.review.verdicts import Artefact, Kind
from napari_ood.viewer.maps import Maps, Overlay
from napari_ood.viewer.review_queue import ReviewQueue
from napari_ood.viewer.review_state import Order, Stage
from napari_ood.viewer.session import Session
from napari_ood.viewer.state import Phase

from .conftest import SIZES, OpenQueue, set_threshold


def sizes(queue: ReviewQueue) -> list[int]:
    return [region.n_tiles for region in queue.state.regions]


def verdicts(queue: ReviewQueue) -> dict[int, str]:
    """What was said, by size of region."""
    given = ((r, queue.state.verdict_on(r)) for r in queue.state.regions)
    return {region.n_tiles: verdict.category for region, verdict in given if verdict}


def test_regions_are_listed_in_the_chosen_order(open_queue: OpenQueue) -> None:
    queue = open_queue()
    peaks = [region.peak for region in queue.state.regions]
    assert sorted(sizes(queue)) == sorted(SIZES.values())
    assert peaks == sorted(peaks, reverse=True)
    queue.set_order(Order.AREA)
    assert queue.wait()
    assert sizes(queue) == [20, 3, 1]
    queue.set_min_tiles(2)
    assert queue.wait()
    assert sizes(queue) == [20, 3]


def test_a_verdict_is_saved_at_once_and_there_after_a_restart(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.set_order(Order.AREA)
    assert queue.wait()
    visited: list[int] = []
    queue.visited.connect(lambda region: visited.append(region.n_tiles))
    queue.go_next()
    queue.judge(Kind.ARTEFACT, artefact=Artefact.PEN)
    wrong = next(c for c in queue.state.maps.classes if c != queue.state.region.label)
    queue.judge(Kind.WRONG_CLASS, label=wrong)
    assert visited == [20, 3, 1], "each verdict goes on to the next region"
    # no close, no further call: the program has died
    again = open_queue()
    assert verdicts(again) == {20: "artefact: pen", 3: f"wrong class: {wrong}"}
    assert again.state.n_done == 2
    assert again.state.current is None, (
        "nothing is judged by a key that was meant for another window"
    )
    assert verdicts(open_queue("Grace")) == {}, "another reviewer starts without a hint"


def test_after_the_last_region_open_ones_come_again(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.choose(1)
    queue.judge(Kind.AGREE)
    queue.judge(Kind.AGREE)
    assert queue.state.current == 0, "from the end to the one that was passed over"
    queue.judge(Kind.SKIP)
    assert (queue.state.n_done, queue.state.current) == (3, 0)


def test_without_a_region_no_verdict(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.judge(Kind.AGREE)
    assert verdicts(queue) == {}
    assert "First go to a region" in queue.state.notice


def test_undo_goes_back_also_after_a_restart(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.go_next()
    queue.judge(Kind.AGREE)
    queue.judge(Kind.UNKNOWN_TISSUE)
    queue.undo()
    assert (queue.state.current, queue.state.n_done) == (1, 1)
    queue.redo()
    assert queue.state.n_done == 2
    queue.undo()
    again = open_queue()
    again.undo()
    assert (again.state.current, again.state.n_done) == (0, 0)
    again.undo()
    assert again.state.notice == "Nothing to undo."


def test_a_verdict_is_changed_and_the_old_one_comes_back(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.go_next()
    queue.judge(Kind.AGREE)
    queue.go_back()
    queue.judge(Kind.ARTEFACT, artefact=Artefact.FOLD)
    queue.undo()
    assert queue.state.verdict.category == "agree"


def test_a_comment_is_never_lost(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.go_next()
    queue.set_draft("rim of the section")
    queue.go_next()  # away without a verdict
    assert queue.state.draft == ""
    queue.go_back()
    assert (queue.state.draft, queue.state.verdict.category) == ("rim of the section", "skip")
    queue.judge(Kind.AGREE)
    first = queue.state.regions[0]
    assert queue.state.verdict_on(first).comment == "rim of the section"
    queue.set_draft("the dock is closed")
    queue.close()
    again = open_queue()
    assert {r: again.state.verdict_on(r).comment for r in again.state.regions[:2]} == {
        again.state.regions[0]: "rim of the section",
        again.state.regions[1]: "the dock is closed",
    }


def test_verdicts_stay_when_the_threshold_moves(open_queue: OpenQueue, run: Run) -> None:
    queue = open_queue()
    queue.set_order(Order.AREA)
    assert queue.wait()
    queue.go_next()
    queue.judge(Kind.ARTEFACT, artefact=Artefact.PEN)
    queue.choose(0)
    large = queue.state.region
    scores = run.score("ood")[large.tiles]
    set_threshold(queue._session, float(np.median(scores)))  # the region shrinks
    assert queue.wait()
    assert 0 < max(sizes(queue)) < 20
    assert queue.state.region.key == large.key, "the region at hand stays at hand"
    assert queue.state.verdict.category == "artefact: pen"
    set_threshold(queue._session, -1e9)  # all tiles become one region
    assert queue.wait()
    assert sizes(queue) == [150]
    assert queue.state.verdict.category == "artefact: pen"
    assert not queue.state.done(queue.state.region), "it has grown: look again"


def test_what_the_disk_does_not_take_is_told_and_saved_later(
    open_queue: OpenQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_ood.review.journal import Journal

    queue = open_queue()
    failures: list[str] = []
    queue.failed.connect(failures.append)
    queue.go_next()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Journal, "append", full)
        queue.judge(Kind.AGREE)
    assert len(failures) == 1
    assert (queue.state.unsaved, queue.state.n_done) == (1, 1)
    queue.save_again()
    assert queue.state.unsaved == 0
    assert open_queue().state.n_done == 1


def test_a_review_goes_on_in_another_folder(open_queue: OpenQueue, tmp_path: Path) -> None:
    queue = open_queue()
    queue.go_next()
    queue.judge(Kind.AGREE)
    queue.save_to(tmp_path / "elsewhere")
    queue.judge(Kind.AGREE)
    assert len(list((tmp_path / "elsewhere").glob("*.jsonl"))) == 1
    assert queue.state.found.store.progress(queue.state.regions) == (2, 3)
    assert open_queue().state.n_done == 1, "the first folder has what was given there"


def test_the_review_of_another_run_is_refused(open_queue: OpenQueue, run_path: Path) -> None:
    queue = open_queue()
    queue.go_next()
    queue.judge(Kind.AGREE)
    file = next(review_folder(run_path).glob("*.jsonl"))
    identity = queue.state.found.store.run_identity
    file.write_text(file.read_text().replace(identity, "0" * 64))
    again = open_queue()
    assert again.state.stage is Stage.FAILED
    assert "review of another run" in again.state.message


class Blocked:
    """A session's ``scored`` that waits until it is let go."""

    def __init__(self, session: Session) -> None:
        self.go, self.calls = threading.Event(), 0
        self._scored = session.scored
        session.scored = self  # type: ignore[method-assign]

    def __call__(self, maps: Maps) -> Any:
        self.calls += 1
        assert self.go.wait(30)
        return self._scored(maps)


def test_a_search_blocks_nobody_and_the_latest_wish_counts(open_queue: OpenQueue) -> None:
    queue = open_queue()
    before = queue.state.regions
    blocked = Blocked(queue._session)
    queue.set_min_tiles(2)
    while not blocked.calls:
        assert queue.poll()
    assert queue.state.searching
    assert queue.state.regions is before, "the list stays in use"
    for n in (3, 4, 5):
        queue.set_min_tiles(n)
        queue.poll()
    queue.choose(0)
    queue.judge(Kind.AGREE)
    blocked.go.set()
    assert queue.wait()
    assert blocked.calls == 2, "of four wishes the first and the last were searched for"
    assert sizes(queue) == [20]
    assert not queue.state.searching
    queue.set_min_tiles(1)
    assert queue.wait()
    assert queue.state.n_done == 1, "the verdict that was given meanwhile counts"


def test_what_there_is_to_say_without_regions(
    open_queue: OpenQueue,
) -> None:
    queue = open_queue()
    session = queue._session
    set_threshold(session, 1e9)
    assert queue.wait()
    assert queue.state.stage is Stage.EMPTY
    session.drop(session.state.maps)
    assert queue.state.stage is Stage.NO_RUN
    assert queue.state.regions == ()


def test_a_growing_run_is_not_reviewed(open_queue: OpenQueue) -> None:
    from napari_ood.viewer.output import Output

    queue = open_queue()
    session = queue._session
    path = session.state.maps.path
    session._update(phase=Phase.RUNNING, output=Output(path))
    assert queue.state.stage is Stage.RUNNING
    session._update(phase=Phase.IDLE)
    assert queue.wait()
    assert queue.state.stage is Stage.READY


def test_a_bundle_without_reference_needs_a_threshold(
    run: Run, slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    from napari_ood.models import save_bundle

    card = tiny_bundle.card
    folder = tmp_path / "bare"
    save_bundle(folder, tiny_bundle.trained_network(), card)
    session = Session()
    session.add_slide(slide)
    session.show(slide, Maps.of_run(run, load_bundle(folder)))
    queue = ReviewQueue(session, "Ada")
    queue.follow(session.state)
    assert queue.state.stage is Stage.NO_THRESHOLD
    assert queue.state.overlays == (Overlay.UNCERTAINTY,)
