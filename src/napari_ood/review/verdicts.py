"""Verdicts: what a reviewer says about a region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import ReviewError
from napari_ood.review.cells import Cell, Cells

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region


class Kind(StrEnum):
    """What a verdict says."""

    AGREE = "agree"
    WRONG_CLASS = "wrong class"
    ARTEFACT = "artefact"
    UNKNOWN_TISSUE = "unknown tissue"
    SKIP = "skip"


class Artefact(StrEnum):
    """Kinds of artefact."""

    PEN = "pen"
    FOLD = "fold"
    BLUR = "blur"
    BUBBLE = "bubble"
    OTHER = "other"


@dataclass(frozen=True)
class Verdict:
    """What a reviewer says about a region, with all that is needed to find the place again.

    Attributes
    ----------
    region_key : row and column of the region's peak, ``Region.key``
    box : y, x, h, w of the region in level-0 pixels
    tiles : Cells, row and column, on the run's grid, of each of the region's tiles
    kind : Kind
    label : the right class, of WRONG_CLASS only
    artefact : Artefact, of ARTEFACT only
    comment : free text
    reviewer : name
    time : ISO 8601, UTC
    score : name of the score that brought the region up; None if none did
    threshold : its threshold then
    prediction : class that the model predicts for most of the tiles
    """

    region_key: str
    box: tuple[float, float, float, float]
    tiles: Sequence[Cell]
    kind: Kind
    label: str | None = None
    artefact: Artefact | None = None
    comment: str = ""
    reviewer: str = ""
    time: str = ""
    score: str | None = None
    threshold: float | None = None
    prediction: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tiles, Cells):
            object.__setattr__(self, "tiles", Cells(self.tiles))
        kind = Kind(self.kind)
        object.__setattr__(self, "kind", kind)
        if self.artefact is not None:
            object.__setattr__(self, "artefact", Artefact(self.artefact))
        if (kind is Kind.WRONG_CLASS) != bool(self.label):
            raise ReviewError(
                "“wrong class” needs the class that is right, other verdicts have none"
            )
        if (kind is Kind.ARTEFACT) != (self.artefact is not None):
            raise ReviewError("“artefact” needs the kind of artefact, other verdicts have none")
        if self.label is not None and self.label == self.prediction:
            raise ReviewError(
                f"the model predicts {self.label!r} here as well: agree, or choose another class"
            )

    @classmethod
    def of(
        cls,
        region: Region,
        kind: Kind,
        *,
        reviewer: str,
        threshold: float | None = None,
        label: str | None = None,
        artefact: Artefact | None = None,
        comment: str = "",
    ) -> Self:
        """Judge a region, now.

        Raises
        ------
        ReviewError
            If WRONG_CLASS comes without a label or with the one that the model predicts, or
            ARTEFACT without its kind.
        """
        return cls(
            region.key, region.box, Cells(region.cells), kind, label, artefact,
            comment, reviewer, now(), region.score, threshold, region.label,
        )  # fmt: skip

    @property
    def key(self) -> str:
        """The region's key, as ``Region.key``."""
        return self.region_key

    @property
    def peak_cell(self) -> Cell:
        """Row and column of the region's peak."""
        row, col = self.region_key.split("-")
        return int(row), int(col)

    @property
    def cells(self) -> NDArray[np.int64]:
        """Row and column of each tile, row by row; [K, 2] int64, read-only."""
        return cast(Cells, self.tiles).array

    @property
    def category(self) -> str:
        """Kind with its detail, such as ``artefact: pen``."""
        detail = self.label or self.artefact
        return f"{self.kind}: {detail}" if detail else str(self.kind)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form; tiles as runs of row, first column, number of tiles."""
        threshold = self.threshold
        if threshold is not None and not math.isfinite(threshold):
            threshold = str(threshold)  # type: ignore[assignment]  # JSON knows no infinity
        return {
            "region": self.region_key,
            "box": list(self.box),
            "runs": cast(Cells, self.tiles).runs(),
            "kind": str(self.kind),
            "label": self.label,
            "artefact": None if self.artefact is None else str(self.artefact),
            "comment": self.comment,
            "reviewer": self.reviewer,
            "time": self.time,
            "score": self.score,
            "threshold": threshold,
            "prediction": self.prediction,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`as_dict`.

        Raises
        ------
        ReviewError
            If it is no verdict.
        """
        try:
            y, x, h, w = map(float, data["box"])
            tiles, threshold = Cells.from_runs(data["runs"]), data["threshold"]
            verdict = cls(
                str(data["region"]), (y, x, h, w), tiles, Kind(data["kind"]), data["label"],
                data["artefact"], data["comment"], data["reviewer"], data["time"], data["score"],
                None if threshold is None else float(threshold), data["prediction"],
            )  # fmt: skip
            _ = verdict.peak_cell
        except (KeyError, TypeError, ValueError) as error:
            raise ReviewError(
                f"a line of the review is no verdict ({type(error).__name__}: {error}): remove it, "
                "or choose another folder"
            ) from error
        return verdict


def now() -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
