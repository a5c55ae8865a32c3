"""Make the picture of the cohort board for the documentation: press the keys of the real window.

    .venv/bin/python scripts/make_cohort.py FOLDER
    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/make_board_screenshot.py \
        FOLDER/runs

Writes cohort-board.png, at most 300 kB: the window with the dock after a double-click on the slide
of the highest OOD share. The folder's path is in the picture, so choose one such as /srv/cohort.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import napari
from make_inspector_screenshot import save
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_ood.viewer.dock_cohort import CohortDock

WAIT_S = 120.0
WINDOW = (1440, 960)
HIDDEN = ("layer list", "layer controls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a cohort")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    args = parser.parse_args()
    save(picture_of(args.folder), args.out / "cohort-board.png")


def picture_of(folder: Path) -> Image.Image:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW)
    board = viewer.window.add_plugin_dock_widget("napari-ood", "OOD cohort")[1]
    for part in board.window().findChildren(QDockWidget):
        if part.objectName() in HIDDEN:
            part.hide()
    board.read(folder)
    wait_for(board)
    table = board.table
    place = table.visualRect(board.model.index(0, 0)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QTest.keyClick(table, Qt.Key.Key_Return)
    QTest.qWait(3000)
    picture = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])
    viewer.close()
    return picture


def wait_for(board: CohortDock) -> None:
    end = time.monotonic() + WAIT_S
    while board.reading.outcome is None and time.monotonic() < end:
        QTest.qWait(100)
    QTest.qWait(500)


if __name__ == "__main__":
    app = QApplication.instance() or QApplication([])
    main()
