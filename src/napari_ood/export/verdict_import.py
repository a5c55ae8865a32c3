"""Annotations as verdicts: what a reviewer drew or classified in QuPath."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import ExportError, ReviewError
from napari_ood.export.classes import DESCRIPTION, judged, verdict_names
from napari_ood.export.geojson_import import tiles_inside
from napari_ood.export.outline import Lattice
from napari_ood.review.verdicts import Artefact, Kind, Verdict, now

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export.geojson_import import Annotation

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ImportedVerdicts:
    """Verdicts, and annotations that are none, with the reason in words."""

    verdicts: tuple[Verdict, ...]
    passed_over: tuple[str, ...] = ()


def as_verdicts(
    annotations: Iterable[Annotation],
    scored: ScoredRun,
    reviewer: str | None = None,
    time: str | None = None,
) -> ImportedVerdicts:
    """Read annotations as verdicts on the tiles that lie in them.

    The classification decides: a class of the bundle says what the tissue is (agreement, or wrong
    class), ``Artefact`` with its kind, ``Unknown tissue`` and ``Skipped`` say the same as in the
    review. Verdicts that were exported come back as they were; where the classification was changed
    in QuPath, it is a new verdict. Exported predictions are no verdicts.

    Parameters
    ----------
    annotations : iterable of Annotation
    scored : ScoredRun, whose tiles they lie on
    reviewer : whose verdicts those are that were drawn or changed in QuPath; by default whose they
        were when exported. Unchanged ones stay whose they were.
    time : ISO 8601, when those were given; by default now

    Raises
    ------
    ExportError
        If none of them is a verdict.
    """
    reader = _Reader(scored, reviewer, time or now())
    verdicts, passed_over = [], []
    for annotation in annotations:
        try:
            verdicts.append(reader.read(annotation))
        except ReviewError as error:
            passed_over.append(f"{annotation.title}: {error}")
    if not verdicts:
        why = f" ({passed_over[0]})" if passed_over else ""
        raise ExportError(f"no annotation is a verdict on this run{why}: classify them")
    return ImportedVerdicts(tuple(verdicts), tuple(passed_over))


class _Reader:
    def __init__(self, scored: ScoredRun, reviewer: str | None, time: str) -> None:
        self._scored, self._reviewer, self._time = scored, reviewer, time
        self._lattice = Lattice.of(scored.run.grid)
        self._position = scored.on_grid(np.arange(len(scored.index)), -1)
        self._keys: set[tuple[str, str]] = set()

    def read(self, annotation: Annotation) -> Verdict:
        told = dict(annotation.metadata or {})
        if told.get("napari-ood") == "prediction":
            raise ReviewError("it is an exported prediction")
        cells = tiles_inside(annotation.outline, self._lattice)
        tiles = self._position[tuple(cells.T)]
        cells, tiles = cells[tiles >= 0], tiles[tiles >= 0]
        if not len(cells):
            raise ReviewError("the middle of no finished tile lies in it")
        prediction = told.get("predicted class") or self._majority(tiles)
        kind, label, artefact, unchanged = _said(annotation, told, self._scored.classes, prediction)
        exported_by, given = told.get("reviewer"), self._reviewer
        reviewer = (exported_by or given) if unchanged else (given or exported_by)
        if not reviewer:
            raise ReviewError("it does not say whose verdict it is: name the reviewer")
        score, threshold = told.get("score"), told.get("threshold value")
        return Verdict(
            self._key(told, reviewer, cells, tiles),
            self._box(cells),
            tuple(map(_cell, cells.tolist())),
            kind,
            label,
            artefact,
            told.get(DESCRIPTION, ""),
            reviewer,
            (unchanged and told.get("time")) or self._time,
            score,
            None if threshold is None else float(threshold),
            prediction,
        )

    def _majority(self, tiles: Ints) -> str:
        counts = np.bincount(self._scored.prediction()[tiles], minlength=1)
        return self._scored.classes[int(counts.argmax())]

    def _box(self, cells: Ints) -> tuple[float, float, float, float]:
        grid = self._scored.run.grid
        first, last = grid.boxes([cells.min(axis=0), cells.max(axis=0)])
        y, x = first[:2].tolist()
        h, w = (last[:2] + last[2:] - first[:2]).tolist()
        return y, x, h, w

    def _key(self, told: dict[str, str], reviewer: str, cells: Ints, tiles: Ints) -> str:
        """The key it was exported with if its peak is still inside, else that of its own peak.

        A key that another annotation took is left to that one: no verdict replaces another.
        """
        role = next(iter(self._scored.roles), None)
        ranked = cells
        if role is not None:
            values = np.nan_to_num(self._scored.score(role)[tiles], nan=-np.inf)
            ranked = cells[np.argsort(-values, kind="stable")]
        keys = [f"{row}-{col}" for row, col in ranked.tolist()]
        if told.get("region") in keys:
            keys.insert(0, told["region"])
        key = next((k for k in keys if (reviewer, k) not in self._keys), keys[0])
        self._keys.add((reviewer, key))
        return key


def _cell(cell: list[int]) -> tuple[int, int]:
    return cell[0], cell[1]


def _said(
    annotation: Annotation, told: dict[str, str], classes: tuple[str, ...], prediction: str
) -> tuple[Kind, str | None, Artefact | None, bool]:
    """Kind, label and artefact, and whether they are what was exported."""
    exported = _exported(told)
    if exported is not None:
        kind, label, artefact = exported
        before = Verdict("0-0", (0, 0, 0, 0), (), kind, label, artefact, prediction=prediction)
        if annotation.names == verdict_names(before):
            return kind, label, artefact, True
    found = judged(annotation.names, classes, prediction)
    if found is None:
        named = f"{': '.join(annotation.names)!r} is" if annotation.names else "it has"
        raise ReviewError(
            f"{named} no class of the bundle ({', '.join(classes)}), artefact, unknown tissue or "
            "skipped"
        )
    return (*found, False)


def _exported(told: dict[str, str]) -> tuple[Kind, str | None, Artefact | None] | None:
    """What the verdict was when it was exported, None if it was none."""
    if told.get("napari-ood") != "verdict":
        return None
    kind, _, detail = told.get("verdict", "").partition(": ")
    try:
        found = Kind(kind)
        artefact = Artefact(detail) if found is Kind.ARTEFACT else None
    except ValueError:
        return None
    return found, detail if found is Kind.WRONG_CLASS else None, artefact
