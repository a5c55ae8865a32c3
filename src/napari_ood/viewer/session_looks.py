"""How a session's results are looked at: overlay, thresholds, scores. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_ood.errors import OodError
from napari_ood.viewer.looking import Looking
from napari_ood.viewer.maps import Maps, Overlay, Readout
from napari_ood.viewer.state import State, same
from napari_ood.viewer.study import Question, default_threshold

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.viewer.places import Places
    from napari_ood.viewer.sets import SetsAsked


class SessionLooks:
    """The state of one viewer, and the commands that change how its results are looked at.

    Signals
    -------
    changed(new, old) : after every change of the state
    failed(message) : one line for the user; each failure is reported once
    """

    changed = Signal(object, object)
    failed = Signal(str)

    def __init__(self) -> None:
        self.state = State()
        self._looking = Looking()

    def _update(self, **changes: Any) -> None:
        old = self.state
        if all(same(getattr(old, name), value) for name, value in changes.items()):
            return
        new = replace(old, **changes)
        if new.maps is not old.maps:
            new = replace(new, **self._looking.at(new.maps))
        self._looking.keep(new)
        self.state = new
        self.changed.emit(new, old)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn a typed error into one report to the user."""
        try:
            yield
        except OodError as error:
            self.failed.emit(str(error))

    def _is_growing(self, maps: Maps) -> bool:
        """Whether a run is still adding to these maps."""
        raise NotImplementedError

    # ---------------------------------------------------------------- overlay

    def set_overlay(self, overlay: Overlay | None) -> None:
        """Make one overlay visible, or none."""
        self._update(overlay=overlay)

    def set_opacity(self, opacity: float) -> None:
        """Opacity of the visible overlay, 0 to 1; each keeps its own."""
        overlay = self.state.overlay
        if overlay is not None and opacity != self.state.opacities[overlay]:
            self._update(opacities={**self.state.opacities, overlay: min(max(opacity, 0.0), 1.0)})

    # ---------------------------------------------------------------- thresholds and scores

    def scored(self, maps: Maps | None) -> ScoredRun | None:
        """The stored run behind maps, with its caches; None while it is going on or not stored.

        Cheap: arrays are read when a score is asked for, which callers do in a thread.
        """
        if maps is None or self._is_growing(maps):
            return None
        return self._looking.scored(maps)

    def set_threshold(self, overlay: Overlay, threshold: Threshold) -> None:
        """Flag tiles of the chosen slide above this threshold; of the bundle's other slides too.

        A coverage of this slide says nothing about others and stays its own.
        """
        maps = self.state.maps
        if maps is not None and overlay in maps.scales:
            self._looking.spread(maps, self.state.results, overlay, threshold)
            self._update(thresholds={**self.state.thresholds, overlay: threshold})

    def threshold_of(self, maps: Maps, overlay: Overlay | None) -> Threshold | None:
        """The threshold of an overlay of any maps that are shown; None where there is none."""
        if overlay is None:
            return None
        threshold: Threshold | None = self._looking.at(maps)["thresholds"].get(overlay)
        return threshold

    def reset_threshold(self, overlay: Overlay) -> None:
        """Go back to the threshold that keeps 95 % of in-distribution tiles, if it is known."""
        scale = self.state.scales.get(overlay)
        default = default_threshold(scale) if scale else None
        if default is not None:
            self.set_threshold(overlay, default)

    def set_score(self, overlay: Overlay, name: str) -> None:
        """Let an overlay of the chosen slide show another score, from stored arrays alone."""
        self._ask(lambda q: replace(q, names={**q.names, overlay: name}))

    def set_temperature(self, temperature: float | None) -> None:
        """Divide stored logits by another temperature; None for the bundle's own."""
        self._ask(lambda q: q.at_temperature(temperature))

    def set_sets(self, asked: SetsAsked | None) -> None:
        """Work out conformal prediction sets; None for none."""
        self._ask(lambda q: replace(q, sets=asked))

    def study(self) -> None:
        """Work out the figures of the chosen slide's scores, unless they are there."""
        if not self.state.figures:
            self._ask(lambda q: q)

    def _ask(self, change: Callable[[Question], Question]) -> None:
        """Have a thread work out what the maps are asked for, with a change."""
        maps = self.state.maps
        scored = self.scored(maps)
        if maps is None or scored is None:
            return
        with self._reporting():
            self._looking.ask(maps, scored, change)
            self._update(studying=True)

    def set_sets_outlined(self, outlined: bool) -> None:
        """Outline the tiles whose prediction set is not a single class, instead of flagged ones."""
        self._update(sets_outlined=outlined)

    def follow(self) -> bool:
        """Take over scores and figures that were worked out; whether more are to come."""
        done = self._looking.take()
        if done is not None:
            maps, fields, error = done
            if maps is self.state.maps:
                self._update(**fields)
            if error:
                self.failed.emit(error)
        studying = self._looking.studying
        self._update(studying=studying)
        return studying

    def set_outlined(self, outlined: bool) -> None:
        """Draw an outline around flagged tiles, or not."""
        self._update(outlined=outlined)

    def set_legend(self, legend: bool) -> None:
        """Show a legend on the canvas, or not."""
        self._update(legend=legend)

    def set_flagged_only(self, only: bool) -> None:
        """Hide tiles that are not flagged, or show all."""
        self._update(flagged_only=only)

    def set_places(self, places: Places | None) -> None:
        """Have these places reviewed; None for the regions above a threshold again."""
        self._update(places=places)

    def point_at(self, readout: Readout | None) -> None:
        """Say what lies under the cursor."""
        self._update(readout=readout)
