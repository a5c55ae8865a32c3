"""``napari-ood open`` and ``napari-ood demo``: the commands that open a window."""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from napari_ood.cli.progress import StatusLine
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
    """Run the demo, print its summary, and show it in napari.

    Without a display the window opens on a virtual screen, is photographed and closed.
    """
    print_demo(_run_demo(args.out))
    if not args.window:
        return 0
    if has_display():
        from napari_ood.viewer.app import demo_window

        demo_window(args.out)
    elif shutil.which(VIRTUAL_SCREEN[0]) is None:
        complain(
            "no display and no xvfb-run (sudo apt install xvfb xauth), so no window and no "
            "screenshot; the summary above is complete"
        )
    else:
        print(f"\nscreenshot: {_photograph(args.out)}")
    return 0


def _photograph(out: Path) -> Path:
    """Open the demo's window on a virtual screen; return the picture of it."""
    code = f"from napari_ood.viewer.app import demo_window; demo_window({str(out)!r}, show=False)"
    command = [*VIRTUAL_SCREEN, sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    picture = out / "screenshot.png"
    if done.returncode != 0 or not picture.is_file():
        said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        raise OodError(f"no window on the virtual screen (see napari-ood doctor): {said[-1]}")
    return picture


def _run_demo(out: Path) -> dict[str, Any]:
    from napari_ood.demo import run_demo

    with StatusLine() as line:

        def on_drawing(share: float) -> None:
            line.show(f"drawing the sample slide, this once: {share:.0%}", last=share >= 1)

        return run_demo(out, partial(line.show_run, "demo"), on_drawing=on_drawing)


def print_demo(summary: dict[str, Any]) -> None:
    """Print the summary of ``run_demo`` as two tables."""
    speed = f"{summary['tiles_per_s']:.1f} tiles/s"
    facts = [
        ("slide", summary["slide"]),
        ("run", summary["run"]),
        ("tiles", f"{summary['n_tiles']:,} in {summary['seconds']:.1f} s ({speed})"),
        ("bundle", f"{summary['bundle']} on {summary['device']}"),
        ("accuracy", f"{_number(summary['accuracy'])} on tiles without foreign regions"),
    ]
    print_table(facts)
    ood, uncertainty = summary["ood_auroc"], summary["uncertainty_auroc"]
    print("\nHow well the scores find the planted regions (AUROC; 0.5 is chance, 1 is perfect):")
    width = max(map(len, ood))
    n_foreign = sum(n for kind, n in summary["tiles"].items() if kind != "in_distribution")
    print(f"{'':<{width}}  {'tiles':>6}  {'OOD':>6}  {'uncertainty':>11}")
    for kind, auroc in ood.items():
        n = n_foreign if kind == "overall" else summary["tiles"][kind]
        print(f"{kind:<{width}}  {n:>6}  {_number(auroc):>6}  {_number(uncertainty[kind]):>11}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
