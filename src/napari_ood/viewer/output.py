"""Where a run is written: beside the slide, never over another run. No Qt, no napari."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from napari_ood.errors import RunError, SlideError
from napari_ood.models.precision import AUTO
from napari_ood.naming import RUN_SUFFIX
from napari_ood.viewer.how import How

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide
    from napari_ood.viewer.job import Box


@dataclass(frozen=True)
class Output:
    """Where the next run is written; ``n_done`` of ``n_total`` tiles are stored there already.

    Attributes
    ----------
    how : as the run there was begun, which is how it goes on; None where there is none
    passed : the same run, begun otherwise than is asked for now, which stays as it is
    """

    path: Path
    n_done: int = 0
    n_total: int = 0
    how: How | None = None
    passed: Output | None = None

    @classmethod
    def of_run(cls, run: Run) -> Output:
        """A stored run, to go on with."""
        return cls(run.path, run.n_tiles, int(run.tissue.sum()), How.of_run(run))

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
    slide: Slide,
    bundle: Bundle,
    region: Box | None = None,
    folder: Path | None = None,
    precision: str = AUTO,
    features: str | None = None,
) -> Output:
    """First free name ``<slide>.ood.zarr``, ``<slide>-2.ood.zarr`` …, or the same run to resume.

    A run that was begun in another precision, or with other features, than is asked for is not
    resumed but passed over: it goes on in its own. By default any is resumed.

    Raises
    ------
    SlideError
        If bundle and slide cannot match, the region lies outside the slide, or the slide's file
        is gone.
    """
    wanted, passed = _identity(slide, bundle, region), None
    for path in _candidates(folder or default_folder(slide.path), slide.name):
        if not path.exists():
            return Output(path, passed=passed)
        run = _same_run(path, wanted)
        if run is not None and _goes_on(run, precision, features):
            return replace(Output.of_run(run), passed=passed)
        if run is not None and passed is None:
            passed = Output.of_run(run)
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


def _goes_on(run: Run, precision: str, features: str | None) -> bool:
    """Whether the engine would go on with a run when this is asked for."""
    from napari_ood.inference.asked import Asked

    try:
        Asked(precision, features).check(run.path, run.provenance)
    except RunError:
        return False
    return True


def _same_run(path: Path, wanted: dict[str, object]) -> Run | None:
    """What is stored at ``path`` if it is the same run; None for anything else."""
    from napari_ood.inference import open_run

    try:
        run = open_run(path)
    except RunError:
        return None
    return run if run.provenance.get("identity") == wanted else None
