"""The most foreign regions as pictures, with what was said of them and what they may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from napari_ood.analysis.regions import rank_regions
from napari_ood.errors import SlideError
from napari_ood.explain.causes import NOTHING, UNKNOWN, cause_at, cause_beside
from napari_ood.passport import TileSample, sample_tiles
from napari_ood.slides.tiles import read_tiles

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.export.files import Pieces
    from napari_ood.export.results import Results
    from napari_ood.review.verdicts import Verdict
    from napari_ood.slides import Slide
    from napari_ood.slides.grid import TileGrid

RGB = NDArray[np.uint8]
Box = tuple[float, float, float, float]

N_REGIONS = 12
PICTURE_PX = 360
MARGIN_TILES = 1.0
"""Tissue around a region that its picture shows, in tiles."""
MOST_TILES_WIDE = 16.0
"""A larger region is shown around its peak: zoomed out further, its cells are lost."""
TILES_FOR_CAUSE = 5
SAMPLE_TILES, SAMPLE_SECONDS = 128, 2.0


@dataclass(frozen=True, eq=False)
class RegionCard:
    """A region for the report.

    Attributes
    ----------
    picture : (PICTURE_PX, PICTURE_PX, 3) uint8 with the region's outline, None without the slide
    field : y, x, h, w in level-0 px that the picture shows
    causes : what a rule makes of its pixels; a hint
    verdicts : (reviewer, what they said, comment)
    """

    rank: int
    region: Region
    picture: RGB | None
    field: Box
    scale_um: float | None
    causes: tuple[str, ...]
    verdicts: tuple[tuple[str, str, str], ...]

    @property
    def size(self) -> str:
        """How large it is."""
        n = f"{self.region.n_tiles:,} tile{'s' * (self.region.n_tiles > 1)}"
        return n if self.region.area_mm2 is None else f"{n}, {self.region.area_mm2:.3g} mm²"

    @property
    def place(self) -> str:
        """Where its middle lies, x then y as viewers show it."""
        return f"x {self.region.centre[1]:,.0f}, y {self.region.centre[0]:,.0f} px"


def region_cards(
    results: Results,
    regions: Sequence[Region],
    slide: Slide | None,
    pieces: Pieces,
    n: int = N_REGIONS,
) -> tuple[RegionCard, ...]:
    """Describe the first ``n`` regions, ranked so that they differ from each other."""
    scored = results.scored
    if not regions or scored.card.whole_image:
        return ()
    chosen = rank_regions(regions, "diversity", scored)[:n]
    said = _said(results, chosen)
    looks = _Looks(results, slide, pieces)
    mpp = results.mpp
    cards = []
    for rank, region in enumerate(chosen, start=1):
        field = _field(region, scored.run.grid.tile_size)
        picture = _picture(slide, field)
        if picture is not None:
            picture = _outlined(picture, field, region, scored.run.grid)
        cards.append(
            RegionCard(
                rank,
                region,
                picture,
                field,
                None if mpp is None else field[3] * mpp[1],
                looks.causes(region),
                said.get(region.key, ()),
            )
        )
        pieces.finished()
    return tuple(cards)


def _said(
    results: Results, regions: Sequence[Region]
) -> dict[str, tuple[tuple[str, str, str], ...]]:
    from napari_ood.review.matching import match_verdicts

    out: dict[str, tuple[tuple[str, str, str], ...]] = {}
    for reviewer, verdicts in results.verdicts.items():
        matches = match_verdicts(regions, verdicts)
        for region in regions:
            verdict: Verdict | None = matches.verdict(region)
            if verdict is not None:
                line = (reviewer, verdict.category, verdict.comment)
                out[region.key] = (*out.get(region.key, ()), line)
    return out


def _field(region: Region, tile: tuple[float, float]) -> Box:
    """Square around the region, or around its peak where it is very large; level-0 px."""
    y, x, h, w = region.box
    longest = max(tile)
    side = max(h, w) + 2 * MARGIN_TILES * longest
    centre = region.centre
    if side > MOST_TILES_WIDE * longest:
        side = MOST_TILES_WIDE * longest
        top, left = np.asarray(region.cells).min(axis=0).tolist()
        rows, cols = (np.ptp(np.asarray(region.cells), axis=0) + 1).tolist()
        centre = (
            y + h * (region.peak_cell[0] - top + 0.5) / rows,
            x + w * (region.peak_cell[1] - left + 0.5) / cols,
        )
    return centre[0] - side / 2, centre[1] - side / 2, side, side


def _picture(slide: Slide | None, field: Box) -> RGB | None:
    """The field as a square picture; white outside the slide; None where it cannot be read."""
    if slide is None:
        return None
    try:
        return read_field(slide, field, (PICTURE_PX, PICTURE_PX))
    except SlideError:  # a damaged tile must not cost the report
        return None


def _outlined(picture: RGB, field: Box, region: Region, grid: TileGrid) -> RGB:
    """Draw the edges between the region's tiles and others, black on white."""
    first = region.cells.min(axis=0)
    mask = np.zeros(region.cells.max(axis=0) - first + 3, bool)
    mask[tuple((region.cells - first + 1).T)] = True
    corner = np.array(grid.region[:2]) + first * grid.pitch - field[:2]
    scale = PICTURE_PX / np.array(field[2:])
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    edges = [(r, c, r, c + 1) for r, c in np.argwhere(mask[1:, 1:-1] != mask[:-1, 1:-1])]
    edges += [(r, c, r + 1, c) for r, c in np.argwhere(mask[1:-1, 1:] != mask[1:-1, :-1])]
    ends = np.array(edges, float).reshape(-1, 2, 2) * grid.pitch + corner
    lines = (ends * scale)[..., ::-1].reshape(-1, 4).round().astype(int).tolist()
    for color, width in (("white", 5), ("black", 2)):
        for line in lines:
            draw.line(line, fill=color, width=width)
    return np.asarray(image)


def read_field(slide: Slide, field: Box, size: tuple[int, int]) -> RGB:
    """Read level-0 box ``field`` (y, x, h, w) as a picture of ``size`` (h, w).

    Raises
    ------
    SlideError
        If a tile cannot be decoded.
    """
    y, x, h, w = field
    wanted = min(h / size[0], w / size[1])
    finer = [i for i, d in enumerate(slide.downsamples) if max(d) <= max(wanted, 1.0) * 1.01]
    dy, dx = slide.downsamples[finer[-1]]
    window = (round(y / dy), round(x / dx), max(1, round(h / dy)), max(1, round(w / dx)))
    image = Image.fromarray(slide.read(finer[-1], *window))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX))


class _Looks:
    """What tiles of a slide look like, beside a sample of all of it, which is read on first use."""

    def __init__(self, results: Results, slide: Slide | None, pieces: Pieces) -> None:
        self._scored, self._slide, self._pieces = results.scored, slide, pieces
        self._bundle = results.scored.bundle
        self._sample: TileSample | None = None

    def causes(self, region: Region) -> tuple[str, ...]:
        if self._slide is None:
            return ()
        try:
            if self._sample is None:
                self._sample = sample_tiles(
                    self._slide, self._bundle, SAMPLE_TILES, SAMPLE_SECONDS, self._pieces.cancelled
                )
                self._pieces.look()
            rows, tiles = self._tiles(self._slide, region)
        except SlideError:
            return ()
        beside = self._sample.statistics
        if self._bundle is None:
            found = cause_beside(tiles, beside, self._scored.card)
        else:
            run = self._scored.run
            features = run.features_of(rows) if run.has_features else None
            found = cause_at(self._bundle, tiles, run.logits[rows], features, beside=beside)
        return tuple(name for name in (found.name, *found.also) if name not in (NOTHING, UNKNOWN))

    def _tiles(self, slide: Slide, region: Region) -> tuple[NDArray[np.int64], RGB]:
        """The region's highest tiles: their rows in the run, their pixels [n, t, t, 3]."""
        scores = self._scored.score(region.score)[region.tiles]
        highest = np.argsort(-scores, kind="stable")[:TILES_FOR_CAUSE]
        tiles = read_tiles(slide, self._scored.run.grid, region.cells[highest])
        return region.tiles[highest], tiles
