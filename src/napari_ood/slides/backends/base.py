"""What every reader gives: an immutable description and one function that reads a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import SlideError

RGB = NDArray[np.uint8]
ZARR_MARKERS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


class UnsupportedError(SlideError):
    """This reader cannot decode the file; another reader may."""


@dataclass(frozen=True)
class Level:
    """One stored resolution: ``shape`` and the codec's ``tile`` shape, both (h, w) in px."""

    shape: tuple[int, int]
    tile: tuple[int, int]


@dataclass(frozen=True)
class SlideInfo:
    """What a reader knows without decoding a pixel.

    Attributes
    ----------
    format
        Name of the file format for people, e.g. ``"Aperio SVS"``.
    reader
        The library that decodes it, e.g. ``"tiff"`` or ``"openslide"``.
    levels
        Stored levels, finest first.
    mpp
        (y, x) in µm per level-0 px; None when the file does not say.
    files
        Files whose bytes make the slide, the most telling first (for the fingerprint).
    """

    format: str
    reader: str
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None
    files: tuple[Path, ...]
    vendor: str = "unknown"
    objective: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Backend(Protocol):
    """A reader of one file. All methods may be called from several threads at once."""

    @property
    def info(self) -> SlideInfo:
        """What the reader knows without decoding a pixel."""
        ...

    @property
    def associated(self) -> Mapping[str, RGB]:
        """Label, macro, thumbnail ...; decoded on item access."""
        ...

    def read(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Return the (h, w, 3) uint8 window; it lies inside the level and is not empty."""
        ...

    def close(self) -> None:
        """Release files; reading afterwards raises SlideError."""
        ...


class LazyImages(Mapping[str, RGB]):
    """Associated images: names are known at once, pixels are decoded on item access only.

    Labels carry patient data, so nothing here may decode an image that nobody asked for.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], RGB]]) -> None:
        self._loaders = dict(loaders)

    def __getitem__(self, name: str) -> RGB:
        load = self._loaders[name]
        try:
            return load()
        except Exception as error:  # codecs raise their own types; the user gets one line
            raise SlideError(f"cannot read the {name} image: {error}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._loaders  # Mapping's own would decode the image

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def __repr__(self) -> str:
        return f"<associated images: {', '.join(self) or 'none'}>"
