"""Random fields: smooth noise on coarse grids, tileable textures, jittered point lattices."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Field = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> Field:
    """Draw a smooth random field of mean about 0 and standard deviation about 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : (int, int)
        Rows and columns of the result.
    wavelength : float
        Distance in grid cells between independent values.

    Returns
    -------
    numpy.ndarray
        ``shape`` float32; cubic interpolation of white noise.
    """
    coarse = [max(4, int(np.ceil(n / wavelength)) + 4) for n in shape]
    knots = rng.standard_normal(coarse).astype(np.float32)
    rows, cols = (
        1 + rng.random() + (np.arange(n, dtype=np.float32) / max(wavelength, n / (c - 3.01)))
        for n, c in zip(shape, coarse, strict=True)
    )
    along_rows = _cubic(knots, rows)
    return np.ascontiguousarray(_cubic(along_rows.T, cols).T) * np.float32(1.5)


def _cubic(values: Field, positions: NDArray[np.floating]) -> Field:
    """Interpolate along the first axis with the uniform cubic B-spline (smooth, never rings)."""
    i = np.clip(np.floor(positions).astype(int), 1, len(values) - 3)
    t = (positions - i).astype(np.float32)[:, None]
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    out = sum(w * values[i + k] for k, w in zip((-1, 0, 1, 2), weights, strict=True))
    return np.asarray(out, np.float32)


def texture(
    rng: np.random.Generator, size: int, wavelength: tuple[float, float], slope: float = 1.0
) -> Field:
    """Draw a texture that tiles without seams, of mean 0 and standard deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Rows and columns of the square texture.
    wavelength : (float, float)
        Typical structure size along y and x, px.
    slope : float
        Fall-off of the spectrum: higher is smoother.

    Returns
    -------
    numpy.ndarray
        ``(size, size)`` float32.
    """
    white = rng.standard_normal((size, size)).astype(np.float32)
    fy = fft.fftfreq(size)[:, None] * wavelength[0]
    fx = fft.rfftfreq(size)[None, :] * wavelength[1]
    spectrum = (1 + fy**2 + fx**2) ** (-slope) * np.exp(-0.5 * (fy**2 + fx**2) / 4)
    out = fft.irfft2(fft.rfft2(white) * spectrum, s=(size, size)).astype(np.float32)
    out -= out.mean()
    return np.asarray(out / out.std(), np.float32)


def wrapped(tex: Field, y: int, x: int, h: int, w: int) -> Field:
    """Cut ``(h, w)`` from a tileable texture at any position."""
    rows, cols = np.arange(y, y + h) % tex.shape[0], np.arange(x, x + w) % tex.shape[1]
    return np.asarray(np.take(np.take(tex, rows, axis=0), cols, axis=1), np.float32)


def enlarge(field: Field, factor: int, y: int, x: int, h: int, w: int) -> Field:
    """Read ``(h, w)`` px at (y, x) of a coarse field enlarged ``factor`` times, bilinearly.

    Cell (i, j) of the coarse field covers px ``factor * i`` to ``factor * (i + 1)``; beyond the
    field its edge values go on.
    """
    i, t = _places(field.shape[0], factor, y, h)
    j, s = _places(field.shape[1], factor, x, w)
    part = field[i[0] : i[-1] + 2, j[0] : j[-1] + 2]
    i, j = i - i[0], j - j[0]
    steps = np.diff(part, axis=0, append=part[-1:])
    rows = part[i] + t[:, None] * steps[i]
    steps = np.diff(rows, axis=1, append=rows[:, -1:])
    return np.asarray(rows[:, j] + s * steps[:, j], np.float32)


def _places(n: int, factor: int, start: int, length: int) -> tuple[NDArray[np.intp], Field]:
    """Cell before each px, and how far the px lies towards the next cell (0–1)."""
    positions = np.clip((np.arange(start, start + length) + 0.5) / factor - 0.5, 0, n - 1)
    i = np.minimum(positions.astype(np.intp), max(n - 2, 0))
    return i, (positions - i).astype(np.float32)


def lattice(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float, jitter: float
) -> NDArray[np.float32]:
    """Scatter points on a jittered hexagonal lattice over a slide.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : (int, int)
        Height and width to cover, px.
    spacing : float
        Distance between neighbours, px.
    jitter : float
        Standard deviation of the displacement as a fraction of ``spacing``.

    Returns
    -------
    numpy.ndarray
        ``[N, 2]`` float32 (y, x).
    """
    rows = np.arange(0, shape[0], spacing * np.sqrt(3) / 2)
    cols = np.arange(0, shape[1], spacing)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([y.ravel(), x.ravel()], axis=1)
    points += rng.normal(0, jitter * spacing, points.shape)
    return points.astype(np.float32)


def lookup(field: NDArray[T], factor: int, points: NDArray[np.float32]) -> NDArray[T]:
    """Values of a coarse field at level-0 points ``[N, 2]`` (nearest cell, edges clamped)."""
    i = np.clip((points / factor).astype(int), 0, np.array(field.shape) - 1)
    values: NDArray[T] = field[i[:, 0], i[:, 1]]
    return values


def soften(array: Field, sigma: float) -> Field:
    """Gaussian blur; ``sigma`` in px, 0 leaves the array as it is."""
    if sigma <= 0:
        return array
    return np.asarray(ndimage.gaussian_filter(array, sigma, mode="nearest", truncate=3), np.float32)
