"""Cohorts that were looked at, remembered from one session to the next. No Qt, no napari."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from napari_ood.viewer.reviewer import config_folder

FILE = "cohorts.txt"
MOST = 8


def remembered_cohorts() -> list[Path]:
    """Folders of cohorts, the latest first; those that are gone are left out."""
    try:
        lines = (config_folder() / FILE).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [Path(line) for line in lines[:MOST] if line and Path(line).is_dir()]


def remember_cohort(folder: Path) -> None:
    """Put a folder first; without a place to write to it is forgotten with the window."""
    others = [path for path in remembered_cohorts() if path != folder]
    path = config_folder() / FILE
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{each}\n" for each in [folder, *others][:MOST]), "utf-8")
