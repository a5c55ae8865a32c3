"""The saliency map as a layer over its tiles. No Qt: works on a bare ``ViewerModel``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from napari.utils.colormaps import Colormap

from napari_ood.viewer import colors
from napari_ood.viewer.layers import (
    OWNER_KEY,
    clipped,
    make_layer,
    ramp_colormap,
    selection_kept,
    settle_layer,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.types import LayerData

    from napari_ood.slides import Slide
    from napari_ood.viewer.inspector_state import Shown
    from napari_ood.viewer.steps import Steps

SALIENCY_KEY = "napari-ood saliency"

UNSIGNED = colors.Ramp(
    (
        (0.0, "#0097a7", 0.0),
        (0.15, "#0097a7", 0.12),
        (0.5, "#00bcd4", 0.55),
        (1.0, "#5df2ff", 0.85),
    )
)
"""Cyan, the complement of eosin's pink and light beside haematoxylin: one hue, zero transparent."""

SIGNED = colors.Ramp(
    (
        (0.0, "#ffb300", 0.85),
        (0.25, "#f57c00", 0.55),
        (0.44, "#e65100", 0.10),
        (0.5, "#f5f5f5", 0.0),
        (0.56, "#0097a7", 0.10),
        (0.75, "#00bcd4", 0.55),
        (1.0, "#5df2ff", 0.85),
    )
)
"""Orange speaks against, cyan for; zero is transparent. Colour-blind readers tell them apart."""


def ramp_of(signed: bool) -> colors.Ramp:
    """Colours of maps with, or without, a sign."""
    return SIGNED if signed else UNSIGNED


@cache
def saliency_colormap(signed: bool) -> Colormap:
    """Colours over tissue; NaN between tiles is transparent."""
    name = f"saliency {'signed' if signed else 'unsigned'}"
    return ramp_colormap(ramp_of(signed), name, "Saliency")


def limits_of(shown: Shown) -> tuple[float, float]:
    """Ends of the colour scale."""
    return (-shown.limit if shown.saliency.signed else 0.0), shown.limit


def saliency_layer_data(shown: Shown, slide: Slide | None) -> LayerData:
    """A map at the tiles' own resolution, on the slide's scale, where its tiles lie."""
    low, high = limits_of(shown)
    options: dict[str, Any] = {
        "name": f"saliency: {shown.title}",
        "opacity": 1.0,
        "blending": "translucent_no_depth",
        "colormap": saliency_colormap(shown.saliency.signed),
        "contrast_limits": (low, high),
        "interpolation2d": "nearest",
        "metadata": {SALIENCY_KEY: shown, OWNER_KEY: slide},
        "scale": shown.place.scale,
        "translate": shown.place.translate,
        "units": shown.place.units,
    }
    return clipped(shown.values, low, high), options, "image"


def saliency_layer(viewer: ViewerModel) -> Layer | None:
    """The layer of the saliency map; None where there is none."""
    return next((x for x in viewer.layers if SALIENCY_KEY in x.metadata), None)


def show_saliency(
    viewer: ViewerModel, shown: Shown | None, slide: Slide | None, steps: Steps | None = None
) -> None:
    """Show a map of a slide, in the layer of the last one; None hides it until the next.

    With ``steps`` the first map, which makes the layer, is shown in a turn of its own.
    """
    layer = saliency_layer(viewer)
    if shown is None:
        if layer is not None:
            layer.visible = False
        return
    if layer is None and steps is not None:
        steps.add(lambda: show_saliency(viewer, shown, slide))
        return
    data = saliency_layer_data(shown, slide)
    if layer is None:
        layer = make_layer(data)
        with selection_kept(viewer):
            viewer.layers.append(layer)
        settle_layer(layer)
    elif layer.metadata[SALIENCY_KEY] is not shown:
        _reuse(layer, data)
    if not layer.visible:
        layer.visible = True


def _reuse(layer: Layer, data: LayerData) -> None:
    """Let the layer show another map, setting what differs: each change takes napari 10 ms."""
    before: Shown = layer.metadata[SALIENCY_KEY]
    array, options, _ = data
    shown: Shown = options["metadata"][SALIENCY_KEY]
    layer.metadata = options["metadata"]
    if shown.place != before.place:
        layer.units = options["units"]
        layer.scale, layer.translate = options["scale"], options["translate"]
    if shown.saliency.signed != before.saliency.signed:
        layer.colormap = options["colormap"]
    if limits_of(shown) != limits_of(before):
        layer.contrast_limits = options["contrast_limits"]
    if shown.title != before.title:
        layer.name = options["name"]
    layer.data = array
