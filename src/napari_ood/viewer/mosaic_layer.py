"""Maps finer than a tile as a layer that fills. No Qt: works on a bare ``ViewerModel``.

The levels of a mosaic are numpy arrays that are written in place. napari keeps the coarsest level
of a pyramid, for its thumbnail; of a numpy array it keeps the array itself, so that a refresh shows
what was written in every level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari_ood.viewer import colors
from napari_ood.viewer.fine_maps import NO_BOX, NO_VIEW, FineMaps, FineState, fine_title
from napari_ood.viewer.geometry import Placement, slide_placement
from napari_ood.viewer.layers import (
    make_layer,
    refresh_layer,
    score_colormap,
    selection_kept,
    settle_layer,
)
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.regions import view_region
from napari_ood.viewer.saliency_layer import ramp_of, saliency_colormap
from napari_ood.viewer.state import Scope

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.types import LayerData
    from napari.utils.colormaps import Colormap
    from napari.utils.events import Event

    from napari_ood.explain.mosaic import Mosaic
    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.fine_map_work import FineMap
    from napari_ood.viewer.geometry import Pair
    from napari_ood.viewer.steps import Steps

MOSAIC_KEY = "napari-ood fine map"
OPACITY = 0.75
"""Of the layer: whole glands may be at the end of the scale, and are to be seen beneath."""


def mosaic_placement(mosaic: Mosaic, mpp: Pair | None) -> Placement:
    """Where a mosaic lies: its cell (i, j) covers ``origin + [i, i + 1) · cell`` of level 0."""
    base = slide_placement(mpp)
    (y, x), (h, w) = mosaic.origin, mosaic.cell
    return Placement(
        (h * base.scale[0], w * base.scale[1]),
        ((y + h / 2 - 0.5) * base.scale[0], (x + w / 2 - 0.5) * base.scale[1]),
        base.units,
    )


def fine_ramp(made: FineMap, signed: bool = False) -> colors.Ramp:
    """Colours of a map: those of saliency, or of OOD where it is the bundle's own."""
    return ramp_of(signed) if made.request.target is not None else colors.OOD


def _colormap(made: FineMap, signed: bool) -> Colormap:
    own = made.request.target is None
    return score_colormap(Overlay.OOD) if own else saliency_colormap(signed)


def mosaic_layer_data(made: FineMap, mosaic: Mosaic) -> LayerData:
    """A mosaic as one pyramid, on the slide's scale; transparent where nothing was computed."""
    slide, mapper = made.request.slide, mosaic.mapper
    place = mosaic_placement(mosaic, slide.mpp)
    options: dict[str, Any] = {
        "name": f"{fine_title(made.request)} · {slide.name}",
        "multiscale": True,
        "opacity": OPACITY,
        "blending": "translucent_no_depth",
        "colormap": _colormap(made, mapper.signed),
        "contrast_limits": (-mapper.limit if mapper.signed else 0.0, mapper.limit),
        "interpolation2d": "linear",  # cells are means of maps that are themselves interpolated
        "metadata": {MOSAIC_KEY: made},
        "scale": place.scale,
        "translate": place.translate,
        "units": place.units,
    }
    return list(mosaic.levels), options, "image"


class MosaicLayer:
    """Keeps one layer of a viewer in step with its :class:`FineMaps`.

    Parameters
    ----------
    bridge : Bridge

    Attributes
    ----------
    fine : FineMaps
    """

    def __init__(self, bridge: Bridge) -> None:
        viewer = bridge.viewer
        assert viewer is not None
        self.fine = FineMaps(bridge.session)
        self._viewer, self._bridge = ref(viewer), ref(bridge)
        self.fine.changed.connect(self._on_changed)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def layer(self) -> Layer | None:
        """The layer; None where there is none."""
        viewer = self._viewer()
        if viewer is None:
            return None
        return next((x for x in viewer.layers if MOSAIC_KEY in x.metadata), None)

    def start(self) -> bool:
        """Fill the map that is asked for; whether that was begun."""
        bridge, fine = self._bridge(), self.fine
        if bridge is None:
            return False
        scope = fine.state.wish.scope
        region = bridge.region_of(scope)
        if region is None and scope is not Scope.SLIDE and not fine.state.obstacle:
            fine.refuse(NO_VIEW if scope is Scope.VIEW else NO_BOX)
            return False
        return fine.start(region)

    def tick(self) -> bool:
        """Show what was filled since the last call; whether more is to come.

        To be called a few times per second from the GUI's thread.
        """
        viewer, made = self._viewer(), self.fine.state.made
        if viewer is None:
            self.fine.stop()
            return self.fine.poll()
        if made is not None:
            self.fine.look_at(view_region(viewer, made.request.slide))
        alive = self.fine.poll()
        if made is not None and made.mosaic is not None:
            self._show(viewer, made, made.mosaic, final=not alive)
        return alive

    def _show(self, viewer: ViewerModel, made: FineMap, mosaic: Mosaic, final: bool) -> None:
        layer = self.layer
        bridge = self._bridge()
        if layer is None and bridge is not None:
            # In turns of its own: the dock says at the same time how far the map is.
            bridge.steps.add(lambda: self._make(bridge.steps, made, mosaic))
        elif layer is None:
            return
        elif layer.metadata[MOSAIC_KEY] is not made:
            _replace(layer, mosaic_layer_data(made, mosaic))
        elif made.take_dirty() or final:
            refresh_layer(layer, final)

    def _make(self, steps: Steps, made: FineMap, mosaic: Mosaic) -> None:
        if self.layer is None and self.fine.state.made is made:
            layer = make_layer(mosaic_layer_data(made, mosaic))
            steps.add_next(lambda: self._insert(made, layer))

    def _insert(self, made: FineMap, layer: Layer) -> None:
        viewer = self._viewer()
        if viewer is not None and self.layer is None and self.fine.state.made is made:
            _insert(viewer, layer)

    def _on_changed(self, new: FineState, old: FineState) -> None:
        """Take the layer away with its map."""
        layer, viewer = self.layer, self._viewer()
        if new.made is None and old.made is not None and layer is not None and viewer is not None:
            viewer.layers.remove(layer)

    def _on_removed(self, event: Event) -> None:
        made = self.fine.state.made
        if made is not None and event.value.metadata.get(MOSAIC_KEY) is made:
            self.fine.drop()


def _insert(viewer: ViewerModel, layer: Layer) -> None:
    """Put a layer on top; what is selected stays selected."""
    with selection_kept(viewer):
        viewer.layers.append(layer)
    settle_layer(layer)


def _replace(layer: Layer, data: LayerData) -> None:
    """Let the layer show another mosaic: napari takes half a second to remove one."""
    levels, options, _ = data
    layer.data, layer.metadata = levels, options["metadata"]
    layer.colormap, layer.contrast_limits = options["colormap"], options["contrast_limits"]
    layer.units, layer.name = options["units"], options["name"]
    layer.scale, layer.translate = options["scale"], options["translate"]
    layer.visible = True


_LAYERS: WeakKeyDictionary[Bridge, MosaicLayer] = WeakKeyDictionary()


def mosaic_layer_of(bridge: Bridge) -> MosaicLayer:
    """The fine map of a viewer, made on first use; it lives as long as the viewer."""
    if bridge not in _LAYERS:
        _LAYERS[bridge] = MosaicLayer(bridge)
    return _LAYERS[bridge]
