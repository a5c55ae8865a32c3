"""What a board says of a cohort that others are writing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from napari_ood.board import read_board
from napari_ood.board.ongoing import BEGUN, INTERRUPTED, StateReader
from napari_ood.cohort.manifest import write_manifest
from napari_ood.inference.holding import WHOLE_FOLDER, holding_folder

PROGRESS: dict[str, Any] = {
    "n_slides": 40, "n_done": 12, "n_failed": 1, "n_tiles": 9131, "n_workers": 8,
    "seconds": 100.0, "tiles_per_s": 91.31, "seconds_left": 260.0,
}  # fmt: skip
FACTS: dict[str, Any] = {"format_version": 1, "slides": [], "ended": None}
HOLD = """
import sys, time
from pathlib import Path
from napari_ood.inference.holding import holding_folder
with holding_folder(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(120)
"""


def test_a_cohort_goes_on_then_is_killed_then_ends(tmp_path: Path) -> None:
    reader = StateReader(tmp_path)
    assert reader.read() == ""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cohort:
        assert cohort.stdout is not None and cohort.stdout.readline() == "holds\n"
        assert reader.read() == BEGUN
        write_manifest(tmp_path, {**FACTS, "progress": PROGRESS})
        expected = (
            "The cohort goes on: 12 of 40 slides done, 1 failed, 9,131 tiles at 91.3 per second, "
            "about 4 min left."
        )
        assert reader.read() == expected
        board = read_board(tmp_path)
        assert board.state == board.as_dict()["state"] == expected
        write_manifest(tmp_path, {**FACTS, "progress": {**PROGRESS, "seconds_left": None}})
        assert reader.read().endswith("per second.")
        cohort.kill()
        cohort.wait()
    assert (tmp_path / WHOLE_FOLDER).exists()
    assert reader.read() == INTERRUPTED
    write_manifest(tmp_path, {**FACTS, "ended": "2026-11-21T22:00:00+00:00"})
    assert reader.read() == read_board(tmp_path).state == ""
    with holding_folder(tmp_path):  # the next call
        assert reader.read() == BEGUN


def test_a_manifest_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    write_manifest(tmp_path, {**FACTS, "progress": PROGRESS})
    reader = StateReader(tmp_path)
    with holding_folder(tmp_path):
        first = reader.read()
        file = tmp_path / "cohort.json"
        stat, text = file.stat(), file.read_text()
        changed = json.dumps({**json.loads(text), "progress": {**PROGRESS, "n_done": 13}})
        file.write_text(changed)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert reader.read() == first
        os.utime(file)
        assert reader.read() == first.replace("12 of", "13 of")
