"""How each slide's maps are looked at: thresholds, temperature, scores. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_ood.errors import RunError
from napari_ood.scores.thresholds import Meaning
from napari_ood.viewer.maps import Maps, Overlay
from napari_ood.viewer.state import LENS, NOTHING, Result, State
from napari_ood.viewer.study import Answer, Question, Study, default_threshold

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.viewer.scales import Scale


_NONE = dict.fromkeys(("temperature", "sets_asked", "sets"))
EMPTY: Mapping[str, Any] = MappingProxyType({**dict.fromkeys(LENS, NOTHING), **_NONE})
"""Fields of the state that go with maps, where there are none."""


class Looking:
    """Remembers, for as long as maps live, how they were looked at."""

    def __init__(self) -> None:
        self._lenses: WeakKeyDictionary[Maps, Mapping[str, Any]] = WeakKeyDictionary()
        self._scored: WeakKeyDictionary[Maps, ScoredRun] = WeakKeyDictionary()
        self._study: Study | None = None
        self._next: Question | None = None

    def at(self, maps: Maps | None) -> Mapping[str, Any]:
        """The fields of the state that go with maps, as they were left, or their defaults."""
        if maps is None:
            return EMPTY
        if maps not in self._lenses:
            thresholds = self._first_thresholds(maps)
            self._lenses[maps] = {**EMPTY, "thresholds": thresholds, "scales": maps.scales}
        return self._lenses[maps]

    def keep(self, state: State) -> None:
        """Remember how the chosen maps are looked at."""
        if state.maps is not None:
            self._lenses[state.maps] = {name: getattr(state, name) for name in LENS}

    def _first_thresholds(self, maps: Maps) -> dict[Overlay, Threshold]:
        """Those set for the same bundle on another slide, else the default."""
        others = [lens for m, lens in self._lenses.items() if _same_bundle(m, maps)]
        found: dict[Overlay, Threshold] = {}
        for overlay, scale in maps.scales.items():
            known = [t for lens in others if (t := lens["thresholds"].get(overlay))]
            chosen = known[-1] if known and _fits(known[-1], scale) else default_threshold(scale)
            if chosen is not None:
                found[overlay] = chosen
        return found

    def spread(
        self, maps: Maps, results: Iterable[Result], overlay: Overlay, threshold: Threshold
    ) -> None:
        """Let a threshold hold for the same score of other slides that the same bundle has run."""
        for other in (r.maps for r in results if r.maps is not maps):
            lens = self._lenses.get(other)
            scale = other.scales.get(overlay)
            if lens and scale and _same_bundle(other, maps) and _fits(threshold, scale):
                thresholds = {**lens["thresholds"], overlay: threshold}
                self._lenses[other] = {**lens, "thresholds": thresholds}

    def scored(self, maps: Maps) -> ScoredRun | None:
        """The stored run behind maps at the temperature they are looked at; None if not stored."""
        if maps not in self._scored:
            opened = maps.stored or open_scored(maps)
            if opened is None:
                return None
            self._scored[maps] = opened
        return self._scored[maps]

    # ---------------------------------------------------------------- worked out in a thread

    @property
    def studying(self) -> bool:
        """Whether an answer is still to come."""
        return self._study is not None

    def ask(self, maps: Maps, scored: ScoredRun, change: Callable[[Question], Question]) -> None:
        """Have scores, thresholds and figures of maps worked out; the latest wish counts.

        ``change`` makes of what was asked last, or of how the maps are looked at, what is wished.

        Raises
        ------
        ThresholdError
            If a temperature is wished that is not positive.
        """
        lens, before = self.at(maps), self._next
        if before is None and self._study is not None:
            before = self._study.question
        if before is None or before.maps is not maps:
            names = {overlay: scale.score for overlay, scale in maps.scales.items()}
            before = Question(maps, scored, names, maps.scales, {}, False, lens["sets_asked"])
        wished = change(before)
        question = replace(
            wished,
            scales=maps.scales,
            thresholds=lens["thresholds"],
            rescored=wished.scored.temperature != scored.temperature,
        )
        if self._study is None:
            self._study = Study(question)
        else:
            self._next = question

    def take(self) -> tuple[Maps, Mapping[str, Any], str | None] | None:
        """Take over an answer: of which maps, their new fields, an error for the user, or None."""
        study = self._study
        if study is None or study.alive:
            return None
        following, self._next = self._next, None
        self._study = Study(following) if following is not None else None
        asked, answer = study.question, study.answer
        if answer is None:
            return asked.maps, {}, study.error
        if following is not None and following.maps is asked.maps:
            return None  # the user has already wished for something else
        return asked.maps, self._apply(asked, answer), None

    def _apply(self, asked: Question, answer: Answer) -> Mapping[str, Any]:
        maps, scored = asked.maps, asked.scored
        if answer.rescored is not None:
            maps.rescore(answer.rescored)
        self._scored[maps] = scored
        moved = {
            overlay: threshold
            for overlay, threshold in self.at(maps)["thresholds"].items()
            if threshold is not asked.thresholds.get(overlay)
            and threshold.score == maps.scales[overlay].score
        }
        own = scored.temperature == scored.card.temperature
        self._lenses[maps] = {
            "thresholds": {**answer.thresholds, **moved},
            "scales": maps.scales,
            "temperature": None if own else scored.temperature,
            "figures": answer.figures,
            "sets_asked": asked.sets,
            "sets": answer.sets,
        }
        return self._lenses[maps]

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the work at hand has ended; whether it has. For scripts and tests."""
        return self._study is None or self._study.wait(timeout)


def open_scored(maps: Maps) -> ScoredRun | None:
    """The stored run behind maps, knowing the scores on screen; None where it is not at hand.

    Takes 0.2 s at a million tiles, so whoever makes maps in a thread calls it there and keeps the
    outcome as ``maps.stored``.
    """
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.inference import open_run

    if maps.path is None:
        return None
    try:
        scored = ScoredRun(open_run(maps.path), maps.bundle)
    except RunError:
        return None  # moved or deleted since: the maps still show what it was
    rows, cols = scored.index.T
    if maps.prediction[rows, cols].all():
        # What is on the slide need not be read again: features of a big run are gigabytes.
        for overlay, scale in maps.scales.items():
            scored.remember(scale.score, maps.scores[overlay][rows, cols])
    return scored


def _same_bundle(a: Maps, b: Maps) -> bool:
    return a.bundle is not None and b.bundle is not None and a.bundle.hashes == b.bundle.hashes


def _fits(threshold: Threshold, scale: Scale) -> bool:
    return threshold.score == scale.score and threshold.meaning is not Meaning.COVERAGE
