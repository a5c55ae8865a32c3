"""Make the picture of a slide-wide map for the documentation: press its buttons in the real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/make_fine_map_screenshot.py

Maps what raises the OOD score of the sample slide, on screen; writes sample-fine-map.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from make_screenshots import picture, wait_for
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_ood.models import load_bundle
from napari_ood.samples import synthetic_slide
from napari_ood.slides import open_slide
from napari_ood.viewer import app
from napari_ood.viewer.bridge import bridge_of
from napari_ood.viewer.layers import make_layer, slide_layer_data

BUNDLE = "synthetic-he"
CENTRE_UM = (900.0, 1500.0)
"""Gland, blurred gland, a follicle, a planted foreign region."""
ZOOM = 3.0
"""Times as close as the whole slide."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    args = parser.parse_args()
    viewer = app.new_window()
    viewer.add_layer(make_layer(slide_layer_data(open_slide(synthetic_slide()))))
    bridge_of(viewer).session.use_bundle(load_bundle(BUNDLE))
    window, dock = viewer.window.add_plugin_dock_widget(app.PLUGIN, "OOD inspector", tabify=True)
    window.raise_()
    viewer.fit_to_view()
    viewer.scene.camera.center = (0.0, *CENTRE_UM)
    viewer.scene.camera.zoom *= ZOOM
    panel = dock.fine_map
    dock.scroll_area.ensureWidgetVisible(panel)
    app.settle()
    QTest.mouseClick(panel.start, Qt.MouseButton.LeftButton)
    wait_for(lambda: not panel.fine.state.running)
    picture(viewer, args.out / "sample-fine-map.png")
    viewer.close()


if __name__ == "__main__":
    main()
