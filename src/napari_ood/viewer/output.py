"""Where a run is written: beside the slide, never over another run. No Qt, no napari."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from napari_ood.errors import RunError, SlideError
from napari_ood.naming import RUN_SUFFIX

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide
    from napari_ood.viewer.job import Box


@dataclass(frozen=True)
class Output:
    """Where the next run is written; ``n_done`` of ``n_total`` tiles are stored there already."""

    path: Path
    n_done: int = 0
    n_total: int = 0

    @property
    def resumes(self) -> bool:
        """Whether a run with the same arguments is there already, finished or not."""
        return self.n_total > 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.resumes and self.n_done >= self.n_total


def default_folder(slide: Path) -> Path:
    """The slide's folder when it can be written, else the user's data folder."""
    if os.access(slide.parent, os.W_OK):
        return slide.parent
    return user_data_path("napari-ood", appauthor=False) / "runs"


def choose_output(
    slide: Slide, bundle: Bundle, region: Box | None = None, folder: Path | None = None
) -> Output:
    """First free name ``<slide>.ood.zarr``, ``<slide>-2.ood.zarr`` …, or the same run to resume.

    Raises
    ------
    SlideError
        If bundle and slide cannot match, the region lies outside the slide, or the slide's file
        is gone.
    """
    wanted = _identity(slide, bundle, region)
    for path in _candidates(folder or default_folder(slide.path), slide.name):
        if not path.exists():
            return Output(path)
        stored = _stored(path, wanted)
        if stored is not None:
            return stored
    raise AssertionError("unreachable: the candidates do not end")


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    yield folder / f"{name}{RUN_SUFFIX}"
    yield from (folder / f"{name}-{n}{RUN_SUFFIX}" for n in count(2))


def _identity(slide: Slide, bundle: Bundle, region: Box | None) -> dict[str, object]:
    from napari_ood.inference.plan import plan_grid
    from napari_ood.inference.provenance import identity

    grid = plan_grid(slide, bundle, region)
    try:
        return identity(slide, bundle, grid, tissue=True)
    except OSError as error:
        raise SlideError(
            f"{slide.path} cannot be read any more ({error.strerror or error}): open it again"
        ) from error


def _stored(path: Path, wanted: dict[str, object]) -> Output | None:
    """What is stored at ``path`` if it is the same run; None for anything else."""
    from napari_ood.inference import open_run

    try:
        run = open_run(path)
    except RunError:
        return None
    if run.provenance.get("identity") != wanted:
        return None
    return Output(path, run.n_tiles, int(run.tissue.sum()))
