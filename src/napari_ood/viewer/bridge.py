"""One viewer and its session, kept in step. No Qt: works on a bare ``ViewerModel``.

The bridge holds its viewer weakly: the viewer, not a table of sessions, decides how long all lives.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari.layers import Layer
from napari.utils.notifications import show_error

from napari_ood.errors import SlideError
from napari_ood.viewer import layers as ood_layers
from napari_ood.viewer.flags import WHAT_FLAGS_SHOW, Flags
from napari_ood.viewer.geometry import cell_at, map_placement
from napari_ood.viewer.job import Box
from napari_ood.viewer.map_layers import MapLayers
from napari_ood.viewer.maps import Maps
from napari_ood.viewer.regions import shape_region, view_region
from napari_ood.viewer.session import Session
from napari_ood.viewer.state import Scope, State
from napari_ood.viewer.steps import Steps
from napari_ood.viewer.warm_up import load_docks, warm_up

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.types import LayerData
    from napari.utils.events import Event

    from napari_ood.slides import Slide

HOVER_INTERVAL_S = 0.03


class Bridge:
    """Shows a session's slides and maps as layers, and tells it what happens in the viewer."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.session = Session()
        self._viewer = ref(viewer)
        self._last_hover = 0.0
        self.flags = Flags(viewer, self.session)
        in_window = hasattr(viewer, "window")  # a bare model has no event loop
        self.steps = Steps(in_window)
        self._maps = MapLayers(viewer, self.session, self.flags, self.steps)
        self.session.changed.connect(self._on_session_changed)
        self.session.failed.connect(show_error)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.mouse_move_callbacks.append(self._on_mouse_move)
        for layer in list(viewer.layers):
            self._adopt(layer)
        self._warm = threading.Event()
        if in_window:
            threading.Thread(target=self._prepare, name="napari-ood warm-up", daemon=True).start()
        else:
            self._warm.set()

    @property
    def viewer(self) -> ViewerModel | None:
        """The viewer; None when it is gone."""
        return self._viewer()

    def warm(self) -> None:
        """Wait until layers can be made quickly; for threads."""
        self._warm.wait()

    def _prepare(self) -> None:
        try:
            warm_up()
        finally:
            self._warm.set()
        load_docks()

    # ---------------------------------------------------------------- commands of the docks

    def run(self) -> bool:
        """Start a run on the chosen scope, or say why that cannot be; whether it was started."""
        scope = self.session.state.scope
        if scope is Scope.SLIDE:
            return self.session.start(None)
        region = self.region_of(scope)
        if region is None:
            show_error(
                "The current view does not show the slide: move it into view first."
                if scope is Scope.VIEW
                else "Draw or select a shape on the slide first (New shapes layer)."
            )
            return False
        return self.session.start(region)

    def region_of(self, scope: Scope) -> Box | None:
        """Level-0 box of a scope, clipped to the slide; None for the whole slide or nothing."""
        slide, viewer = self.session.state.slide, self.viewer
        if slide is None or viewer is None or scope is Scope.SLIDE:
            return None
        find = view_region if scope is Scope.VIEW else shape_region
        return find(viewer, slide)

    def show_associated(self, key: str) -> None:
        """Open an associated image of the chosen slide; only ever on request."""
        slide, viewer = self.session.state.slide, self.viewer
        if slide is None or viewer is None:
            return
        try:
            pixels = slide.associated[key]
        except SlideError as error:
            show_error(str(error))
            return
        with ood_layers.selection_kept(viewer):
            viewer.add_layer(
                ood_layers.make_layer(ood_layers.associated_layer_data(slide, key, pixels))
            )
        viewer.fit_to_view()

    def staged(self, layers: list[LayerData]) -> list[LayerData]:
        """Those layers of an opened run that napari is to add now; the others follow one by one.

        Parameters
        ----------
        layers : bottom first, as :meth:`~napari_ood.viewer.restore.Found.layer_data` gives them
        """
        if not hasattr(self.viewer, "window"):
            return layers
        overlays = [data for data in layers if ood_layers.MAPS_KEY in data[1]["metadata"]]
        others = [data for data in layers if ood_layers.OWNER_KEY in data[1]["metadata"]]
        self._show_run(overlays, others)
        return [data for data in layers if all(data is not x for x in (*overlays, *others))]

    def _show_run(self, overlays: list[LayerData], others: list[LayerData]) -> None:
        metadata = overlays[0][1]["metadata"]
        shown = next((x for x in reversed(overlays) if x[1]["visible"]), None)
        self._take_over(metadata[ood_layers.SLIDE_KEY], metadata[ood_layers.MAPS_KEY])
        if shown is not None:
            self.session.set_overlay(shown[1]["metadata"].get(ood_layers.OVERLAY_KEY))
        self._maps.add(others)

    def _take_over(self, slide: Slide | None, maps: Maps) -> None:
        self.session.show(slide, maps)
        if self.session.state.bundle is None and maps.bundle is not None:
            self.session.use_bundle(maps.bundle)

    def locate(self, path: Path) -> None:
        """Give a run whose slide was not found its slide, if it is the right one."""
        from napari_ood.slides import open_slide

        maps, viewer = self.session.state.maps, self.viewer
        if maps is None or viewer is None:
            return
        try:
            slide = open_slide(path, mpp=maps.mpp)
        except SlideError as error:
            show_error(str(error))
            return
        if slide.fingerprint() != maps.slide_record["fingerprint"]:
            show_error(f"{path.name} is not the slide of this run: its contents differ.")
            return
        for layer in self._maps.of(maps):
            layer.metadata = {**layer.metadata, ood_layers.SLIDE_KEY: slide}
        self.session.assign(maps, slide)
        with ood_layers.selection_kept(viewer):
            viewer.layers.insert(0, ood_layers.make_layer(ood_layers.slide_layer_data(slide)))

    # ---------------------------------------------------------------- viewer → session

    def _on_inserted(self, event: Event) -> None:
        self.steps.paint_apart()
        self._adopt(event.value)

    def _adopt(self, layer: Layer) -> None:
        ood_layers.settle_layer(layer)
        slide, maps = ood_layers.slide_of(layer), ood_layers.maps_of(layer)
        if slide is not None:
            self._show_scale_bar()
            self.session.add_slide(slide)
        if maps is not None:
            flags = ood_layers.is_flags(layer)
            layer.events.visible.connect(self._on_outline if flags else self._on_visible)
            if not self._maps.applying:
                self._adopt_maps(layer, maps)

    def _adopt_maps(self, layer: Layer, maps: Maps) -> None:
        with self._maps.applied():
            self._take_over(layer.metadata[ood_layers.SLIDE_KEY], maps)
        if layer.visible:
            self.session.set_overlay(ood_layers.overlay_of(layer))
        with self._maps.applied():
            self.flags.show(self.session.state)

    def _show_scale_bar(self) -> None:
        if self.viewer is not None:
            self.viewer.canvas.overlays.scale_bar.visible = True

    def _on_removed(self, event: Event) -> None:
        self.steps.paint_apart()
        layer = event.value
        slide, maps = ood_layers.slide_of(layer), ood_layers.maps_of(layer)
        if slide is not None and not self._maps.applying:
            self._maps.take_away(
                [x for x in self._layers() if ood_layers.owner_in(x.metadata) is slide]
            )
            self.session.remove_slide(slide)
        if maps is not None and not self._maps.of(maps):
            self.session.drop(maps)

    def _on_active(self, event: Event) -> None:
        layer = event.value
        slide = ood_layers.slide_of(layer) if layer is not None else None
        if slide is not None and not self._maps.applying:
            self.session.choose_slide(slide)

    def _on_visible(self, event: Event) -> None:
        """Follow the eye icons of the layer list."""
        maps = self.session.state.maps
        if self._maps.applying or maps is None:
            return
        layers = [x for x in self._maps.of(maps) if not ood_layers.is_flags(x)]
        shown = [ood_layers.overlay_of(x) for x in layers if x.visible]
        if len(shown) < 2:
            self.session.set_overlay(shown[0] if shown else None)

    def _on_outline(self, event: Event) -> None:
        """Follow the eye icon of the outline of flagged tiles."""
        state = self.session.state
        shown = ood_layers.maps_of(event.source) is state.maps and state.flagging is not None
        if not self._maps.applying and shown:
            self.session.set_outlined(event.source.visible)

    def _on_mouse_move(self, viewer: ViewerModel, event: Any) -> None:
        now = time.monotonic()
        maps = self.session.state.maps
        if maps is None or now - self._last_hover < HOVER_INTERVAL_S:
            return
        self._last_hover = now
        cell = cell_at(event.position, map_placement(maps.grid, maps.mpp), maps.shape)
        limits = {o: t.value for o, t in self.session.state.thresholds.items()}
        self.session.point_at(maps.readout(*cell, limits) if cell else None)

    # ---------------------------------------------------------------- session → viewer

    def tick(self, draws: bool = True) -> bool:
        """Show what a run has done since the last call; whether it is still going on.

        To be called a few times per second from the GUI thread while a run goes on. Unless it
        ``draws``, overlays and numbers wait for a later call, or for the run's end.
        """
        if self.viewer is None:
            self.session.cancel()
        else:
            self.session.look_at(self.region_of(Scope.VIEW))
        alive = self.session.poll(draws)
        for result in self.session.state.results:
            if not alive or (draws and result.maps.take_dirty()):
                self.flags.fill(result.maps, self.session.state)
                for layer in self._maps.of(result.maps):
                    ood_layers.refresh_layer(layer, final=not alive)
        return alive

    def _on_session_changed(self, new: State, old: State) -> None:
        if self.viewer is None:
            return
        with self._maps.applied():
            if new.differs(old, "slides"):
                self._replace_slides(new, old)
            if new.differs(old, "results"):
                self._maps.replace(new, old)
            if new.differs(old, "scales"):
                self._maps.rescale(new)
            if new.differs(old, "results", "overlay", "opacities", "slide"):
                self._maps.show_overlay(new)
            if new.differs(old, *WHAT_FLAGS_SHOW):
                self.flags.show(new)

    def _replace_slides(self, new: State, old: State) -> None:
        """Follow a slide that was opened anew with another mpp."""
        if len(new.slides) != len(old.slides):
            return
        for after, before in zip(new.slides, old.slides, strict=True):
            if after is not before:
                for layer in self._layers():
                    if before in (ood_layers.slide_of(layer), ood_layers.owner_in(layer.metadata)):
                        ood_layers.replace_slide(layer, after)
        if self.viewer is not None:
            self.viewer.fit_to_view()

    def _layers(self) -> list[Layer]:
        return list(self.viewer.layers) if self.viewer is not None else []


_BRIDGES: WeakKeyDictionary[ViewerModel, Bridge] = WeakKeyDictionary()


def bridge_of(viewer: ViewerModel) -> Bridge:
    """The bridge of a viewer, made on first use; it lives exactly as long as the viewer."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
    bridge = _BRIDGES.get(viewer)
    if bridge is None:
        bridge = _BRIDGES[viewer] = Bridge(viewer)
    return bridge
