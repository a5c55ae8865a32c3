"""The overlays of a session's runs as layers: added, reused, shown, taken away. No Qt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari_ood.viewer import layers as ood_layers
from napari_ood.viewer.maps import Overlay

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.types import LayerData

    from napari_ood.viewer.flags import Flags
    from napari_ood.viewer.maps import Maps
    from napari_ood.viewer.session import Session
    from napari_ood.viewer.state import Result, State
    from napari_ood.viewer.steps import Steps


class MapLayers:
    """Keeps a viewer's overlays in step with a session.

    Attributes
    ----------
    applying : whether layers are being changed from here, so that it need not be reported back
    """

    def __init__(self, viewer: ViewerModel, session: Session, flags: Flags, steps: Steps) -> None:
        self.applying = False
        self._viewer = ref(viewer)
        self._session, self._flags, self._steps = session, flags, steps

    def replace(self, new: State, old: State) -> None:
        """Follow maps that came and went between two snapshots."""
        gone = [r for r in old.results if not _was_in(r.maps, new)]
        for result in new.results:
            if not _was_in(result.maps, old) and not self.of(result.maps):
                before = next((r for r in gone if r.slide is result.slide), None)
                self._show_new(result, self.of(before.maps) if before else [])
        self.take_away([layer for result in gone for layer in self.of(result.maps)])

    def _show_new(self, result: Result, free: list[Layer]) -> None:
        """Show maps in the layers of those they replace, which need not be removed then."""
        name = result.slide.name if result.slide is not None else result.maps.name
        layers = {ood_layers.overlay_of(x): x for x in free}
        added: list[LayerData] = []
        for data in ood_layers.overlay_layer_data(result.maps, result.slide, name):
            layer = layers.get(data[1]["metadata"].get(ood_layers.OVERLAY_KEY))
            if layer is None:
                added.append(data)
            elif layer.visible or ood_layers.is_flags(layer):
                ood_layers.reuse_layer(layer, data)
            else:
                ood_layers.claim_layer(layer, data)
                self._steps.add(partial(self._reuse, ref(layer), data))
        self.add(added)

    def _reuse(self, which: ref[Layer], data: LayerData) -> None:
        """Have a hidden layer show what it was claimed for, unless that has gone since."""
        layer, maps = which(), data[1]["metadata"][ood_layers.MAPS_KEY]
        if layer is not None and ood_layers.maps_of(layer) is maps:
            with self.applied():
                ood_layers.reuse_layer(layer, data)

    def add(self, every: list[LayerData]) -> None:
        """Add layers, bottom first, one by one; the user first sees what is visible."""
        visible = [data for data in every if data[1]["visible"]]
        hidden = [data for data in reversed(every) if not data[1]["visible"]]
        for data in (*visible, *hidden):
            self._steps.add(partial(self._make, data))

    def _make(self, data: LayerData) -> None:
        """Make a layer, in a turn of its own before the one in which it is inserted."""
        if self._wants(data[1]["metadata"]):
            layer = ood_layers.make_layer(data)
            self._steps.add_next(partial(self._insert, layer))

    def _wants(self, metadata: Mapping[str, Any]) -> bool:
        """Whether what a layer would show is still there."""
        maps, owner = metadata.get(ood_layers.MAPS_KEY), ood_layers.owner_in(metadata)
        state = self._session.state
        if maps is not None:
            return _was_in(maps, state)
        return any(s is owner for s in state.slides)

    def _insert(self, layer: Layer) -> None:
        viewer, maps = self._viewer(), ood_layers.maps_of(layer)
        if viewer is None or not self._wants(layer.metadata):
            return
        result = next((r for r in self._session.state.results if r.maps is maps), None)
        with self.applied(), ood_layers.selection_kept(viewer):
            overlay = ood_layers.overlay_of(layer)
            place = len(viewer.layers) if result is None else self._place_of(result, overlay)
            viewer.layers.insert(place, layer)
        self._steps.add_once(self._show)

    def _show(self) -> None:
        """Make what was inserted look as the state says, which may have changed since."""
        with self.applied():
            self.show_overlay(self._session.state)
            self._flags.show(self._session.state)

    def take_away(self, layers: list[Layer]) -> None:
        """Hide layers at once, and remove them one by one."""
        with self.applied():
            for layer in layers:
                if layer.visible:
                    layer.visible = False
        for layer in layers:
            self._steps.add(partial(self._remove, ref(layer)))

    def _remove(self, which: ref[Layer]) -> None:
        viewer, layer = self._viewer(), which()
        if viewer is not None and layer is not None and layer in viewer.layers:
            with self.applied():
                viewer.layers.remove(layer)

    def _place_of(self, result: Result, overlay: Overlay | None) -> int:
        """Index for an overlay: above its slide and what lies below it; None is the outline."""
        below = list(Overlay)[: None if overlay is None else list(Overlay).index(overlay)]
        layers = self._all()
        under = [
            i
            for i, x in enumerate(layers)
            if ood_layers.slide_of(x) is result.slide is not None
            or (ood_layers.maps_of(x) is result.maps and ood_layers.overlay_of(x) in below)
        ]
        return 1 + max(under, default=len(layers) - 1)

    def show_overlay(self, state: State) -> None:
        """Make the chosen overlay visible, and no other."""
        for result in state.results:
            for layer in self.of(result.maps):
                overlay = ood_layers.overlay_of(layer)
                if overlay is not None:
                    _show_as(layer, overlay is state.overlay, state.opacities[overlay], result.maps)

    def rescale(self, state: State) -> None:
        """Follow another score or temperature of the chosen maps."""
        for layer in self.of(state.maps) if state.maps else []:
            overlay = ood_layers.overlay_of(layer)
            scale = state.scales.get(overlay) if overlay is not None else None
            if scale is not None:
                layer.contrast_limits = (scale.low, scale.high)
            ood_layers.refresh_layer(layer, final=True)

    # ---------------------------------------------------------------- helpers

    def _all(self) -> list[Layer]:
        viewer = self._viewer()
        return list(viewer.layers) if viewer is not None else []

    def of(self, maps: Maps) -> list[Layer]:
        """The layers of a run: its overlays and its outline."""
        return [x for x in self._all() if ood_layers.maps_of(x) is maps]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While layers are changed from here the bridge does not report those changes back."""
        before, self.applying = self.applying, True
        try:
            yield
        finally:
            self.applying = before


def _show_as(layer: Layer, visible: bool, opacity: float, maps: Maps) -> None:
    """Set what differs: napari takes 10 ms for each, also where nothing changes."""
    opacity = ood_layers.overlay_opacity(maps, opacity)
    if layer.visible != visible:
        layer.visible = visible
    if layer.opacity != opacity:
        layer.opacity = opacity


def _was_in(maps: Maps, state: State) -> bool:
    return any(r.maps is maps for r in state.results)
