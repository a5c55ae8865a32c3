"""The difference of two runs as a layer on the slide. No Qt: works on a bare ``ViewerModel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.colormaps import Colormap

from napari_ood.scores.names import role_in_words, score_in_words
from napari_ood.viewer import colors
from napari_ood.viewer.geometry import map_placement
from napari_ood.viewer.layers import (
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

    from napari_ood.analysis.difference import RunDifference

DIFFERENCE_KEY = "napari-ood difference"
OPACITY = 0.9

RAMP = colors.Ramp(
    (
        (0.0, "#543005", 0.82),
        (0.25, "#a6611a", 0.7),
        (0.45, "#dfc27d", 0.25),
        (0.5, "#f5f5f5", 0.0),
        (0.55, "#80cdc1", 0.25),
        (0.75, "#018571", 0.7),
        (1.0, "#003c30", 0.82),
    )
)
"""ColorBrewer's BrBG, hues that H&E leaves free: brown where A is higher, green where B is; nothing
where they agree."""


def difference_colormap() -> Colormap:
    """Diverging colours with opacity; NaN is transparent."""
    return ramp_colormap(RAMP, "difference", "Difference")


def difference_layer_data(difference: RunDifference) -> LayerData:
    """B − A per tile, centred at 0, on a range that does not depend on the slide."""
    limit = difference.scale.limit
    values = clipped(difference.delta_map(), -limit, limit)
    mpp = difference.a.run.provenance["slide"]["mpp"]
    place = map_placement(difference.match.grid, tuple(mpp) if mpp else None)
    options: dict[str, Any] = {
        "name": f"Difference B − A · {_called(difference)}",
        "opacity": OPACITY,
        "blending": "translucent_no_depth",
        "colormap": difference_colormap(),
        "contrast_limits": (-limit, limit),
        "interpolation2d": "nearest",
        "metadata": {DIFFERENCE_KEY: difference},
        "scale": place.scale,
        "translate": place.translate,
        "units": place.units,
    }
    return values, options, "image"


def _called(difference: RunDifference) -> str:
    """The role that was asked for, else what the score measures."""
    role = role_in_words(difference.score)
    return role if role != difference.score else score_in_words(role, difference.a.card)


def difference_layer(viewer: ViewerModel) -> Layer | None:
    """The layer that shows a difference; None where there is none."""
    return next((x for x in viewer.layers if DIFFERENCE_KEY in x.metadata), None)


def show_difference(viewer: ViewerModel, difference: RunDifference) -> Layer:
    """Show a difference on the slide, in the layer of an earlier one where there is one."""
    data = difference_layer_data(difference)
    layer = difference_layer(viewer)
    if layer is None:
        layer = make_layer(data)
        with selection_kept(viewer):
            viewer.layers.append(layer)
        settle_layer(layer)
    else:
        array, options, _ = data
        layer.data, layer.metadata = array, options["metadata"]
        layer.name, layer.contrast_limits = options["name"], options["contrast_limits"]
        layer.units = options["units"]
        layer.scale, layer.translate = options["scale"], options["translate"]
    layer.visible = True
    return layer
