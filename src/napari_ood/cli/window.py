"""``napari-ood open`` and ``napari-ood demo``: the commands that open a window."""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_ood.cli.progress import ProgressLine
from napari_ood.cli.report import complain, print_table
from napari_ood.doctor.libraries import VIRTUAL_SCREEN, has_display
from napari_ood.errors import OodError


def open_paths(args: Namespace) -> int:
    """Open slides and runs in napari; returns when its window is closed."""
    for path in args.paths:
        if not path.exists():
            raise OodError(f"{path} does not exist")
    if not has_display():
        raise OodError(
            "there is no display here to open napari on; info and run need none, "
            "and over ssh -X or a remote desktop this works"
        )
    from napari_ood.viewer.app import open_in_napari

    open_in_napari(args.paths)
    return 0


def demo(args: Namespace) -> int:
    """Run the demo; without a display its window opens on a virtual screen, if there is one."""
    if args.window and not has_display():
        if shutil.which(VIRTUAL_SCREEN[0]) is not None:
            return _again_on_virtual_screen(args)
        complain(
            "no display and no xvfb-run (sudo apt install xvfb xauth), so without a window: "
            "there will be no screenshot"
        )
        args.window = False
    from napari_ood.demo import run_demo

    line = ProgressLine("demo")
    try:
        summary = run_demo(args.out, line)
    finally:
        line.close()
    print_table(_rows(summary, args.out))
    if args.window:
        from napari_ood.viewer.app import demo_window

        demo_window(args.out, show=not args.screenshot)
    return 0


def _again_on_virtual_screen(args: Namespace) -> int:
    command = [sys.executable, "-m", "napari_ood", "demo", "--screenshot", "--out", str(args.out)]
    command += ["--debug"] * args.debug
    return subprocess.run([*VIRTUAL_SCREEN, *command], check=False).returncode


def _rows(summary: dict[str, Any], out: Path) -> Iterator[tuple[str, str]]:
    for name, value in summary.items():
        if isinstance(value, dict):
            for index, (key, inner) in enumerate(value.items()):
                yield name if index == 0 else "", f"{key}: {_text(inner)}"
        else:
            yield name, _text(value)
    yield "written to", str(out)


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
