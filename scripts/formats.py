"""Make the table of ``docs/formats.md``: every slide at hand, and how it opens.

Run ``python scripts/formats.py [FOLDER]`` after a change of the readers; FOLDER holds the slides
(default: ``../shared/data/slides`` beside the repository). A test fails while the table is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_ood import Slide, SlideError, open_slide

REPO = Path(__file__).resolve().parents[1]
DOCUMENT = REPO / "docs" / "formats.md"
START = "<!-- made by scripts/formats.py: do not edit by hand -->\n"
END = "<!-- end -->\n"
HEADER = (
    "| file | format | reader | size (px) | levels | µm/px | outcome |\n"
    "|---|---|---|---|---|---|---|\n"
)
LONGEST_NAME = 62


def slides_in(folder: Path) -> Iterator[Path]:
    """Yield all files that could be slides, and each folder of DICOM files, sorted."""
    for path in sorted(folder.rglob("*")):
        is_dicom_folder = path.is_dir() and len(list(path.glob("*.dcm"))) > 1
        if is_dicom_folder or (path.is_file() and path.name != "SOURCE.txt"):
            yield path


def row(path: Path, folder: Path) -> str:
    """Open a slide, read its corner, its middle and its coarsest level; say how it went."""
    name = short(path.relative_to(folder).as_posix() + "/" * path.is_dir())
    try:
        with open_slide(path) as slide:
            return line(name, slide)
    except SlideError as error:
        reason = str(error).removeprefix(f"cannot open {path.name}: ")
        return f"| {name} | | | | | | refused: {reason} |\n"


def line(name: str, slide: Slide) -> str:
    h, w = slide.shape
    slide.read(0, -8, -8, 64, 64)
    slide.read(0, h // 2, w // 2, 64, 64)
    brightness = float(np.asarray(slide.levels[-1]).mean())
    mpp = "missing" if slide.mpp is None else " x ".join(f"{v:.4g}" for v in slide.mpp[::-1])
    levels = f"{slide.n_native}"
    if len(slide.levels) > slide.n_native:
        levels += f" + {len(slide.levels) - slide.n_native}"
    outcome = f"opens, mean {brightness:.0f}"
    if slide.associated:
        outcome += f"; {', '.join(sorted(slide.associated))}"
    notes = [warning for warning in slide.warnings if "--mpp" not in warning]
    outcome += "".join(f"; {note}" for note in notes)
    return (
        f"| {name} | {slide.format} | {slide.reader} | {w} x {h} | {levels} | {mpp} | {outcome} |\n"
    )


def short(name: str) -> str:
    """Cut the middle out of long names (DICOM UIDs)."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def table(folder: Path) -> str:
    """Return the whole table as Markdown."""
    return HEADER + "".join(row(path, folder) for path in slides_in(folder))


def committed(document: str) -> str:
    """Return the table that the document holds."""
    return document.partition(START)[2].partition(END)[0].strip("\n") + "\n"


def main() -> None:
    default = REPO.parent / "shared" / "data" / "slides"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(
        f"{before}{START}\n{table(folder)}\n{END}{after}", encoding="utf-8", newline="\n"
    )


if __name__ == "__main__":
    main()
