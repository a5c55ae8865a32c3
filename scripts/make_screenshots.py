"""Make the pictures of the documentation: press the buttons of the real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/make_screenshots.py
    … scripts/make_screenshots.py --slide CMU-1-Small-Region.svs --bundle lymph-node-he --name cmu

Writes <name>-running.png, -ood.png, -uncertainty.png, -prediction.png, -combined.png and
-thresholds.png, at most 300 kB each.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton

from napari_ood import Progress
from napari_ood.samples import synthetic_slide, truth_path
from napari_ood.viewer import app
from napari_ood.viewer.layers import TRUTH_KEY, make_layer
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.restore import truth_of
from napari_ood.viewer.section_results import CHOICES

MAX_BYTES = 300_000
WIDTH_PX = 1200
WAIT_S = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="default: the procedural sample slide")
    parser.add_argument("--bundle", default="synthetic-he")
    parser.add_argument("--name", default="sample")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        viewer = app.new_window()
        make_pictures(viewer, args, Path(folder))
        viewer.close()


def make_pictures(viewer: napari.Viewer, args: argparse.Namespace, folder: Path) -> None:
    dock = app.open_dock(viewer)
    session = dock.bridge.session
    source = synthetic_slide() if args.slide is None else args.slide
    for file in (source, truth_path(source)):
        if file.is_file():  # copied, so that the pictures' run is not left beside the slide
            shutil.copy(file, folder)
    viewer.open(folder / source.name, plugin=app.PLUGIN)
    for data in truth_of(session.state.slide):
        viewer.add_layer(make_layer(data))
    viewer.layers.selection.active = viewer.layers[0]
    session.choose_bundle(args.bundle)
    app.settle()
    press(dock.run.run_button)
    wait_for(lambda: not session.busy or halfway(session.state.progress))
    picture(viewer, args.out / f"{args.name}-running.png")
    wait_for(lambda: not session.busy)
    for layer in viewer.layers:
        if TRUTH_KEY in layer.metadata:
            layer.visible = True
    for overlay, _ in CHOICES:
        if overlay is not None:
            press(dock.results.overlay.button(overlay))
            picture(viewer, args.out / f"{args.name}-{overlay.value}.png")
    press(dock.results.overlay.button(Overlay.OOD))
    docked, _ = viewer.window.add_plugin_dock_widget(app.PLUGIN, "OOD thresholds", tabify=True)
    docked.raise_()
    wait_for(lambda: session.state.figures and not session.state.studying)
    picture(viewer, args.out / f"{args.name}-thresholds.png")


def halfway(progress: Progress | None) -> bool:
    return progress is not None and 2 * progress.n_done >= progress.n_total


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > end:
            raise SystemExit("the window did not get there in time")
        app.settle(50)


def press(button: QAbstractButton) -> None:
    app.settle(50)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def picture(viewer: napari.Viewer, path: Path, width: int = WIDTH_PX) -> None:
    app.save_window(viewer, path)
    image = Image.open(path).convert("RGB")
    image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    # An octree keeps rare colours, such as those of a legend; a median cut gives them away.
    palette = image.quantize(256, method=Image.Quantize.FASTOCTREE)
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{path} is larger than {MAX_BYTES:,} bytes")


if __name__ == "__main__":
    main()
