"""Make the pictures of the documentation: press the buttons and keys of the real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/make_screenshots.py
    … scripts/make_screenshots.py --only review compare
    … scripts/make_screenshots.py --only running --bundle lymph-node-he
    … scripts/make_screenshots.py --slide CMU-1-Small-Region.svs --bundle lymph-node-he --name cmu

Writes <name>-<picture>.png, at most 300 kB each, for the pictures named in PICTURES. With
synthetic-he a run is over before its picture is taken: ``running`` needs a slower bundle.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication

from napari_ood import Progress
from napari_ood.inference import run_slide
from napari_ood.naming import RUN_SUFFIX
from napari_ood.samples import synthetic_slide, truth_path
from napari_ood.slides import open_slide
from napari_ood.viewer import app
from napari_ood.viewer.layers import TRUTH_KEY, make_layer
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.restore import truth_of
from napari_ood.viewer.review_state import Order
from napari_ood.viewer.section_results import CHOICES

MAX_BYTES = 300_000
WIDTHS_PX = (1200, 1100, 1000, 900)
"""The widest that fits: tissue without an overlay does not compress well."""
COLORS = (256, 192, 128)
WAIT_S = 600
SETTLE_MS = 600
MAPS = tuple(overlay.value for overlay, _ in CHOICES if overlay is not None)
PICTURES = (
    "running", *MAPS, "thresholds", "passport", "review", "agreement", "export", "compare", "places"
)  # fmt: skip
BESIDES = ("running", "prediction", "uncertainty")
DOCUMENTED = tuple(name for name in PICTURES if name not in BESIDES)
STAIN = np.array([0.8, 1.15, 0.95])
"""Exponents of red, green and blue of the changed copy: the stain of another laboratory."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="default: the procedural sample slide")
    parser.add_argument("--bundle", default="synthetic-he")
    parser.add_argument("--name", default="sample")
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=DOCUMENTED)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="slides-") as folder:
        viewer = app.new_window()
        Pictures(viewer, args, Path(folder)).make()
        viewer.close()


class Pictures:
    """One window, and the pictures that are taken of it."""

    def __init__(self, viewer: napari.Viewer, args: argparse.Namespace, folder: Path) -> None:
        self.viewer, self.args, self.folder = viewer, args, folder
        self.dock = app.open_dock(viewer)
        self.session = self.dock.bridge.session

    def make(self) -> None:
        self.run_it()
        steps = {
            self.maps: MAPS, self.thresholds: ("thresholds",), self.passport: ("passport",),
            self.review: ("review", "agreement"), self.export: ("export",),
            self.compare: ("compare", "places"),
        }  # fmt: skip
        for step, names in steps.items():
            if any(name in self.args.only for name in names):
                step()

    def take(self, name: str) -> None:
        if name in self.args.only:
            picture(self.viewer, self.args.out / f"{self.args.name}-{name}.png")

    def open(self, name: str) -> Any:
        docked, dock = self.viewer.window.add_plugin_dock_widget(app.PLUGIN, name, tabify=True)
        docked.show()
        docked.raise_()
        app.settle(SETTLE_MS)
        return dock

    def run_it(self) -> None:
        source = synthetic_slide() if self.args.slide is None else self.args.slide
        for file in (source, truth_path(source)):
            if file.is_file():  # copied, so that the pictures' run is not left beside the slide
                shutil.copy(file, self.folder)
        self.slide_path = self.folder / source.name
        self.viewer.open(self.slide_path, plugin=app.PLUGIN)
        for data in truth_of(self.session.state.slide):
            self.viewer.add_layer(make_layer(data))
        self.viewer.layers.selection.active = self.viewer.layers[0]
        self.session.choose_bundle(self.args.bundle)
        app.settle()
        press(self.dock.run.run_button)
        wait_for(lambda: not self.session.busy or halfway(self.session.state.progress))
        self.take("running")
        wait_for(lambda: not self.session.busy)

    def show_truth(self, visible: bool) -> None:
        for layer in self.viewer.layers:
            if TRUTH_KEY in layer.metadata:
                layer.visible = visible

    def maps(self) -> None:
        self.show_truth(True)
        for overlay, _ in CHOICES:
            if overlay is not None:
                press(self.dock.results.overlay.button(overlay))
                self.take(overlay.value)
        press(self.dock.results.overlay.button(Overlay.OOD))
        self.show_truth(False)

    def thresholds(self) -> None:
        self.open("OOD thresholds")
        wait_for(lambda: self.session.state.figures and not self.session.state.studying)
        self.take("thresholds")

    def passport(self) -> None:
        dock = self.open("OOD slide passport")
        wait_for(lambda: dock.inspection.findings.passport is not None)
        self.take("passport")

    def review(self) -> None:
        dock = self.open("OOD review")
        wait_for(lambda: not dock.queue.busy)
        dock.queue.set_order(Order.AREA)
        as_reviewer(dock, "Second reader")
        keys(dock, "nibt")
        as_reviewer(dock, "First reader")
        keys(dock, "nitnh")
        self.take("review")
        dock.tail.figures.button.setChecked(True)
        wait_for(lambda: not dock.work.busy)
        app.settle(SETTLE_MS)
        dock.scroll_area.ensureWidgetVisible(dock.tail)
        self.take("agreement")
        dock.tail.figures.button.setChecked(False)
        keys(dock, "h")

    def export(self) -> None:
        dock = self.open("OOD export")
        press(dock.export_button)
        wait_for(lambda: not dock.exporting.order.busy and dock.exporting.order.written)
        self.viewer.fit_to_view()
        self.take("export")

    def compare(self) -> None:
        run = next(self.folder.glob(f"*{RUN_SUFFIX}"))
        with open_slide(restained(self.slide_path)) as copy:
            other = run_slide(copy, self.session.state.bundle, run.with_name(f"copy{RUN_SUFFIX}"))
        dock = self.open("OOD compare runs")
        dock.comparison.open(other.path)
        dock.comparison.choose(run, other.path)
        dock.comparison.set_copies(True)
        press(dock.choice.compare_button)
        wait_for(lambda: dock.comparison.choice.compared is not None)
        self.viewer.fit_to_view()
        app.settle(SETTLE_MS)
        self.take("compare")
        dock.scroll_area.ensureWidgetVisible(dock.regions.review_button)
        app.settle(SETTLE_MS)
        press(dock.regions.review_button)
        wait_for(lambda: self.session.state.places is not None)
        review = self.open("OOD review")
        wait_for(lambda: review.queue.state.places is not None and not review.queue.busy)
        keys(review, "n")
        self.take("places")


def restained(path: Path) -> Path:
    """A copy of a slide in other colours, beside it."""
    with open_slide(path) as slide:
        h, w = slide.shape
        pixels = (255 * (slide.read(0, 0, 0, h, w) / 255) ** STAIN).astype(np.uint8)
        mpp = slide.mpp or (1.0, 1.0)
    out = path.with_name("copy.tif")
    tifffile.imwrite(
        out, pixels, photometric="rgb", tile=(256, 256), compression="zlib",
        resolution=(1e4 / mpp[1], 1e4 / mpp[0]), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return out


def as_reviewer(dock: Any, name: str) -> None:
    # Not by typing, which would make it the name that is remembered.
    dock.queue.set_reviewer(name)
    wait_for(lambda: not dock.queue.busy)
    app.settle(SETTLE_MS)


def keys(dock: Any, pressed: str) -> None:
    dock.window().activateWindow()
    wait_for(dock.window().isActiveWindow)
    dock.list.setFocus()
    for key in pressed:
        QTest.keyClick(QApplication.focusWidget(), key)
        app.settle(SETTLE_MS)  # the flight, pictures


def halfway(progress: Progress | None) -> bool:
    return progress is not None and 2 * progress.n_done >= progress.n_total


def wait_for(done: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > end:
            raise SystemExit("the window did not get there in time")
        app.settle(50)


def press(button: QAbstractButton) -> None:
    app.settle(50)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def picture(viewer: napari.Viewer, path: Path) -> None:
    """Save the window as large as it fits into the bytes."""
    app.settle(SETTLE_MS)
    app.save_window(viewer, path)
    whole = Image.open(path).convert("RGB")
    for width in WIDTHS_PX:
        image = whole.resize((width, round(whole.height * width / whole.width)), Image.LANCZOS)
        for n in COLORS:
            # An octree keeps rare colours, such as those of a legend; a median cut does not.
            palette = image.quantize(n, method=Image.Quantize.FASTOCTREE)
            small = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
            small.save(path, optimize=True)
            if path.stat().st_size <= MAX_BYTES:
                return
    raise SystemExit(f"{path} is larger than {MAX_BYTES:,} bytes")


if __name__ == "__main__":
    main()
