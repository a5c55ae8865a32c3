"""The maps of a run as channels of one image, one pixel per tile, with their place on the slide."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_ood.export.results import Results

SMALLEST_LEVEL_PX = 256
"""Levels are added until both sides are at most this long."""

_COLORS = {"uncertainty": "F16913", "ood": "35B779", "appearance": "21918C", "tissue": "9FDA3A"}
_OTHER = "AAAAAA"
Pair = tuple[float, float]


@dataclass(frozen=True)
class Channel:
    """One map.

    Attributes
    ----------
    name : str
    color : ``RRGGBB``
    limits : values that are to be shown darkest and brightest
    whole : whether values are names (classes), between which there is nothing
    """

    name: str
    color: str
    limits: Pair
    whole: bool = False


@dataclass(frozen=True, eq=False)
class MapStack:
    """Maps of one run.

    Attributes
    ----------
    name : str
    channels : C
    values : (C, rows, cols) float32, NaN where no tile was run
    pixel : height and width of a pixel, µm or level-0 px
    centre : y, x of the middle of the first pixel, from the middle of the slide's first pixel
    unit : ``micrometer`` or ``pixel``
    """

    name: str
    channels: tuple[Channel, ...]
    values: NDArray[np.float32]
    pixel: Pair
    centre: Pair
    unit: str

    @classmethod
    def of(cls, results: Results) -> MapStack:
        """Predicted class (1 is the first; 0 none), a probability per class, a score per role."""
        scored, run = results.scored, results.scored.run
        card, n = scored.card, len(scored.classes)
        probability = scored.probabilities()
        first = Channel("predicted class", "FFFFFF", (0.0, float(n)), True)
        maps: list[tuple[Channel, NDArray[Any]]] = [(first, results.prediction + 1)]
        for i, (label, color) in enumerate(zip(scored.classes, card.colors, strict=True)):
            channel = Channel(f"probability {label}", color.lstrip("#").upper(), (0.0, 1.0))
            maps.append((channel, probability[:, i]))
        for role, score in results.scores.items():
            values = scored.score(score)
            channel = Channel(role, _COLORS.get(role, _OTHER), _limits(results, score, values))
            maps.append((channel, values))
        grid = run.grid
        scale = np.array(results.mpp or (1.0, 1.0))
        pixel = np.array(grid.pitch) * scale
        # As the overlays lie: a pixel is as large as the stride and on the centre of its tile.
        centre = (np.array(grid.region[:2]) + np.array(grid.tile_size) / 2 - 0.5) * scale
        return cls(
            results.name,
            tuple(channel for channel, _ in maps),
            np.stack([
                run.on_grid(np.asarray(values, np.float32), np.float32(np.nan))
                for _, values in maps
            ]),
            (float(pixel[0]), float(pixel[1])),
            (float(centre[0]), float(centre[1])),
            "micrometer" if results.mpp else "pixel",
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form of all but the values."""
        return {
            "name": self.name,
            "channels": [asdict(channel) for channel in self.channels],
            "pixel": list(self.pixel),
            "centre": list(self.centre),
            "unit": self.unit,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], values: NDArray[np.float32]) -> MapStack:
        """Inverse of :meth:`as_dict`; KeyError, TypeError or ValueError for anything else."""
        channels = tuple(
            Channel(str(c["name"]), str(c["color"]), _pair(c["limits"]), bool(c["whole"]))
            for c in data["channels"]
        )
        if values.ndim != 3 or len(values) != len(channels):
            raise ValueError(f"{len(channels)} channels in an array of {values.shape}")
        place = _pair(data["pixel"]), _pair(data["centre"])
        return cls(str(data["name"]), channels, values, *place, str(data["unit"]))

    def levels(self) -> list[NDArray[np.float32]]:
        """The pyramid, finest first, each half as large: means of what is there, classes picked."""
        whole = np.array([channel.whole for channel in self.channels])
        levels = [self.values]
        while max(levels[-1].shape[1:]) > SMALLEST_LEVEL_PX:
            levels.append(_halved(levels[-1], whole))
        return levels

    def place(self, level: int) -> tuple[Pair, Pair]:
        """Pixel size and centre of the first pixel of a level, y and x."""
        factor = 2**level
        (h, w), (y, x) = self.pixel, self.centre
        shift = (factor - 1) / 2
        return (h * factor, w * factor), (y + shift * h, x + shift * w)


def _pair(numbers: Any) -> Pair:
    first, second = numbers
    return float(first), float(second)


def _limits(results: Results, score: str, values: NDArray[np.float32]) -> Pair:
    """The overlays' range where there is a reference, else what occurs."""
    reference = results.scored.reference
    if reference is not None:
        low, high = reference.display_range(score)
        return float(low), float(high)
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _halved(values: NDArray[np.float32], whole: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of each 2 × 2 pixels that are no NaN; of ``whole`` channels the first that is none."""
    _, h, w = values.shape
    padded = np.pad(values, ((0, 0), (0, h % 2), (0, w % 2)), constant_values=np.nan)
    quads = padded.reshape(len(values), (h + 1) // 2, 2, (w + 1) // 2, 2)
    quads = quads.transpose(0, 1, 3, 2, 4).reshape(len(values), (h + 1) // 2, (w + 1) // 2, 4)
    known = np.isfinite(quads)
    count = known.sum(axis=-1)
    total = np.where(known, quads, 0).sum(axis=-1, dtype=np.float64)
    means = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    first = np.take_along_axis(quads, known.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(whole[:, None, None], first, means).astype(np.float32)
