"""What a cohort is made of: which slides, where their runs go, what is asked of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_ood.cohort.listing import list_slides
from napari_ood.cohort.names import run_names
from napari_ood.naming import RUN_SUFFIX

TASK_TILES = {"cpu": 512, "mps": 2048, "cuda": 16384}
"""Tiles of one task, about, by device: seconds of work, so that dask's 1.5 ms per task vanish."""
WHOLE_SLIDE_TASKS = 4
"""Slides of up to this many tasks are one task: it opens the slide once and stores its session."""


@dataclass(frozen=True)
class Job:
    """One slide of a cohort. Paths are absolute and hold on every machine.

    Attributes
    ----------
    slide, out : of the slide and of its run
    size : bytes of the slide's file or folder; 0 where it cannot be seen from here
    listed : what a list of slides says of it: scanner, date, group
    """

    slide: str
    out: str
    size: int
    listed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Settings:
    """What is asked of all slides of a cohort.

    Attributes
    ----------
    bundle : folder of the bundle
    hashes : the bundle's, which each worker checks its copy against
    device, batch_size, tissue, stride, mpp, precision, features : as ``run_slide`` and
        ``open_slide`` take them
    task_tiles : tiles of one task, about; None: ``TASK_TILES`` of the worker's device
    token : file that every machine of the cohort sees; None: none is looked for
    """

    bundle: str
    hashes: dict[str, str]
    device: str = "auto"
    batch_size: int | None = None
    tissue: bool = True
    stride: int | None = None
    mpp: float | None = None
    precision: str = "fp32"
    features: str | None = None
    task_tiles: int | None = None
    token: str | None = None


def plan_jobs(
    slides: Sequence[str | Path],
    out: str | Path,
    names_before: Mapping[Path, str] | None = None,
    images: bool = False,
) -> list[Job]:
    """Jobs of a cohort, those of the largest files first.

    A slide that is late keeps one worker busy while others idle, and large ones are late. A file's
    size says how much tissue there is before anything is opened, for glass takes next to no bytes.
    A slide that is named twice is run once. Slides that share a name are told apart by their
    folders; those of earlier calls keep their runs.

    Parameters
    ----------
    slides : files, folders, lists
    out : folder of the cohort
    names_before : of the runs of slides in earlier calls
    images : whether PNG and JPEG files in folders are slides

    Raises
    ------
    OodError
        For a list that cannot be read, or a folder without slides.
    """
    folder = Path(out).absolute()
    listed = list_slides(slides, images)
    names = run_names([slide.path for slide in listed], names_before or {})
    jobs = [
        Job(
            str(slide.path),
            str(folder / f"{names[slide.path]}{RUN_SUFFIX}"),
            size_on_disk(slide.path),
            slide.facts,
        )
        for slide in listed
    ]
    return sorted(jobs, key=lambda job: -job.size)


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder (DICOM, zarr); 0 where they cannot be seen.

    A MIRAX slide's pixels lie in a folder beside its file, which is counted with it.
    """
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        beside = path.with_suffix("")
        extra = size_on_disk(beside) if path.suffix.lower() == ".mrxs" and beside.is_dir() else 0
        return path.stat().st_size + extra
    except OSError:
        return 0
