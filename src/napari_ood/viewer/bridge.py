"""One viewer and its session, kept in step. No Qt: works on a bare ``ViewerModel``.

The bridge holds its viewer weakly: the viewer, not a table of sessions, decides how long all lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari.layers import Layer
from napari.utils.notifications import show_error

from napari_ood.errors import SlideError
from napari_ood.slides import open_slide
from napari_ood.viewer import layers as ood_layers
from napari_ood.viewer.flags import WHAT_FLAGS_SHOW, Flags
from napari_ood.viewer.geometry import cell_at, map_placement
from napari_ood.viewer.job import Box
from napari_ood.viewer.maps import Maps, Overlay
from napari_ood.viewer.regions import shape_region, view_region
from napari_ood.viewer.session import Session
from napari_ood.viewer.state import Result, Scope, State

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.types import LayerData
    from napari.utils.events import Event

HOVER_INTERVAL_S = 0.03


class Bridge:
    """Shows a session's slides and maps as layers, and tells it what happens in the viewer."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.session = Session()
        self._viewer = ref(viewer)
        self._applying = False
        self._last_hover = 0.0
        self._due: list[tuple[Result, LayerData]] = []
        self.flags = Flags(viewer, self.session)
        self.session.changed.connect(self._on_session_changed)
        self.session.failed.connect(show_error)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.mouse_move_callbacks.append(self._on_mouse_move)
        for layer in list(viewer.layers):
            self._adopt(layer)

    @property
    def viewer(self) -> ViewerModel | None:
        """The viewer; None when it is gone."""
        return self._viewer()

    # ---------------------------------------------------------------- commands of the docks

    def run(self) -> bool:
        """Start a run on the chosen scope, or say why that cannot be; whether it was started."""
        threading.Thread(target=ood_layers.warm_up, name="napari-ood warm-up", daemon=True).start()
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
        with self._selection_kept():
            viewer.add_layer(
                ood_layers.make_layer(ood_layers.associated_layer_data(slide, key, pixels))
            )
        viewer.fit_to_view()

    def locate(self, path: Path) -> None:
        """Give a run whose slide was not found its slide, if it is the right one."""
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
        for layer in self._layers_of(maps):
            layer.metadata = {**layer.metadata, ood_layers.SLIDE_KEY: slide}
        self.session.assign(maps, slide)
        with self._selection_kept():
            viewer.layers.insert(0, ood_layers.make_layer(ood_layers.slide_layer_data(slide)))

    # ---------------------------------------------------------------- viewer → session

    def _on_inserted(self, event: Event) -> None:
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
            if not self._applying:
                self._adopt_maps(layer, maps)

    def _adopt_maps(self, layer: Layer, maps: Maps) -> None:
        with self._applied():
            self.session.show(layer.metadata[ood_layers.SLIDE_KEY], maps)
        if layer.visible:
            self.session.set_overlay(ood_layers.overlay_of(layer))
        if self.session.state.bundle is None and maps.bundle is not None:
            self.session.use_bundle(maps.bundle)
        with self._applied():
            self.flags.show(self.session.state)

    def _show_scale_bar(self) -> None:
        if self.viewer is not None:
            self.viewer.canvas.overlays.scale_bar.visible = True

    def _on_removed(self, event: Event) -> None:
        layer = event.value
        slide, maps = ood_layers.slide_of(layer), ood_layers.maps_of(layer)
        if slide is not None and not self._applying:
            self.session.remove_slide(slide)
        if maps is not None and not self._layers_of(maps):
            self.session.drop(maps)

    def _on_active(self, event: Event) -> None:
        layer = event.value
        slide = ood_layers.slide_of(layer) if layer is not None else None
        if slide is not None and not self._applying:
            self.session.choose_slide(slide)

    def _on_visible(self, event: Event) -> None:
        """Follow the eye icons of the layer list."""
        maps = self.session.state.maps
        if self._applying or maps is None:
            return
        layers = [x for x in self._layers_of(maps) if not ood_layers.is_flags(x)]
        shown = [ood_layers.overlay_of(x) for x in layers if x.visible]
        if len(shown) < 2:
            self.session.set_overlay(shown[0] if shown else None)

    def _on_outline(self, event: Event) -> None:
        """Follow the eye icon of the outline of flagged tiles."""
        state = self.session.state
        shown = ood_layers.maps_of(event.source) is state.maps and state.flagging is not None
        if not self._applying and shown:
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

    def tick(self) -> bool:
        """Show what a run has done since the last call; whether it is still going on.

        To be called a few times per second from the GUI thread while a run goes on.
        """
        if self.viewer is None:
            self.session.cancel()
        else:
            self.session.look_at(self.region_of(Scope.VIEW))
        alive = self.session.poll()
        self._insert_due(everything=not alive)
        for result in self.session.state.results:
            if result.maps.take_dirty() or not alive:
                self.flags.fill(result.maps, self.session.state)
                for layer in self._layers_of(result.maps):
                    ood_layers.refresh_layer(layer, final=not alive)
        return alive

    def _on_session_changed(self, new: State, old: State) -> None:
        if self.viewer is None:
            return
        with self._applied():
            if new.differs(old, "slides"):
                self._replace_slides(new, old)
            if new.differs(old, "results"):
                self._replace_maps(new, old)
            if new.differs(old, "scales"):
                self._rescale(new)
            if new.differs(old, "results", "overlay", "opacities", "slide"):
                self._show_overlay(new)
            if new.differs(old, *WHAT_FLAGS_SHOW):
                self.flags.show(new)

    def _replace_slides(self, new: State, old: State) -> None:
        """Follow a slide that was opened anew with another mpp."""
        if len(new.slides) != len(old.slides):
            return
        for after, before in zip(new.slides, old.slides, strict=True):
            if after is not before:
                for layer in self._layers():
                    if ood_layers.slide_of(layer) is before:
                        ood_layers.replace_slide(layer, after)
        if self.viewer is not None:
            self.viewer.fit_to_view()

    def _replace_maps(self, new: State, old: State) -> None:
        viewer = self.viewer
        assert viewer is not None
        gone = [r for r in old.results if not _was_in(r.maps, new)]
        for result in new.results:
            if not _was_in(result.maps, old) and not self._layers_of(result.maps):
                before = next((r for r in gone if r.slide is result.slide), None)
                self._show_maps(result, self._layers_of(before.maps) if before else [])
        for result in gone:
            for layer in self._layers_of(result.maps):
                viewer.layers.remove(layer)
        if not self.session.busy:
            self._insert_due(everything=True)

    def _show_maps(self, result: Result, free: list[Layer]) -> None:
        """Show maps in the layers of those they replace: napari takes 0.5 s to remove a layer."""
        name = result.slide.name if result.slide is not None else result.maps.name
        layers = {ood_layers.overlay_of(x): x for x in free}
        # The visible one is the last, and the first that the user wants to see.
        for data in reversed(ood_layers.overlay_layer_data(result.maps, result.slide, name)):
            layer = layers.get(data[1]["metadata"].get(ood_layers.OVERLAY_KEY))
            if layer is None:
                self._due.append((result, data))
            else:
                ood_layers.reuse_layer(layer, data)

    def _insert_due(self, everything: bool) -> None:
        """Add the next overlay, or all: napari takes 50 to 100 ms for each, so one per tick."""
        while self._due and self.viewer is not None:
            result, data = self._due.pop(0)
            if _was_in(result.maps, self.session.state):
                with self._applied(), self._selection_kept():
                    overlay = data[1]["metadata"].get(ood_layers.OVERLAY_KEY)
                    place = self._place_of(result, overlay)
                    self.viewer.layers.insert(place, ood_layers.make_layer(data))
                    self._show_overlay(self.session.state)
                    self.flags.show(self.session.state)
                if not everything:
                    return

    def _place_of(self, result: Result, overlay: Overlay | None) -> int:
        """Index for an overlay: above its slide and what lies below it; None is the outline."""
        below = list(Overlay)[: None if overlay is None else list(Overlay).index(overlay)]
        layers = self._layers()
        under = [
            i
            for i, x in enumerate(layers)
            if ood_layers.slide_of(x) is result.slide is not None
            or (ood_layers.maps_of(x) is result.maps and ood_layers.overlay_of(x) in below)
        ]
        return 1 + max(under, default=len(layers) - 1)

    def _show_overlay(self, state: State) -> None:
        for result in state.results:
            for layer in self._layers_of(result.maps):
                overlay = ood_layers.overlay_of(layer)
                if overlay is not None:
                    layer.visible = overlay is state.overlay
                    opacity = state.opacities[overlay]
                    layer.opacity = ood_layers.overlay_opacity(result.maps, opacity)

    def _rescale(self, state: State) -> None:
        """Follow another score or temperature of the chosen maps."""
        for layer in self._layers_of(state.maps) if state.maps else []:
            overlay = ood_layers.overlay_of(layer)
            scale = state.scales.get(overlay) if overlay is not None else None
            if scale is not None:
                layer.contrast_limits = (scale.low, scale.high)
            ood_layers.refresh_layer(layer, final=True)

    # ---------------------------------------------------------------- helpers

    def _layers(self) -> list[Layer]:
        return list(self.viewer.layers) if self.viewer is not None else []

    def _layers_of(self, maps: Maps) -> list[Layer]:
        return [x for x in self._layers() if ood_layers.maps_of(x) is maps]

    @contextmanager
    def _applied(self) -> Iterator[None]:
        """While the bridge itself changes layers it does not report those changes back."""
        before, self._applying = self._applying, True
        try:
            yield
        finally:
            self._applying = before

    @contextmanager
    def _selection_kept(self) -> Iterator[None]:
        """Added layers do not take the selection away from, say, the shapes being drawn."""
        assert self.viewer is not None
        selection = self.viewer.layers.selection
        before = set(selection)
        yield
        selection.clear()
        selection.update(x for x in before if x in self.viewer.layers)


def _was_in(maps: Maps, state: State) -> bool:
    return any(r.maps is maps for r in state.results)


_BRIDGES: WeakKeyDictionary[ViewerModel, Bridge] = WeakKeyDictionary()


def bridge_of(viewer: ViewerModel) -> Bridge:
    """The bridge of a viewer, made on first use; it lives exactly as long as the viewer."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
    bridge = _BRIDGES.get(viewer)
    if bridge is None:
        bridge = _BRIDGES[viewer] = Bridge(viewer)
    return bridge
