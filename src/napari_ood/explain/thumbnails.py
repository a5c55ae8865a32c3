"""Small pictures of a reference's training tiles, kept in the bundle as WebP in one array.

They are tissue of someone's patients: a bundle holds them only where whoever trained it asked for
it, because the licence of the training data allows passing them on.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from napari_ood.errors import BundleError
from napari_ood.models.card import TILES

if TYPE_CHECKING:
    from napari_ood.models import Bundle

RGB = NDArray[np.uint8]

MOST_BYTES = 5_000_000
"""Of all thumbnails of a bundle."""
SIDES_AND_QUALITIES: tuple[tuple[int, int], ...] = (
    *((96, quality) for quality in (80, 70, 60)),
    *((80, quality) for quality in (70, 60)),
    *((64, quality) for quality in (70, 50, 30)),
    *((48, quality) for quality in (50, 20)),
)
"""Side in px and WebP quality, best first. 2,000 tiles of 96 px of lymph-node-he take 8.5 MB at
(96, 80), 6.7 MB at (96, 60), 4.8 MB at (80, 70), where the error (PSNR 32 dB) is that of (96, 70);
JPEG of the same size is 5 dB worse. 1,800 dermoscopic images take 1.7 MB at (96, 80)."""
SAMPLE = 64
"""Tiles from which sizes are foretold before all are written."""
MOST_SIDE = 2048
IMAGES, OFFSETS = "images", "offsets"


def pack_tiles(images: RGB, most_bytes: int = MOST_BYTES) -> dict[str, NDArray[np.generic]]:
    """Make thumbnails, as large and as good as fit.

    Parameters
    ----------
    images : [N, t, t, 3] uint8, the tiles in the order of the reference's ``train_features``
    most_bytes : for all of them

    Returns
    -------
    dict
        Arrays of the extra ``TILES``: ``images``, all WebP files one after the other, uint8, and
        ``offsets`` [N + 1] int64, where each begins.

    Raises
    ------
    BundleError
        If even the smallest don't fit, or this Pillow writes no WebP.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise BundleError(f"thumbnails need tiles [N, t, t, 3] uint8, got {images.shape}")
    if not features.check("webp"):
        raise BundleError("this Pillow writes no WebP: install pillow from PyPI for thumbnails")
    sample = images[:: max(1, len(images) // SAMPLE)]
    for side, quality in SIDES_AND_QUALITIES:
        foretold = np.mean([len(_encoded(tile, side, quality)) for tile in sample])
        if foretold * len(images) > most_bytes:
            continue
        files = [_encoded(tile, side, quality) for tile in images]
        offsets = np.cumsum([0, *map(len, files)], dtype=np.int64)
        if offsets[-1] + offsets.nbytes <= most_bytes:
            return {IMAGES: np.frombuffer(b"".join(files), np.uint8), OFFSETS: offsets}
    raise BundleError(
        f"thumbnails of {len(images):,} tiles don't fit in {most_bytes / 1e6:g} MB: keep fewer "
        "tiles in the reference, or leave the thumbnails out"
    )


class ReferenceTiles:
    """The thumbnails of a bundle, decoded one by one.

    Parameters
    ----------
    bundle : Bundle
        The file is read, and its hash checked, when the first thumbnail is asked for.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._lock = threading.Lock()
        self._data: tuple[bytes, Sequence[int]] | None = None
        self._has = TILES in bundle.card.files

    def __bool__(self) -> bool:
        """Whether the bundle has thumbnails."""
        return self._has

    def __len__(self) -> int:
        return len(self._read()[1]) - 1 if self._has else 0

    def get(self, index: int) -> RGB | None:
        """Thumbnail of a row of the reference's ``train_features``: [h, w, 3] uint8, or None.

        Raises
        ------
        BundleError
            If the file is damaged, or has no such row.
        """
        if not self._has:
            return None
        data, offsets = self._read()
        if not 0 <= index < len(offsets) - 1:
            raise BundleError(f"bundle {self._bundle.name!r} has no thumbnail {index}")
        try:
            file = io.BytesIO(data[offsets[index] : offsets[index + 1]])
            with Image.open(file, formats=["WEBP"]) as image:
                if max(image.size) > MOST_SIDE:
                    raise BundleError(f"{self._place}: thumbnail {index} is too large")
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise BundleError(f"{self._place}: thumbnail {index} is damaged: {error}") from error

    def _read(self) -> tuple[bytes, Sequence[int]]:
        with self._lock:
            if self._data is None:
                self._data = self._checked(self._bundle.arrays(TILES) or {})
            return self._data

    def _checked(self, arrays: dict[str, NDArray[np.generic]]) -> tuple[bytes, Sequence[int]]:
        if not {IMAGES, OFFSETS} <= set(arrays):
            raise BundleError(f"{self._place} holds no thumbnails: download the bundle again")
        images, offsets = arrays[IMAGES], arrays[OFFSETS]
        n = len(self._bundle.require_reference().train_features)
        fits = (
            images.dtype == np.uint8
            and images.ndim == 1
            and offsets.dtype == np.int64
            and offsets.shape == (n + 1,)
            and int(offsets[0]) == 0
            and int(offsets[-1]) == len(images)
            and bool((np.diff(offsets.astype(np.int64)) > 0).all())
        )
        if not fits:
            raise BundleError(f"{self._place} holds thumbnails of other tiles than the reference's")
        return images.tobytes(), offsets.tolist()

    @property
    def _place(self) -> str:
        return str(self._bundle.path / TILES)


def _encoded(tile: RGB, side: int, quality: int) -> bytes:
    image = Image.fromarray(tile)
    if max(image.size) > side:
        share = side / max(image.size)
        width, height = (max(1, round(share * length)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()
