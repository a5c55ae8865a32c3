"""Which pages of a TIFF are the levels of the slide, and which are associated images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import tifffile

from napari_ood.errors import SlideError
from napari_ood.slides.backends.tiff_meta import ome_images

MAX_PAGES = 1024
MAX_SIDE = 2**31 - 1
Page = tifffile.TiffPage


@dataclass(frozen=True)
class Layout:
    """The pages of a slide: ``levels`` finest first, ``associated`` by name, OME attributes."""

    levels: tuple[Page, ...]
    associated: dict[str, Page] = field(default_factory=dict)
    ome: dict[str, str] = field(default_factory=dict)


def same_field(base: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tell whether ``other`` (h, w) can be ``base`` shrunk by one factor, up to 1 px rounding."""
    if min(other) < 1 or other[0] >= base[0] or other[1] >= base[1]:
        return False
    (h0, w0), (h, w) = base, other
    low = max(h0 / (h + 1), w0 / (w + 1))
    high = min(h0 / max(h - 1, 0.5), w0 / max(w - 1, 0.5))
    return low <= high


def shape_of(page: Page) -> tuple[int, int]:
    """Return (h, w) of a page."""
    return int(page.imagelength), int(page.imagewidth)


def tiff_layout(tif: tifffile.TiffFile) -> Layout:
    """Sort the pages of an open TIFF.

    Raises
    ------
    SlideError
        When the file holds several images of equal rank (z-stack, time series, channels).
    """
    if tif.is_ome:
        layout = _ome_layout(tif)
        if layout is not None:
            return layout
    pages = _main_pages(tif)
    if pages[0].description.startswith("Aperio"):
        return _aperio_layout(pages)
    return _generic_layout(pages)


def _main_pages(tif: tifffile.TiffFile) -> list[Page]:
    tif.pages.useframes = False
    pages = [page for page in islice(iter(tif.pages), MAX_PAGES) if isinstance(page, Page)]
    if not pages:
        raise SlideError("it holds no image: it is empty or truncated; copy it again")
    return pages


def _check_single_plane(page: Page) -> None:
    if int(page.imagedepth) > 1:
        raise SlideError(f"it is a volume of {page.imagedepth} planes; export one plane")


def _pyramid(base: Page, candidates: Iterable[Page]) -> tuple[list[Page], list[Page]]:
    """Split candidates into the coarser levels of ``base`` and the rest."""
    _check_single_plane(base)
    levels: dict[tuple[int, int], Page] = {}
    rest = []
    for page in candidates:
        fits = (
            same_field(shape_of(base), shape_of(page))
            and page.samplesperpixel == base.samplesperpixel
            and page.dtype == base.dtype
            and (page.is_tiled or not base.is_tiled)  # a striped page beside tiles: a thumbnail
        )
        if fits and shape_of(page) not in levels:
            levels[shape_of(page)] = page
        else:
            rest.append(page)
    return [base, *(levels[s] for s in sorted(levels, reverse=True))], rest


def _sub_pages(page: Page) -> list[Page]:
    if not page.subifds or page.pages is None:
        return []
    return [sub for sub in islice(iter(page.pages), MAX_PAGES) if isinstance(sub, Page)]


def _generic_layout(pages: list[Page]) -> Layout:
    base = max(pages, key=lambda page: shape_of(page)[0] * shape_of(page)[1])
    others = [page for page in pages if page is not base]
    twins = [page for page in others if shape_of(page) == shape_of(base)]
    if twins:
        raise SlideError(
            f"it holds {len(twins) + 1} images of the same size (z-stack, time series or "
            "channels); export one of them, or an RGB merge"
        )
    levels, rest = _pyramid(base, [*others, *_sub_pages(base)])
    named = {f"image {i}": page for i, page in enumerate(rest, start=1)}
    return Layout(tuple(levels), named)


def _aperio_layout(pages: list[Page]) -> Layout:
    base = pages[0]
    tiled = [page for page in pages[1:] if page.is_tiled and not int(page.subfiletype) & 1]
    if any(shape_of(page) == shape_of(base) for page in tiled):
        raise SlideError("it is a stack of focal planes; export one plane")
    levels, rest = _pyramid(base, tiled)
    associated: dict[str, Page] = {}
    for page in [*(p for p in pages[1:] if p not in tiled), *rest]:
        associated.setdefault(_aperio_name(page), page)
    return Layout(tuple(levels), associated)


def _aperio_name(page: Page) -> str:
    second_line = page.description.partition("\n")[2]
    for name in ("label", "macro"):
        if second_line.startswith(name):
            return name
    return {1: "label", 9: "macro"}.get(int(page.subfiletype), "thumbnail")


def _ome_layout(tif: tifffile.TiffFile) -> Layout | None:
    """Layout from the OME-XML, which alone says what the planes are; None when unusable."""
    series = [s for s in tif.series if s.kind == "ome" and len(s.shape) >= 2]
    if not series:
        return None
    sizes = [dict(zip(s.axes, s.shape, strict=True)) for s in series]
    areas = [size.get("Y", 1) * size.get("X", 1) for size in sizes]
    main = areas.index(max(areas))
    _check_ome_axes(sizes[main])
    levels = [_plane(level) for level in series[main].levels]
    base, *coarser = levels
    levels, _ = _pyramid(base, [*coarser, *(_sub_pages(base) if not coarser else [])])
    associated = {}
    for index, other in enumerate(series):
        if index != main and sizes[index].keys() <= {"Y", "X", "S"}:
            associated[other.name or f"image {index}"] = _plane(other)
    images = ome_images(tif.pages.first.description)
    return Layout(tuple(levels), associated, images[main] if main < len(images) else {})


def _plane(series: tifffile.TiffPageSeries) -> Page:
    page = series.pages[0]
    if page is None:
        raise SlideError("its OME-XML names planes that the file does not hold: it is damaged")
    return page.aspage()


def _check_ome_axes(sizes: dict[str, int]) -> None:
    names = {"Z": "focal planes", "T": "time points", "C": "channels"}
    extra = {axis: n for axis, n in sizes.items() if axis not in "YXS" and n > 1}
    if extra:
        told = ", ".join(
            f"{n} {names.get(axis, f'planes along {axis}')}" for axis, n in extra.items()
        )
        raise SlideError(f"it holds {told}; export one plane, or an RGB merge of the channels")
