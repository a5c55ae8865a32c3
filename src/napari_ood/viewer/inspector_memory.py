"""What the inspector remembers of each run, as long as the run's maps are at hand."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from napari_ood.explain.target import Target
    from napari_ood.viewer.inspector_state import Cell, Shown, Wish
    from napari_ood.viewer.maps import Maps

KEPT = 12
"""Maps that are kept per run, so that a tile that was explained comes back at once."""


class Memory:
    """Chosen tiles, saliency maps and ends of colour scales, by run."""

    def __init__(self) -> None:
        self._cells: WeakKeyDictionary[Maps, tuple[Cell, ...]] = WeakKeyDictionary()
        self._shown: WeakKeyDictionary[Maps, OrderedDict[object, Shown]] = WeakKeyDictionary()
        self._limits: WeakKeyDictionary[Maps, dict[object, float]] = WeakKeyDictionary()

    def cells(self, maps: Maps | None) -> tuple[Cell, ...]:
        """The tiles that were chosen last; none where none were."""
        return self._cells.get(maps, ()) if maps is not None else ()

    def choose(self, maps: Maps, cells: tuple[Cell, ...]) -> None:
        """Remember which tiles were chosen."""
        self._cells[maps] = cells

    def shown(self, maps: Maps | None, cells: tuple[Cell, ...], wish: Wish) -> Shown | None:
        """The map of these tiles that was made before."""
        kept = self._shown.get(maps) if maps is not None else None
        return kept.get((cells, wish)) if kept is not None else None

    def limit(self, maps: Maps, wish: Wish, target: Target) -> float | None:
        """Where the run's colour scale ends; None where that is not known yet."""
        return self._limits.get(maps, {}).get((wish.method, wish.layer, target))

    def keep(self, maps: Maps, shown: Shown) -> None:
        """Remember a map and its colour scale; the oldest map makes room."""
        wish = shown.wish
        self._limits.setdefault(maps, {})[wish.method, wish.layer, shown.target] = shown.limit
        kept = self._shown.setdefault(maps, OrderedDict())
        kept[shown.cells, wish] = shown
        while len(kept) > KEPT:
            kept.popitem(last=False)

    def drop_maps(self, maps: Maps) -> None:
        """Forget a run's maps and scales."""
        self._shown.pop(maps, None)
        self._limits.pop(maps, None)
