"""What is exported: a run's scores, thresholds, regions and verdicts, each computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import SlideError, ThresholdError
from napari_ood.export.outline import Lattice
from napari_ood.naming import run_name

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.review.verdicts import Verdict
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide

Origin = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Results:
    """A scored run with what was decided about it.

    Attributes
    ----------
    scored : ScoredRun
    thresholds : role → Threshold; roles without one have no flagged tiles and no regions
    verdicts : reviewer → verdicts
    origin : y, x in level-0 pixels of the point that QuPath counts from
    review : folder of the review; None for the one beside the run
    """

    scored: ScoredRun
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)
    origin: Origin = (0, 0)
    review: Path | None = None

    @property
    def name(self) -> str:
        """Name of the run, which begins the name of every file."""
        return run_name(self.scored.run.path)

    @property
    def scores(self) -> Mapping[str, str]:
        """Role → score: the one that has the threshold, else the bundle's."""
        chosen = {role: threshold.score for role, threshold in self.thresholds.items()}
        return {**self.scored.roles, **chosen}

    @cached_property
    def prediction(self) -> NDArray[np.int64]:
        """Most probable class of each tile, −1 where the logits are not numbers; [N] int64."""
        unknown = np.isnan(self.scored.confidence())
        return np.where(unknown, -1, self.scored.prediction())

    @property
    def mpp(self) -> tuple[float, float] | None:
        """µm per level-0 pixel, y and x; None where the slide does not say."""
        mpp = self.scored.run.provenance["slide"]["mpp"]
        return (float(mpp[0]), float(mpp[1])) if mpp else None

    @cached_property
    def lattice(self) -> Lattice:
        """Lines between the cells in level-0 pixels of the whole canvas."""
        return Lattice.of(self.scored.run.grid)

    @cached_property
    def flagged(self) -> Mapping[str, NDArray[np.bool_]]:
        """Which tiles are above the threshold, by role; [N] bool each."""
        return {role: self.scored.flagged(threshold) for role, threshold in self.thresholds.items()}

    @cached_property
    def regions(self) -> Mapping[str, tuple[Region, ...]]:
        """Regions of flagged tiles, by role."""
        from napari_ood.analysis.regions import find_regions

        return {
            role: find_regions(self.scored, self.flagged[role], threshold.score)
            for role, threshold in self.thresholds.items()
        }

    def provenance(self) -> dict[str, Any]:
        """JSON-ready record of what was exported and where it comes from."""
        from napari_ood import __version__

        record = self.scored.run.provenance
        keys = ("slide", "bundle", "grid", "warnings", "versions", "created", "sessions")
        return {
            "napari_ood": __version__,
            "run": str(Path(self.scored.run.path).absolute()),
            "scores": dict(self.scores),
            "temperature": float(self.scored.temperature),
            "thresholds": {role: t.as_dict() for role, t in self.thresholds.items()},
            "reviewers": {name: len(given) for name, given in self.verdicts.items()},
            "qupath_origin_xy": [self.origin[1], self.origin[0]],
            **{key: record[key] for key in keys if key in record},
        }


def default_thresholds(scored: ScoredRun) -> dict[str, Threshold]:
    """Thresholds that keep 95 % of in-distribution tiles; without a reference there are none."""
    found = {}
    for role in scored.roles:
        try:
            found[role] = scored.threshold(role)
        except ThresholdError:
            continue
    return found


def qupath_origin(scored: ScoredRun, slide: Slide | None = None) -> tuple[Origin, str | None]:
    """Point that QuPath counts from, in level-0 pixels of the whole canvas, and a note.

    QuPath crops slides that OpenSlide reads to ``openslide.bounds-*``. Newer runs recorded them;
    for older ones the slide is asked. The note says so where neither is at hand.
    """
    record = scored.run.provenance["slide"]
    if "bounds" in record:
        bounds = record["bounds"]
        return ((int(bounds[0]), int(bounds[1])) if bounds else (0, 0)), None
    if slide is not None:
        return origin_of_slide(slide), None
    from napari_ood.slides import open_slide

    try:
        with open_slide(record["path"]) as found:
            return origin_of_slide(found), None
    except (SlideError, OSError):
        return (0, 0), (
            "the slide is not at hand, so it is not known whether QuPath crops it: if outlines lie "
            "beside the tissue, do it again with --slide"
        )


def origin_of_slide(slide: Slide) -> Origin:
    """Point that QuPath counts from on a slide, y and x in level-0 pixels of the whole canvas."""
    from napari_ood.slides.bounds import scanned_bounds

    found = scanned_bounds(slide.metadata)
    return found[:2] if found else (0, 0)
