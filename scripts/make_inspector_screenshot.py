"""Make the picture of the inspector for the documentation: press the buttons of the real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/make_inspector_screenshot.py

Writes sample-inspector.png, at most 300 kB: the procedural slide with the saliency of a tile, and
beside it what the inspector says of the same tile in its other tabs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QDockWidget

from napari_ood.demo import run_demo
from napari_ood.naming import RUN_SUFFIX
from napari_ood.viewer.dock_inspector import InspectorDock
from napari_ood.viewer.inspector_state import Tab

MAX_BYTES = 300_000
COLORS = (256, 160, 96, 64)
WAIT_S = 120.0
SETTLE_S = 0.5
BESIDE = (Tab.HEADS, Tab.PROTOTYPES, Tab.CAUSE)
HALF_INKED = (14, 4)
WINDOW = (860, 900)
CLOSER = 2.5
"""Times the zoom of the flight: the map is seen, and magnified tissue compresses well."""
HIDDEN = ("layer list", "layer controls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a stored run; default: of the sample slide")
    parser.add_argument(
        "--tile", nargs=2, type=int, metavar=("ROW", "COLUMN"), default=HALF_INKED,
        help="default: half in ink on the sample slide, so that heads dissent",
    )  # fmt: skip
    parser.add_argument("--method", default="Grad-CAM")
    parser.add_argument("--name", default="sample-inspector")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or sample_run(Path(folder))
        picture = picture_of(run, (args.tile[0], args.tile[1]), args.method)
    save(picture, args.out / f"{args.name}.png")


def sample_run(folder: Path) -> Path:
    run_demo(folder)
    return next(folder.glob(f"*{RUN_SUFFIX}"))


def picture_of(run: Path, tile: tuple[int, int], method: str) -> Image.Image:
    """The window with saliency, and the dock in its other tabs to the right of it."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW)
    viewer.open(run, plugin="napari-ood")
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD inspector")[1]
    for part in dock.window().findChildren(QDockWidget):
        if part.objectName() in HIDDEN:
            part.hide()
    settle(dock)
    dock.inspector.select(tile)
    settle(dock)
    press(dock.tile.fly)
    settle(dock)
    viewer.scene.camera.zoom *= CLOSER
    beside = []
    for tab in BESIDE:
        press(dock.tabs.button(tab))
        settle(dock)
        beside.append(picture_from(dock))
    press(dock.tabs.button(Tab.SALIENCY))
    settle(dock)
    dock.saliency.method_chosen.emit(
        next(m.name for m in dock.inspector.methods().values() if m.title == method)
    )
    press(dock.saliency.tissue)
    press(dock.saliency.explain)
    settle(dock)
    press(dock.sanity.randomise)
    settle(dock)
    whole = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])
    viewer.close()
    return beside_each_other([whole, *beside])


def press(button: QAbstractButton) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton, pos=QPoint(8, button.height() // 2))
    QTest.qWait(100)


def settle(dock: InspectorDock) -> None:
    """Wait until nothing is worked out any more and all is drawn."""
    QTest.qWait(200)
    end = time.monotonic() + WAIT_S
    while dock.inspector.working and time.monotonic() < end:
        QTest.qWait(50)
    QTest.qWait(round(1000 * SETTLE_S))


def picture_from(dock: InspectorDock) -> Image.Image:
    image = dock.grab().toImage().convertToFormat(dock.grab().toImage().Format.Format_RGB888)
    pixels = image.constBits()
    pixels.setsize(image.sizeInBytes())
    size = (image.width(), image.height())
    return Image.frombytes("RGB", size, bytes(pixels), "raw", "RGB", image.bytesPerLine())


def beside_each_other(pictures: list[Image.Image], gap: int = 6) -> Image.Image:
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    out = Image.new("RGB", (width, max(p.height for p in pictures)), "#262930")
    x = 0
    for picture in pictures:
        out.paste(picture, (x, 0))
        x += picture.width + gap
    return out


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG with as many colours as fit."""
    for n in COLORS:
        picture.quantize(n, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        if path.stat().st_size <= MAX_BYTES:
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {n} colours")
            return
    raise SystemExit(f"{path} is larger than {MAX_BYTES / 1000:.0f} kB")


if __name__ == "__main__":
    app = QApplication.instance() or QApplication([])
    main()
