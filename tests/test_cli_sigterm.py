"""A scheduler that wants the machine back: the run ends in order and holds nothing any more."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_ood import Bundle, open_run
from napari_ood.cli import main
from napari_ood.cli.progress import StatusLine
from napari_ood.inference import Progress


def test_sigterm_ends_a_run_in_order(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (1024, 1024, 3), np.uint8)
    slide, out = tmp_path / "slide.tif", tmp_path / "out"
    tifffile.imwrite(slide, pixels, tile=(128, 128), photometric="rgb")
    show, held = StatusLine.show_run, list[bool]()

    def end(line: StatusLine, name: str, progress: Progress) -> None:
        show(line, name, progress)
        if not held:
            held.append((out / ".slide.ood.zarr.lock").exists())
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(StatusLine, "show_run", end)
    command = ["run", str(slide), "--model", str(tiny_bundle.path), "--mpp", "1", "--no-tissue"]
    assert main([*command, "--stride", "4", "--out", str(out)]) == 130
    assert held == [True]
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in out.iterdir()] == ["slide.ood.zarr"]
    assert open_run(out / "slide.ood.zarr").n_tiles > 0
