"""How the samples of a TIFF page become RGB uint8, or why they cannot."""

from __future__ import annotations

from functools import partial

import numpy as np
import tifffile

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, UnsupportedError
from napari_ood.slides.backends.pixels import Converter, Samples, scale_to_uint8, to_rgb
from napari_ood.slides.backends.pixels import ycbcr_to_rgb as _ycbcr_to_rgb

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
# Codecs of images, not of bytes: they turn YCbCr into RGB themselves
_IMAGE_CODECS = frozenset(int(code) for code in tifffile.TIFF.IMAGE_COMPRESSIONS)


def page_converter(page: tifffile.TiffPage, top: float | None = None) -> Converter:
    """Return the function from decoded samples of ``page`` to RGB.

    Parameters
    ----------
    top
        The value that means white; None for the full range of the page's significant bits.

    Raises
    ------
    SlideError
        When the samples have no sensible reading as colour; the message says why.
    """
    _check_codec(page)
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    if photometric == _PALETTE and samples == 1:
        return partial(_look_up, _palette(page))
    white = _white_value(page) if top is None else top
    n_colour = 1 if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        name = getattr(page.photometric, "name", str(photometric))
        raise UnsupportedError(f"its colours are stored as {name}; export it as RGB")
    if samples < n_colour or samples > n_colour + 1:
        raise SlideError(
            f"it stores {samples} channels per pixel without colours "
            "(fluorescence or multispectral?); export an RGB image of it"
        )
    alpha = _alpha_kind(page) if samples == n_colour + 1 else "none"
    return partial(
        _convert,
        top=white,
        keep=n_colour if alpha == "ignored" else samples,
        premultiplied=alpha == "premultiplied",
        invert=photometric == _WHITE_IS_ZERO,
        ycbcr=photometric == _YCBCR and int(page.compression) not in _IMAGE_CODECS,
    )


def _check_codec(page: tifffile.TiffPage) -> None:
    code = int(page.compression)
    name = getattr(page.compression, "name", str(code))
    try:
        if code != 1:
            tifffile.TIFF.DECOMPRESSORS[code]
    except KeyError as error:
        raise UnsupportedError(f"its compression {name} has no decoder here") from error
    if page.is_subsampled and code not in _IMAGE_CODECS:
        raise UnsupportedError(f"it has subsampled colours with {name} compression")


def _white_value(page: tifffile.TiffPage) -> float:
    kind = np.dtype(page.dtype).kind if page.dtype is not None else "?"
    bits = page.bitspersample
    if not isinstance(bits, int):
        raise SlideError(f"its channels differ in bits {bits}; export it as 8-bit RGB")
    if kind in "ub" and bits <= 16:
        return float(2**bits - 1)
    raise SlideError(
        f"its pixels are {page.dtype}, which has no fixed display range; export it as 8-bit RGB"
    )


def _alpha_kind(page: tifffile.TiffPage) -> str:
    extra = tuple(int(e) for e in page.extrasamples)
    if not extra or extra[0] == 2:
        return "straight"
    return "premultiplied" if extra[0] == 1 else "ignored"


def _convert(
    samples: Samples, *, top: float, keep: int, premultiplied: bool, invert: bool, ycbcr: bool
) -> RGB:
    if samples.shape[2] != keep:
        samples = samples[..., :keep]
    if invert:
        samples = ~samples if samples.dtype == bool else samples.dtype.type(top) - samples
    if ycbcr:
        return _ycbcr_to_rgb(scale_to_uint8(samples, top))
    return to_rgb(samples, top, premultiplied=premultiplied)


def _palette(page: tifffile.TiffPage) -> RGB:
    colormap = page.colormap
    if colormap is None:
        raise SlideError("its palette is missing: it is damaged")
    table = np.asarray(colormap, np.uint16).T
    is_16_bit = bool(table.size) and table.max() > 255  # some writers store 8-bit palettes
    return np.ascontiguousarray(table >> 8 if is_16_bit else table, dtype=np.uint8)


def _look_up(palette: RGB, samples: Samples) -> RGB:
    return palette[np.minimum(samples[..., 0].astype(np.intp), len(palette) - 1)]
