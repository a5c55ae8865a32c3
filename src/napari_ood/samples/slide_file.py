"""Writing a procedural slide: pyramidal OME-TIFF with its truth beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_ood.samples.anatomy import CELL, MPP
from napari_ood.samples.cache import appearing, cache_folder
from napari_ood.samples.foreign import Foreign
from napari_ood.samples.render import Renderer
from napari_ood.samples.section import TISSUES, Section, describe
from napari_ood.samples.truth import Truth, save_truth, truth_path

DRAWING = 1
"""Raised whenever slides are drawn differently, so that a slide in the cache is drawn anew."""

SIZE, SEED = 8192, 2024
"""The sample slide. Its seed is used nowhere else: neither to train nor to choose anything."""

BLOCK = 1024
TILE = 256
SMALLEST_LEVEL = 1024
JPEG_QUALITY = 85

OnDrawing = Callable[[float], None]
"""Told the share of the slide that is drawn, 0–1."""


def synthetic_slide(on_progress: OnDrawing | None = None) -> Path:
    """Path of the procedural sample slide; the first call draws it into the user's cache.

    Parameters
    ----------
    on_progress : callable, optional
        Called with the share that is drawn, 0–1.

    Raises
    ------
    OodError
        If the cache cannot be written.
    """
    path = cache_folder() / f"drawing-{DRAWING}" / "synthetic-he.ome.tif"
    if not (path.is_file() and truth_path(path).is_file()):
        write_synthetic_slide(path, on_progress=on_progress)
    return path


def write_synthetic_slide(
    path: str | Path,
    size: int = SIZE,
    seed: int = SEED,
    foreign: bool = True,
    on_progress: OnDrawing | None = None,
) -> Path:
    """Draw a procedural H&E slide with its truth and write both; either appears whole or not.

    Parameters
    ----------
    path : str or Path
        Where to write the slide, by custom ``NAME.ome.tif``; the truth is
        ``NAME.truth.ome.tif`` beside it.
    size : int
        Side, px of 0.5 µm; a multiple of 16, at least 1,024.
    seed : int
        Seed of everything drawn by chance: the same arguments give the same pixels.
    foreign : bool
        Plant foreign regions.
    on_progress : callable, optional
        Called with the share that is drawn, 0–1.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If ``size`` does not fit.
    OodError
        If the file cannot be written.
    """
    if size < 1024 or size % 16:
        raise ValueError(f"size must be a multiple of 16 and at least 1,024 px, got {size}")
    path = Path(path)
    section = describe(size, seed, foreign)
    pixels = draw(section, on_progress)
    with appearing(truth_path(path)) as temporary:
        save_truth(temporary, truth_of(section))
    with appearing(path) as temporary:
        _write_pyramid(temporary, pixels)
    return path


def draw(section: Section, on_progress: OnDrawing | None = None) -> NDArray[np.uint8]:
    """Draw a whole section; ``(size, size, 3)`` uint8."""
    size = section.size
    pixels = np.empty((size, size, 3), np.uint8)
    renderer = Renderer(section)

    def block(y: int, x: int) -> None:
        h, w = min(BLOCK, size - y), min(BLOCK, size - x)
        pixels[y : y + h, x : x + w] = renderer.box(y, x, h, w)

    starts = [(y, x) for y in range(0, size, BLOCK) for x in range(0, size, BLOCK)]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        blocks = [pool.submit(block, y, x) for y, x in starts]
        try:
            for n, done in enumerate(as_completed(blocks), start=1):
                done.result()
                if on_progress is not None:
                    on_progress(n / len(blocks))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return pixels


def truth_of(section: Section) -> Truth:
    """Truth of a section, on its coarse grid."""
    label = section.planted.label
    return Truth(
        foreign=label,
        tissue=section.tissue,
        mpp=MPP * CELL,
        downsample=float(CELL),
        kinds={int(k): k.name.lower() for k in Foreign if k is not Foreign.NONE},
        classes=dict(enumerate(TISSUES, start=1)),
    )


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    h, w = pixels.shape[0] // 2, pixels.shape[1] // 2
    quads = pixels[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3)
    return np.asarray((quads.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4, np.uint8)


def _write_pyramid(path: Path, pixels: NDArray[np.uint8]) -> None:
    levels = [pixels]
    while max(levels[-1].shape[:2]) > SMALLEST_LEVEL:
        levels.append(_halved(levels[-1]))
    with tifffile.TiffWriter(path, ome=True) as tif:
        for k, level in enumerate(levels):
            mpp = MPP * 2**k
            tif.write(
                level,
                photometric="rgb",
                tile=(TILE, TILE),
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                subfiletype=int(k > 0),
                subifds=None if k else len(levels) - 1,
                metadata=_metadata() if k == 0 else None,
            )


def _metadata() -> dict[str, object]:
    return {
        "axes": "YXS",
        "Name": "synthetic-he",
        "Description": "Procedural H&E drawn by napari-ood; shows no real tissue.",
        "PhysicalSizeX": MPP,
        "PhysicalSizeY": MPP,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeYUnit": "µm",
    }
