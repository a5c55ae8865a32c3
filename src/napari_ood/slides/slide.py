"""A slide: one opened image as a lazy pyramid of RGB levels, with its µm per pixel."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, Backend, Level
from napari_ood.slides.backends.choose import open_backend
from napari_ood.slides.coarse import CoarseLevels

if TYPE_CHECKING:
    import dask.array as da

_SUFFIXES = (
    ".ome.zarr.zip", ".zarr.zip", ".ome.zarr", ".ome.tiff", ".ome.tif", ".ome.btf", ".zarr",
    ".tiff", ".tif", ".btf", ".svs", ".ndpi", ".ndpis", ".mrxs", ".scn", ".bif", ".vms", ".vmu",
    ".czi", ".svslide", ".qptiff", ".dcm", ".dicom", ".png", ".jpeg", ".jpg", ".webp", ".bmp",
)  # fmt: skip
SYNTHESISED_TILE_PX = 512
CHEAP_OVERVIEW_MEGAPIXELS = 100
_SAMPLE_BYTES = 65536
_N_SAMPLES = 16


class Slide:
    """One opened image; make it with `open_slide`.

    Pixels are (y, x, 3) uint8 RGB. Reading is safe from any number of threads.

    Attributes
    ----------
    path : Path
        The file or folder.
    name : str
        Its name without suffixes such as ``.svs`` or ``.ome.tif``.
    format, reader, vendor : str
        The file format, the library that decodes it, and who made the scanner.
    objective : float or None
        Nominal magnification.
    mpp : tuple of float or None
        (y, x) in µm per level-0 px; None when the file does not say and nobody gave one.
    downsamples : tuple of (float, float)
        Per level (y, x): level-0 px per px of this level; fractional.
    n_native : int
        ``levels[:n_native]`` are stored in the file, the rest are synthesised for display.
    metadata : dict of str
        What the file says about itself.
    warnings : tuple of str
        What a user should know before trusting the picture.
    """

    def __init__(
        self, path: Path, backend: Backend, mpp: tuple[float, float] | None = None
    ) -> None:
        info = backend.info
        self._backend = backend
        self._given_mpp = mpp
        self.path = path
        self.name = slide_name(path)
        self.format, self.reader, self.vendor = info.format, info.reader, info.vendor
        self.objective = info.objective
        self.mpp = mpp or info.mpp
        self.n_native = len(info.levels)
        self._coarse = CoarseLevels(self._read_coarsest_native, info.levels[-1])
        self._levels = (*info.levels, *self._synthesised())
        source = "given" if mpp else "file" if info.mpp else "missing"
        self.metadata = {**info.metadata, "mpp.source": source}
        self.warnings = (
            *info.warnings,
            *_mpp_warnings(info.mpp, mpp),
            *_cost_warnings(info.levels[-1]),
        )

    @cached_property
    def levels(self) -> tuple[da.Array, ...]:
        """Lazy (y, x, 3) uint8 arrays, finest first; the last is ≤ 2,048 px on its longer side."""
        # dask takes as long to import as numpy and scipy together, and only who shows the slide
        # needs it.
        from napari_ood.slides.pyramid import lazy_level

        return tuple(lazy_level(self.read, i, level) for i, level in enumerate(self._levels))

    @cached_property
    def downsamples(self) -> tuple[tuple[float, float], ...]:
        """Per level (y, x): level-0 px per px of this level."""
        (h0, w0), native = self.shape, self._levels[: self.n_native]
        stored = [(h0 / level.shape[0], w0 / level.shape[1]) for level in native]
        dy, dx = stored[-1]
        return (*stored, *((dy * f, dx * f) for f in self._coarse.factors))

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of level 0."""
        return self._backend.info.levels[0].shape

    @property
    def associated(self) -> Mapping[str, RGB]:
        """Label, macro, thumbnail ...: names are known, pixels are decoded on item access."""
        return self._backend.associated

    def block_shape(self, level: int) -> tuple[int, int]:
        """Return the shape (h, w) of blocks that read fastest when aligned with its multiples.

        It is the codec's tile, or several of them where they are small, or part of one where it
        is larger than a block should be (e.g. strips as wide as the slide); always 128 to 2,048.
        """
        self._check_level(level)
        h, w = self._levels[level].tile
        return _block_side(h), _block_side(w)

    def read(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Read a window in px of ``level``; what lies outside the slide is white.

        Parameters
        ----------
        level
            Index into ``levels``.
        y, x
            Upper left corner; may be negative or beyond the slide.
        h, w
            Size, ≥ 0.

        Returns
        -------
        (h, w, 3) uint8, the caller's own.

        Raises
        ------
        SlideError
            For a level or size that does not exist, or when a tile cannot be decoded.
        """
        self._check_level(level)
        if h < 0 or w < 0:
            raise SlideError(f"cannot read a window of {h} x {w} px; give sizes of 0 or more")
        height, width = self._levels[level].shape
        y0, y1 = max(y, 0), min(y + h, height)
        x0, x1 = max(x, 0), min(x + w, width)
        if y0 >= y1 or x0 >= x1:
            return np.full((h, w, 3), 255, np.uint8)
        inside = self._read_inside(level, y0, x0, y1 - y0, x1 - x0)
        if inside.shape[:2] == (h, w):
            return inside
        out = np.full((h, w, 3), 255, np.uint8)
        out[y0 - y : y1 - y, x0 - x : x1 - x] = inside
        return out

    def overview(self) -> RGB:
        """Read the coarsest level whole, ≤ 2,048 px on its longer side: (h, w, 3) uint8."""
        coarsest = len(self._levels) - 1
        return self.read(coarsest, 0, 0, *self._levels[coarsest].shape)

    def _read_inside(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        if level >= self.n_native:
            return self._coarse.read(level - self.n_native, y, x, h, w)
        try:
            return self._backend.read(level, y, x, h, w)
        except Exception as error:  # codecs raise their own types; the user gets one line
            raise SlideError(
                f"{self.path.name}: cannot read level {level} at y={y}, x={x} ({h} x {w} px): "
                f"{error}"
            ) from error

    def _read_coarsest_native(self, y: int, x: int, h: int, w: int) -> RGB:
        return self._read_inside(self.n_native - 1, y, x, h, w)

    def _synthesised(self) -> list[Level]:
        shapes = [self._coarse.shape(k) for k in range(len(self._coarse.factors))]
        return [Level(shape, (SYNTHESISED_TILE_PX, SYNTHESISED_TILE_PX)) for shape in shapes]

    def _check_level(self, level: int) -> None:
        if not 0 <= level < len(self._levels):
            raise SlideError(
                f"{self.path.name} has levels 0 to {len(self._levels) - 1}, not {level}"
            )

    def fingerprint(self) -> str:
        """Return a sha256 over sizes and samples of the file(s); fast for any size.

        Samples are the first and last 64 KiB and 14 pieces between them, per file.
        """
        digest = hashlib.sha256()
        for file in self._backend.info.files:
            _digest_file(digest, file)
        return digest.hexdigest()

    def close(self) -> None:
        """Release the file; reading afterwards raises SlideError."""
        self._backend.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return open_slide, (self.path, self._given_mpp)

    def __repr__(self) -> str:
        h, w = self.shape
        scale = "mpp unknown" if self.mpp is None else f"{self.mpp[1]:.4g} µm/px"
        levels = f"{self.n_native} stored level{'s' * (self.n_native > 1)}"
        return f"<Slide {self.name!r}: {w} x {h} px, {levels}, {scale}, {self.format}>"


def _digest_file(digest: hashlib._Hash, file: Path) -> None:
    size = file.stat().st_size
    digest.update(f"{file.name}\0{size}\0".encode())
    last = max(size - _SAMPLE_BYTES, 0)
    with file.open("rb") as stream:
        for offset in sorted({last * i // (_N_SAMPLES - 1) for i in range(_N_SAMPLES)}):
            stream.seek(offset)
            digest.update(stream.read(_SAMPLE_BYTES))


def _block_side(tile: int) -> int:
    if tile < 128:
        return math.ceil(256 / tile) * tile
    return tile if tile <= 2048 else 512


def _cost_warnings(coarsest: Level) -> tuple[str, ...]:
    megapixels = coarsest.shape[0] * coarsest.shape[1] / 1e6
    if megapixels <= CHEAP_OVERVIEW_MEGAPIXELS:
        return ()
    return (f"the file stores no overview: the first display decodes all {megapixels:,.0f} Mpx",)


def _mpp_warnings(
    stored: tuple[float, float] | None, given: tuple[float, float] | None
) -> tuple[str, ...]:
    if given is None and stored is None:
        return ("the file does not say its µm per pixel; give it with --mpp",)
    if given is None or stored is None or np.allclose(given, stored, rtol=0.01):
        return ()
    return (
        f"mpp {given[1]:.4g} was given; the file says {stored[1]:.4g} µm/px, which is not used",
    )


def slide_name(path: Path) -> str:
    """Return the file or folder name without its known suffixes."""
    name = path.name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _checked_mpp(mpp: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if mpp is None:
        return None
    y, x = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
    if not (0 < y < 1000 and 0 < x < 1000):
        raise SlideError(f"mpp {mpp} is no µm per pixel; give a number such as 0.5")
    return float(y), float(x)


def open_slide(
    path: str | os.PathLike[str], mpp: float | tuple[float, float] | None = None
) -> Slide:
    """Open a slide lazily, whatever its format and size.

    Parameters
    ----------
    path
        A file, or the folder of a DICOM slide or an OME-Zarr.
    mpp
        µm per level-0 px, one number or (y, x), for files that do not say or say it wrong.

    Raises
    ------
    SlideError
        When it is no slide, is damaged, or has no sensible reading as colour.
    """
    given = _checked_mpp(mpp)
    resolved = Path(path).expanduser().absolute()
    return Slide(resolved, open_backend(resolved), given)
