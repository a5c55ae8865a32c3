"""Slides and maps as napari layers. No Qt: works on a bare ``ViewerModel``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from numpy.typing import NDArray

from napari_ood.viewer import colors
from napari_ood.viewer.geometry import map_placement, slide_placement
from napari_ood.viewer.maps import FLAGGED, NO_TILE, OPACITIES, Maps, Overlay

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.types import LayerData

    from napari_ood.samples import Truth
    from napari_ood.slides import Slide
    from napari_ood.viewer.geometry import Placement

SLIDE_KEY = "napari-ood slide"
MAPS_KEY = "napari-ood maps"
OVERLAY_KEY = "napari-ood overlay"
TRUTH_KEY = "napari-ood truth"
FLAGS_KEY = "napari-ood flags"
OWNER_KEY = "napari-ood owner"
"""The slide with which a layer goes that is neither the slide nor a map of a run."""
TRUTH_COLOR = "#000000"
TRUTH_OUTLINE = 2
"""Width of the outlines around planted regions, in pixels of the truth."""

INSIDE = 0.999
"""Share of a colour range that values are clipped to, where what lies beyond is not drawn."""
FULL_WIDTH = 0.98
"""Widest outline, in tiles: at 1 the tiles on either side would be drawn over as well."""
NARROWEST = 0.02

TINT = 0.35
"""Share of an overlay's opacity that it has where one tile covers the whole image."""

PAINT_TOOLS = ("polygon", "brush_stroke")
"""napari's names of the overlays that every layer of labels has for drawing on it."""

TITLES = {
    Overlay.PREDICTION: "Prediction",
    Overlay.COMBINED: "Combined",
    Overlay.UNCERTAINTY: "Uncertainty",
    Overlay.APPEARANCE: "OOD: appearance",
    Overlay.TISSUE: "OOD: tissue",
    Overlay.OOD: "OOD",
}


def slide_layer_data(slide: Slide) -> LayerData:
    """The slide as one lazy RGB pyramid, tagged so that a session finds it."""
    options = {
        "name": slide.name,
        "rgb": True,
        "multiscale": True,
        "contrast_limits": (0, 255),
        "metadata": {SLIDE_KEY: slide},
        **_placed(slide_placement(slide.mpp)),
    }
    return list(slide.levels), options, "image"


def associated_layer_data(slide: Slide, key: str, pixels: np.ndarray) -> LayerData:
    """An associated image (label, macro, thumbnail) to the left of the slide, as tall as it."""
    place = slide_placement(slide.mpp)
    height = slide.levels[0].shape[0] * place.scale[0]
    scale = height / pixels.shape[0]
    left = -1.05 * pixels.shape[1] * scale
    options = {
        "name": f"{slide.name} {key}",
        "rgb": True,
        "scale": (scale, scale),
        "translate": (0.0, left),
        "units": place.units,
    }
    return pixels, options, "image"


def overlay_layer_data(maps: Maps, slide: Slide | None, name: str) -> list[LayerData]:
    """Every overlay of a run, bottom first; only the last (OOD where there is one) is visible.

    None is on a whole image: one colour all over it shows less than the values in the dock.
    On top lies the outline of flagged tiles, empty until a threshold is applied.
    """
    shown = None if maps.whole_image else maps.overlays[-1]
    overlays = [_overlay(maps, slide, name, o, visible=o is shown) for o in maps.overlays]
    return overlays if maps.whole_image else [*overlays, flags_layer_data(maps, slide, name)]


def flags_layer_data(maps: Maps, slide: Slide | None, name: str) -> LayerData:
    """The outline of flagged tiles.

    The map of flags is drawn with linear interpolation, and all but a band around its middle is
    transparent: the line lies on the edges of tiles at any zoom, and the GPU does all the work.
    """
    options = {
        "name": f"Flagged · {name}",
        "visible": False,
        "opacity": 1.0,
        "blending": "translucent_no_depth",
        "colormap": outline_colormap(),
        "contrast_limits": outline_limits(FULL_WIDTH),
        "interpolation2d": "linear",
        "metadata": {SLIDE_KEY: slide, MAPS_KEY: maps, FLAGS_KEY: True},
        **_placed(map_placement(maps.grid, maps.mpp)),
    }
    return maps.flagged, options, "image"


def outline_limits(width: float) -> tuple[float, float]:
    """Contrast limits that make the outline of flagged tiles this wide, in tiles, up to 1."""
    half = min(max(width, NARROWEST), FULL_WIDTH) / 2
    return FLAGGED * (0.5 - half), FLAGGED * (0.5 + half)


@cache
def outline_colormap() -> Colormap:
    """A dark line with light edges, to be seen on any colour; nothing beside it."""
    return Colormap(
        colors.OUTLINE.table(),
        name="napari-ood outline",
        display_name="Flagged",
        nan_color=colors.TRANSPARENT,
        low_color=colors.TRANSPARENT,
        high_color=colors.TRANSPARENT,
    )


def truth_layer_data(truth: Truth, slide: Slide, visible: bool = False) -> LayerData:
    """What was planted in a procedural slide, as outlines; napari's status bar names the kind."""
    place = slide_placement(slide.mpp)
    kinds = {**dict.fromkeys(range(max(truth.kinds, default=0) + 1), ""), **truth.kinds}
    options = {
        "name": f"Truth · {slide.name}",
        "visible": visible,
        "opacity": 1.0,
        "scale": tuple(s * truth.downsample for s in place.scale),
        "translate": tuple(s * (truth.downsample - 1) / 2 for s in place.scale),
        "units": place.units,
        "colormap": class_colormap((TRUTH_COLOR,) * len(kinds)),
        "features": {"planted": [kinds[k] for k in sorted(kinds)]},
        "metadata": {TRUTH_KEY: truth, OWNER_KEY: slide},
    }
    return truth.foreign, options, "labels"


def _overlay(
    maps: Maps, slide: Slide | None, name: str, overlay: Overlay, visible: bool
) -> LayerData:
    options: dict[str, Any] = {
        "name": f"{TITLES[overlay]} · {name}",
        "visible": visible,
        "opacity": overlay_opacity(maps, OPACITIES[overlay]),
        "blending": "translucent_no_depth",
        "metadata": {SLIDE_KEY: slide, MAPS_KEY: maps, OVERLAY_KEY: overlay},
        **_placed(map_placement(maps.grid, maps.mpp)),
    }
    if overlay is Overlay.PREDICTION:
        options |= {
            "colormap": class_colormap(maps.colors),
            # napari's status bar names the class under the cursor from this table.
            "features": {"class": ["no tile", *maps.classes]},
        }
        return maps.prediction, options, "labels"
    if overlay is Overlay.COMBINED:
        return maps.combined, options | {"rgb": True, "interpolation2d": "nearest"}, "image"
    scale = maps.scales[overlay]
    options |= {
        "colormap": score_colormap(overlay),
        "contrast_limits": (scale.low, scale.high),
        "interpolation2d": "nearest",
    }
    return maps.array(overlay), options, "image"


def overlay_opacity(maps: Maps, opacity: float) -> float:
    """Opacity of an overlay's layer; over a whole image it only tints, or nothing else is seen."""
    return opacity * TINT if maps.whole_image else opacity


def _placed(placement: Placement) -> dict[str, Any]:
    return {
        "scale": placement.scale,
        "translate": placement.translate,
        "units": placement.units,
    }


@cache
def score_colormap(overlay: Overlay) -> Colormap:
    """Colormap of a score, with opacity; NaN and everything below the range is transparent."""
    ramp = colors.UNCERTAINTY if overlay is Overlay.UNCERTAINTY else colors.OOD
    return ramp_colormap(ramp, overlay.value, TITLES[overlay])


def ramp_colormap(ramp: colors.Ramp, name: str, title: str) -> Colormap:
    """Colours with opacity; NaN and everything below the range is transparent."""
    return Colormap(
        ramp.table(),
        name=f"napari-ood {name}",
        display_name=title,
        nan_color=colors.TRANSPARENT,
        # napari may draw NaN in low_color (napari#8056), so both are transparent.
        low_color=colors.TRANSPARENT,
    )


def clipped(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Values just inside of a colour range around 0: what lies beyond is drawn as nothing."""
    return np.clip(values, low * INSIDE, high * INSIDE)


def class_colormap(class_colors: tuple[str, ...]) -> DirectLabelColormap:
    """Colours of the prediction map: class i is label i + 1."""
    table: dict[int | None, Any] = {None: colors.TRANSPARENT, NO_TILE: colors.TRANSPARENT}
    table |= {i + 1: color for i, color in enumerate(class_colors)}
    return DirectLabelColormap(color_dict=table)


def make_layer(data: LayerData) -> Layer:
    """Layer from a layer-data tuple."""
    array, options, kind = data
    if kind != "labels":
        return Image(array, **options)
    # Of all 65,536 labels there may be, which would else be done while the layer is inserted.
    options["colormap"].map(np.zeros(1, array.dtype))
    layer = Labels(array, **options)
    _put_tools_away(layer)
    return layer


def _put_tools_away(layer: Labels) -> None:
    """Have napari make the tools that paint on labels only if somebody makes a layer editable.

    Ours are not, and the tools' shaders take half of the time of inserting a layer.
    """
    tools = [layer._overlays[name] for name in PAINT_TOOLS if name in layer._overlays]

    def follow() -> None:
        for tool in tools:
            tool.visible = layer.editable

    for tool in tools:
        tool.visible = False
    layer.events.editable.connect(follow)


@contextmanager
def selection_kept(viewer: ViewerModel) -> Iterator[None]:
    """Layers that are added do not take the selection away from, say, the shapes being drawn."""
    layers = viewer.layers
    selection, before = layers.selection, set(layers.selection)
    # To select a layer and then another again takes napari a third of the time of adding one.
    activates, layers._activate_on_insert = layers._activate_on_insert, False
    try:
        yield
    finally:
        layers._activate_on_insert = activates
        kept = {x for x in before if x in layers}
        if set(selection) != kept:
            selection.clear()
            selection.update(kept)


def claim_layer(layer: Layer, data: LayerData) -> None:
    """Say of a hidden layer whose maps it is going to show; :func:`reuse_layer` follows later."""
    with layer.events.blocker():
        layer.metadata = data[1]["metadata"]


def reuse_layer(layer: Layer, data: LayerData) -> None:
    """Let a layer of the same overlay show other maps; its visibility and opacity stay."""
    array, options, _ = data
    if is_flags(layer) and _has_cells_for(layer, options["metadata"][MAPS_KEY]):
        claim_layer(layer, data)
        layer.name = options["name"]
        return
    with layer.events.blocker():  # the layer list would draw all rows anew for each
        layer.metadata = options["metadata"]
        layer.data = array
        for name in ("units", "scale", "translate", "contrast_limits"):
            # napari takes 5 to 10 ms for each, also where nothing changes.
            if name in options and not np.array_equal(getattr(layer, name), options[name]):
                setattr(layer, name, options[name])
        if isinstance(layer, Labels) and not _same_classes(layer, options):
            layer.colormap, layer.features = options["colormap"], options["features"]
    layer.name = options["name"]
    layer.events.name()


def _has_cells_for(layer: Layer, maps: Maps) -> bool:
    """Whether an outline's cells are its own and lie right: then it need only be filled anew."""
    before = maps_of(layer)
    return (
        before is not None
        and (before.grid, before.mpp) == (maps.grid, maps.mpp)
        and layer.data is not before.flagged
    )


def _same_classes(layer: Labels, options: Mapping[str, Any]) -> bool:
    """Whether names and colours are the same: another colormap takes napari 20 ms."""
    before, after = layer.colormap.color_dict, options["colormap"].color_dict
    return (
        list(layer.features["class"]) == list(options["features"]["class"])
        and before.keys() == after.keys()
        and all(np.array_equal(before[key], after[key]) for key in before)
    )


def settle_layer(layer: Layer) -> None:
    """Set what napari takes only after a layer was made: maps are not painted on by accident."""
    if OVERLAY_KEY in layer.metadata or TRUTH_KEY in layer.metadata:
        layer.editable = False
    if TRUTH_KEY in layer.metadata:
        layer.contour = TRUTH_OUTLINE


def slide_of(layer: Layer) -> Slide | None:
    """The slide that a layer shows; None for overlays and foreign layers."""
    return None if MAPS_KEY in layer.metadata else layer.metadata.get(SLIDE_KEY)


def owner_in(metadata: Mapping[str, Any]) -> Slide | None:
    """The slide with which a layer of such metadata goes; None for layers that go by themselves."""
    owner: Slide | None = metadata.get(OWNER_KEY)
    return owner


def maps_of(layer: Layer) -> Maps | None:
    """The maps that an overlay layer shows one of."""
    maps: Maps | None = layer.metadata.get(MAPS_KEY)
    return maps


def is_flags(layer: Layer) -> bool:
    """Whether a layer is the outline of flagged tiles."""
    return FLAGS_KEY in layer.metadata


def overlay_of(layer: Layer) -> Overlay | None:
    """Which overlay a layer is; None for other layers."""
    overlay: Overlay | None = layer.metadata.get(OVERLAY_KEY)
    return overlay


def refresh_layer(layer: Layer, final: bool = False) -> None:
    """Show what was written into a layer's array; everything but the pixels only when final.

    The layer list draws all of its rows anew after any event of any layer, which takes longer than
    the canvas; of pixels alone it need not know.
    """
    if final:
        layer.refresh()
    else:
        with layer.events.blocker():  # what the group passes on; the events themselves come
            layer.refresh(thumbnail=False, extent=False, highlight=False)


def replace_slide(layer: Layer, slide: Slide) -> None:
    """Let a slide's layer show the same slide with another mpp."""
    if OWNER_KEY in layer.metadata:
        layer.metadata = {**layer.metadata, OWNER_KEY: slide}
        return
    placement = slide_placement(slide.mpp)
    layer.metadata = {**layer.metadata, SLIDE_KEY: slide}
    layer.units = placement.units
    layer.scale = placement.scale
    layer.translate = placement.translate
