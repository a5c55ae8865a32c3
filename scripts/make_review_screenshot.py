"""Make the picture of the review queue for the documentation: press its keys in the real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/make_review_screenshot.py

Runs the demo, reviews a few regions, writes docs/images/sample-review.png and -agreement.png.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from make_screenshots import picture, wait_for
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_ood.demo import run_demo
from napari_ood.naming import RUN_SUFFIX
from napari_ood.viewer import app
from napari_ood.viewer.dock_review import ReviewDock
from napari_ood.viewer.review_state import Order

SETTLE_MS = 600
WIDTH_PX = 1000
"""Tissue without an overlay does not compress well."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="default: a new run of the demo")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or make_run(Path(folder))
        viewer = app.open_in_napari([run], block=False)
        _, dock = viewer.window.add_plugin_dock_widget(app.PLUGIN, "OOD review")
        dock.queue.set_order(Order.AREA)
        as_reviewer(dock, "Second reader")
        press(dock, "nibt")
        as_reviewer(dock, "First reader")
        press(dock, "nitnh")
        picture(viewer, args.out / "sample-review.png", WIDTH_PX)
        dock.tail.figures.button.setChecked(True)
        app.settle(SETTLE_MS)
        dock.scroll_area.ensureWidgetVisible(dock.tail.figures)
        picture(viewer, args.out / "sample-agreement.png", WIDTH_PX)
        viewer.close()


def make_run(folder: Path) -> Path:
    run_demo(folder)
    return next(folder.glob(f"*{RUN_SUFFIX}"))


def as_reviewer(dock: ReviewDock, name: str) -> None:
    # Not by typing, which would make it the name that is remembered.
    dock.queue.set_reviewer(name)
    wait_for(lambda: not dock.queue.busy)
    app.settle(SETTLE_MS)


def press(dock: ReviewDock, keys: str) -> None:
    dock.window().activateWindow()
    wait_for(dock.window().isActiveWindow)
    dock.list.setFocus()
    for key in keys:
        QTest.keyClick(QApplication.focusWidget(), key)
        app.settle(SETTLE_MS)  # the flight, pictures


if __name__ == "__main__":
    main()
