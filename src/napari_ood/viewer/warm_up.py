"""What is slow the first time, done beforehand, in a thread."""

from __future__ import annotations

from importlib import import_module

import numpy as np
from napari.layers import Image, Labels, Vectors

from napari_ood.viewer.geometry import slide_placement
from napari_ood.viewer.layers import class_colormap

DOCKS = ("inspector", "review", "thresholds", "passport", "compare", "export", "cohort")


def warm_up() -> None:
    """Do for the first time, for nobody to see, what is slow the first time: a second or two.

    napari imports pandas for tables, reads a hundred units of measurement and, where numba is
    installed, compiles the colours of labels; vispy works out the dashes of lines, which a layer
    of labels has; dask looks for distributed, and whatever is opened is asked whether it is zarr.
    To be called in a thread, so that the window does not wait for it later.
    """
    import dask.array
    import zarr  # noqa: F401 - to have it loaded
    from vispy.visuals.line.dash_atlas import DashAtlas  # type: ignore[import-untyped]

    DashAtlas()
    dask.array.zeros(1).compute()
    units = slide_placement((1.0, 1.0)).units
    for dtype in (np.uint8, np.uint16):  # planted truth, predicted classes
        classes = np.zeros((2, 2), dtype)
        colormap = class_colormap(("#000000",))
        Labels(classes, features={"class": ["no tile", "tile"]}, colormap=colormap, units=units)
        colormap.map(classes)
    Image(np.zeros((2, 2), np.float32), contrast_limits=(0, 1), units=units)
    Vectors(np.zeros((1, 2, 2), np.float32), units=units)


def load_docks() -> None:
    """Import what the plugin's other docks need, so that a dock opens without."""
    for name in DOCKS:
        import_module(f"napari_ood.viewer.dock_{name}")
