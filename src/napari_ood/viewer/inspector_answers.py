"""The inspector's answers, one behind each tab: heads, similar tiles, cause; saliency apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QWidget

from napari_ood.viewer.inspector_state import Answer, Inspected, Look, Tab
from napari_ood.viewer.section_cause import CauseSection
from napari_ood.viewer.section_heads import HeadsSection
from napari_ood.viewer.section_prototypes import PrototypesSection
from napari_ood.viewer.section_results import noun
from napari_ood.viewer.widgets import Segmented, text_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_ood.viewer.maps import Maps

WORKING = "Working it out…"
TABS = (
    (Tab.HEADS, "Heads"),
    (Tab.PROTOTYPES, "Similar"),
    (Tab.CAUSE, "Cause"),
    (Tab.SALIENCY, "Saliency"),
)


class Answers:
    """Tabs and the sections behind them; of those, the one that is asked for is shown.

    Attributes
    ----------
    tabs, working, heads, prototypes, cause : widgets, for a dock to lay out
    """

    def __init__(self) -> None:
        self.tabs = Segmented[Tab](TABS)
        self.working = text_label(WORKING, muted=True)
        self.heads = HeadsSection()
        self.prototypes = PrototypesSection()
        self.cause = CauseSection()

    @property
    def widgets(self) -> tuple[QWidget, ...]:
        """All of them, from top to bottom."""
        return self.tabs, self.working, self.heads, self.prototypes, self.cause

    def show(self, state: Inspected, foreign: bool | None, saliency: QWidget) -> None:
        """Show one answer about the chosen tile, or that it is being worked out.

        Parameters
        ----------
        foreign : whether the tile is above a threshold; None: not known
        saliency : the widget behind the fourth tab
        """
        look = state.look
        chosen = state.cell is not None and look is not None
        answer = answer_of(look, state.tab) if look is not None else None
        waiting = answer is not None and not answer.known
        self.tabs.setVisible(chosen)
        self.tabs.set_value(state.tab)
        self.working.setVisible(chosen and waiting and state.looking)
        sections: dict[Tab, QWidget] = {
            Tab.HEADS: self.heads,
            Tab.PROTOTYPES: self.prototypes,
            Tab.CAUSE: self.cause,
            Tab.SALIENCY: saliency,
        }
        for tab, section in sections.items():
            section.setVisible(chosen and tab is state.tab and not waiting)
        if look is not None and state.maps is not None and not waiting:
            self._fill(state.tab, look, state.maps, foreign)

    def _fill(self, tab: Tab, look: Look, maps: Maps, foreign: bool | None) -> None:
        if tab is Tab.HEADS:
            self.heads.show_heads(look.heads, maps.classes, maps.colors)
        elif tab is Tab.PROTOTYPES:
            pixels: NDArray[np.uint8] | None = look.pixels.value
            self.prototypes.show_prototypes(
                look.prototypes, pixels, maps.classes, maps.colors, noun(maps)
            )
        elif tab is Tab.CAUSE:
            self.cause.show_cause(look.cause, foreign)


def answer_of(look: Look, tab: Tab) -> Answer[Any] | None:
    """The answer that a tab shows; None for saliency, which is asked for."""
    answers: dict[Tab, Answer[Any]] = {
        Tab.HEADS: look.heads,
        Tab.PROTOTYPES: look.prototypes,
        Tab.CAUSE: look.cause,
    }
    return answers.get(tab)
