"""Scores, figures and thresholds of a stored run, worked out in a thread. No Qt, no network.

The GUI polls, the thread never calls it. What was computed once is kept by the
:class:`~napari_ood.analysis.ScoredRun`, so going back to a score or temperature takes no time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.offered import depends_on_temperature
from napari_ood.analysis.summary import summarise
from napari_ood.errors import OodError, ThresholdError
from napari_ood.scores import parse_score
from napari_ood.scores.thresholds import (
    DEFAULT_KEEP,
    Threshold,
    keep_threshold,
    value_threshold,
)
from napari_ood.viewer.figure import Figure, make_figure
from napari_ood.viewer.scales import Scale, chosen_scale
from napari_ood.viewer.sets import Sets, SetsAsked, work_out_sets

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.viewer.maps import Maps, Overlay, Rescored

Floats = NDArray[np.float32]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Question:
    """What is to be worked out.

    ``names``: the score that each overlay shall show; ``thresholds``: those to carry over.
    ``scored`` has the temperature that is asked for.
    """

    maps: Maps
    scored: ScoredRun
    names: Mapping[Overlay, str]
    scales: Mapping[Overlay, Scale]
    thresholds: Mapping[Overlay, Threshold]
    rescored: bool
    sets: SetsAsked | None = None

    def at_temperature(self, temperature: float | None) -> Question:
        """The same at another temperature; None is the bundle's own.

        Raises
        ------
        ThresholdError
            If it is not positive.
        """
        own = self.scored.card.temperature if temperature is None else temperature
        return replace(self, scored=self.scored.with_temperature(own))


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of it; ``rescored`` is None where no score changes."""

    rescored: Rescored | None
    thresholds: Mapping[Overlay, Threshold]
    figures: Mapping[Overlay, Figure]
    sets: Sets | None


class Study:
    """A question in a thread.

    Attributes
    ----------
    answer : None while it works and after an error
    error : one line for the user when it has failed
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.answer: Answer | None = None
        self.error: str | None = None
        # A daemon: nothing is written, so nothing is lost when the program ends half-way.
        self._thread = threading.Thread(target=self._work, name="napari-ood study", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it is still working."""
        return self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended; whether it has. For scripts and tests."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            self.answer = answer(self.question)
        except OodError as error:
            self.error = str(error)
        except Exception as error:
            log.exception("scores failed")
            self.error = f"Scores could not be worked out: {type(error).__name__}: {error}"


def answer(question: Question) -> Answer:
    """Work out a question; raises what ``ScoredRun.score`` raises."""
    scored = question.scored
    scores: dict[Overlay, tuple[Scale, Floats]] = {}
    figures: dict[Overlay, Figure] = {}
    thresholds: dict[Overlay, Threshold] = {}
    for overlay, name in question.names.items():
        scale, before = question.scales[overlay], question.thresholds.get(overlay)
        at_another = question.rescored and depends_on_temperature(parse_score(name))
        if at_another or name != scale.score:
            values = scored.score(name)
            scale = chosen_scale(name, scored.card, scored.familiar(name), values)
            scores[overlay] = (scale, values)
        threshold = _carried(scored, scale, before)
        if threshold is not None:
            thresholds[overlay] = threshold
        figures[overlay] = make_figure(scale, scored)
        # Read-outs are asked for by the window's thread: what they need is worked out here.
        summarise(scored, value_threshold(scale.score, 0.0))
    probabilities = scored.probabilities() if question.rescored else None
    sets = work_out_sets(scored, question.sets) if question.sets else None
    rescored = None
    if scores or probabilities is not None:
        rescored = question.maps.rescored_by(scored.index, probabilities, scores)
    return Answer(rescored, thresholds, figures, sets)


def _carried(scored: ScoredRun, scale: Scale, before: Threshold | None) -> Threshold | None:
    """The threshold with the meaning that it had, on this score at this temperature."""
    if before is not None:
        try:
            return scored.renewed(before, scale.score)
        except ThresholdError:
            pass  # out of reach there, or a plain value of another score
    return default_threshold(scale)


def default_threshold(scale: Scale) -> Threshold | None:
    """Keeps 95 % of in-distribution tiles; None without a reference."""
    if scale.familiar is None:
        return None
    try:
        return keep_threshold(scale.score, scale.familiar, DEFAULT_KEEP)
    except ThresholdError:
        return None
