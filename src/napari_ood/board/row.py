"""What the board knows of one slide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

DONE, UNFINISHED, FAILED, MISSING = "done", "unfinished", "failed", "missing"
"""Outcomes: the run is whole; some of its tiles are missing; the slide failed; no run is there."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class WorstRegion:
    """The region whose tiles lie furthest above the OOD threshold, all together.

    Attributes
    ----------
    box : y, x, h, w in level-0 pixels; may reach beyond the slide
    peak_box : of the tile with the highest score
    n_tiles : tiles
    peak : highest score
    excess : sum over its tiles of score minus threshold, by which regions are compared
    label : class that most of its tiles are predicted to be
    """

    box: Box
    peak_box: Box
    n_tiles: int
    peak: float
    excess: float
    label: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorstRegion:
        """Inverse of ``dataclasses.asdict`` after JSON."""
        boxes = {name: tuple(float(x) for x in data[name]) for name in ("box", "peak_box")}
        return cls(**{**data, **boxes})


@dataclass(frozen=True)
class SlideRow:
    """One slide of a cohort. What is not known is None, never a guess.

    Attributes
    ----------
    name : of the run, by which the slide goes within the cohort
    slide, run : paths; ``slide`` is where the run found it
    outcome : ``done``, ``unfinished``, ``failed`` or ``missing``
    error : one line; also why shares are unknown though there is a run
    n_tiles, n_total : tiles that the run holds, and that it would hold if it were whole
    mm2 : tissue that was run
    ood, appearance, tissue : share of tiles above the score's default threshold, which keeps 95 %
        of in-distribution tiles; 0.05 is to be expected of a slide like those of the training
    uncertainty, uncertainty_95 : mean and 95 % quantile of the uncertainty score
    classes : (class, share of tiles predicted to be it)
    bundle : name of the bundle
    scanner : vendor, model and device
    objective : nominal magnification
    mpp : µm per level-0 pixel
    date, date_source : when it was scanned, ISO 8601, and which field or list says so
    group : of the list of slides
    light : ``green``, ``yellow``, ``red``, by the passport's limits for shares; else ``grey``
    worst : WorstRegion, None where no tile is above the threshold
    report : path of the run's report in HTML, where it lies beside the run
    fingerprint : of the slide
    """

    name: str
    slide: str
    run: str
    outcome: str
    error: str | None = None
    n_tiles: int = 0
    n_total: int | None = None
    mm2: float | None = None
    ood: float | None = None
    appearance: float | None = None
    tissue: float | None = None
    uncertainty: float | None = None
    uncertainty_95: float | None = None
    classes: tuple[tuple[str, float], ...] = ()
    bundle: str | None = None
    scanner: str | None = None
    objective: float | None = None
    mpp: float | None = None
    date: str | None = None
    date_source: str | None = None
    group: str | None = None
    light: str = "grey"
    worst: WorstRegion | None = None
    report: str | None = None
    fingerprint: str | None = None

    @property
    def top_class(self) -> tuple[str, float] | None:
        """The class that most tiles are predicted to be, and its share."""
        return max(self.classes, key=lambda pair: pair[1], default=None)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SlideRow:
        """Inverse of `as_dict`, also after JSON; fields of later versions are passed over."""
        known = {field.name for field in fields(cls)}
        found = {name: value for name, value in data.items() if name in known}
        found["classes"] = tuple((str(name), float(share)) for name, share in found["classes"])
        worst = found.get("worst")
        found["worst"] = None if worst is None else WorstRegion.from_dict(worst)
        return cls(**found)
