"""The section of slide-wide maps, bound to a viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood.viewer.fine_maps import FineState
from napari_ood.viewer.fine_ticker import keep_ticking
from napari_ood.viewer.mosaic_layer import fine_ramp, mosaic_layer_of
from napari_ood.viewer.section_fine_map import FineMapSection

if TYPE_CHECKING:
    from napari_ood.viewer.bridge import Bridge


class FineMapPanel(FineMapSection):
    """The section for a dock to hold; the map goes on without it.

    Parameters
    ----------
    bridge : Bridge
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._layer = mosaic_layer_of(bridge)
        self.fine = self._layer.fine
        self.kind_chosen.connect(lambda name: self.fine.wish(kind=name))
        self.target_chosen.connect(lambda target: self.fine.wish(target=target))
        self.scope_chosen.connect(lambda scope: self.fine.wish(scope=scope))
        self.start_asked.connect(self._start)
        self.stop_asked.connect(self.fine.stop)
        self.fine.changed.connect(self._show)
        self._show(self.fine.state, None)

    def _start(self) -> None:
        if self._layer.start():
            keep_ticking(self._layer, self)

    def _show(self, new: FineState, old: FineState | None) -> None:
        made = new.made
        mosaic = made.mosaic if made is not None else None
        ramp = None
        if made is not None and mosaic is not None:
            ramp = fine_ramp(made, mosaic.mapper.signed)
        self.show_state(new, old, ramp)

    def teardown(self) -> None:
        """Stop following; may be called more than once."""
        self.fine.changed.disconnect(self._show, missing_ok=True)
