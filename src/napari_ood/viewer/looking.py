"""How each slide's maps are looked at: thresholds, temperature, scores. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_ood.errors import RunError, ThresholdError
from napari_ood.scores.thresholds import DEFAULT_KEEP, Meaning, keep_threshold
from napari_ood.viewer.maps import Maps, Overlay
from napari_ood.viewer.state import LENS, NOTHING, Result, State

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.viewer.scales import Scale


def default_threshold(scale: Scale) -> Threshold | None:
    """Keeps 95 % of in-distribution tiles; None without a reference."""
    if scale.familiar is None:
        return None
    try:
        return keep_threshold(scale.score, scale.familiar, DEFAULT_KEEP)
    except ThresholdError:
        return None


class Looking:
    """Remembers, for as long as maps live, how they were looked at."""

    def __init__(self) -> None:
        self._lenses: WeakKeyDictionary[Maps, Mapping[str, Any]] = WeakKeyDictionary()
        self._scored: WeakKeyDictionary[Maps, ScoredRun] = WeakKeyDictionary()

    def at(self, maps: Maps | None) -> Mapping[str, Any]:
        """The fields of the state that go with maps, as they were left, or their defaults."""
        if maps is None:
            return {**dict.fromkeys(LENS, NOTHING), "temperature": None}
        if maps not in self._lenses:
            self._lenses[maps] = {
                "thresholds": self._first_thresholds(maps),
                "scales": maps.scales,
                "temperature": None,
                "figures": NOTHING,
            }
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
            opened = _open(maps)
            if opened is None:
                return None
            self._scored[maps] = opened
        return self._scored[maps]

    def use(self, maps: Maps, scored: ScoredRun) -> None:
        """Take over the run at another temperature."""
        self._scored[maps] = scored


def _open(maps: Maps) -> ScoredRun | None:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.inference import open_run

    if maps.path is None:
        return None
    try:
        return ScoredRun(open_run(maps.path), maps.bundle)
    except RunError:
        return None  # moved or deleted since: the maps still show what it was


def _same_bundle(a: Maps, b: Maps) -> bool:
    return a.bundle is not None and b.bundle is not None and a.bundle.hashes == b.bundle.hashes


def _fits(threshold: Threshold, scale: Scale) -> bool:
    return threshold.score == scale.score and threshold.meaning is not Meaning.COVERAGE
