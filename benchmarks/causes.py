"""How often the named cause of a foreign tile is the right one: docs/results/causes.md.

    python benchmarks/causes.py --data ../shared/data --work FOLDER        # measure, write the page
    python benchmarks/causes.py --data ../shared/data --work FOLDER --fit  # refit explain/grain.py

Rules were set on tiles of PatchCamelyon's training split with one set of planted changes
(`SETTING`); they are measured on its validation split with others (`MEASURING`), on real artefacts
and real foreign tissue, on procedural slides and on dermoscopic images.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from napari_ood.training.cutting import jpeg

RGB = NDArray[np.uint8]
Change = Callable[[RGB, np.random.Generator], RGB]
Changes = dict[str, dict[str, Change]]
RESAMPLING = Image.Resampling
HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
INKS_SETTING = {"green": (1.55, 0.42, 0.62), "blue": (1.75, 1.05, 0.30)}
INKS_MEASURING = {
    "light green": (1.1, 0.2, 0.8),
    "turquoise": (1.6, 0.5, 0.4),
    "black": (2.0, 2.1, 2.0),
    "red": (0.15, 1.8, 1.6),
}


def read_split(data: Path, split: str, most: int, seed: int) -> tuple[RGB, list[str]]:
    """Tiles of a set's split, drawn at random, and their paths."""
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["split"] == split]
    chosen = np.random.default_rng(seed).permutation(len(paths))[:most]
    names = [paths[i] for i in chosen]
    tiles = []
    for name in names:
        with Image.open(data / name) as image:
            tiles.append(np.asarray(image.convert("RGB")))
    return np.stack(tiles), names


# One change of a tile each; amounts are drawn.


def gaussian(low: float, high: float) -> Change:
    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        sigma = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(sigma)))

    return change


def defocus(low: float, high: float) -> Change:
    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        radius = rng.uniform(low, high)
        y, x = np.mgrid[-7:8, -7:8]
        kernel = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
        return _convolved(tile, kernel)

    return change


def motion(low: float, high: float) -> Change:
    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        kernel = np.zeros((15, 15))
        angle, length = rng.uniform(0, np.pi), rng.uniform(low, high)
        for t in np.linspace(-length / 2, length / 2, 60):
            kernel[round(7 + t * np.sin(angle)), round(7 + t * np.cos(angle))] += 1
        return _convolved(tile, kernel)

    return change


def _convolved(tile: RGB, kernel: NDArray[np.float64]) -> RGB:
    kernel = kernel / kernel.sum()
    planes = [ndimage.convolve(tile[..., c].astype(float), kernel, mode="mirror") for c in range(3)]
    return np.rint(np.clip(np.stack(planes, axis=-1), 0, 255)).astype(np.uint8)


def magnified(low: float, high: float) -> Change:
    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        side = tile.shape[0]
        inner = side / rng.uniform(low, high)
        y, x = rng.uniform(0, side - inner, 2)
        kinds = (RESAMPLING.BICUBIC, RESAMPLING.BILINEAR, RESAMPLING.LANCZOS)
        box = (x, y, x + inner, y + inner)
        return np.asarray(Image.fromarray(tile).resize((side, side), kinds[rng.integers(3)], box))

    return change


def shrunk(low: float, high: float) -> Change:
    """The tile made smaller, its edges mirrored."""

    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        side = tile.shape[0]
        inner = round(side / rng.uniform(low, high))
        small = np.asarray(Image.fromarray(tile).resize((inner, inner), RESAMPLING.BOX))
        before = (side - inner) // 2
        edge = (before, side - inner - before)
        return np.pad(small, [edge, edge, (0, 0)], mode="symmetric")

    return change


def inked(colours: dict[str, tuple[float, float, float]]) -> Change:
    """A stroke of ink of uneven density over a third to all of the tile."""

    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        colour = np.array(list(colours.values())[rng.integers(len(colours))])
        side = tile.shape[0]
        y, x = np.mgrid[:side, :side] / side - 0.5
        angle = rng.uniform(0, 2 * np.pi)
        along = x * np.cos(angle) + y * np.sin(angle)
        cover = np.clip((rng.uniform(-0.1, 0.6) - along) * 12, 0, 1)
        rough = ndimage.gaussian_filter(rng.normal(size=(side, side)), 6)
        cover = cover * rng.uniform(0.7, 1.1) * (1 + 0.15 * rough / rough.std())
        density = -np.log((tile + 1.0) / 256) + np.clip(cover, 0, None)[..., None] * colour
        return _from_density(density)

    return change


def folded(overlay: Callable[[RGB, np.random.Generator], RGB], low: float, high: float) -> Change:
    """A band of the tile lies twice: its own density plus that of what was folded over."""

    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        side = tile.shape[0]
        y, x = np.mgrid[:side, :side] / side - 0.5
        angle = rng.uniform(0, 2 * np.pi)
        across = np.abs(x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.15, 0.15))
        band = np.clip((rng.uniform(0.2, 0.4) - across) * 25, 0, 1)[..., None]
        more = -np.log((overlay(tile, rng) + 1.0) / 256) * rng.uniform(low, high)
        return _from_density(-np.log((tile + 1.0) / 256) + band * more)

    return change


def itself(tile: RGB, rng: np.random.Generator) -> RGB:
    return tile[::-1]


def turned(tile: RGB, rng: np.random.Generator) -> RGB:
    return np.roll(np.rot90(tile, rng.integers(1, 4)), rng.integers(20, 70), axis=0)


def stain_amounts(low: float, high: float) -> Change:
    """Amounts of haematoxylin, eosin and rest scaled against each other."""

    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        amounts = -np.log((tile + 1.0) / 256) @ np.linalg.inv(HED)
        h, e = np.exp(rng.choice([-1, 1]) * np.array([1, -1]) * np.log(rng.uniform(low, high)))
        return _from_density((amounts * np.array([h, e, 1.0])) @ HED)

    return change


def hue_turned(low: float, high: float) -> Change:
    """Colours of the density turned around grey, by degrees."""

    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        a = np.deg2rad(rng.uniform(low, high)) * rng.choice([-1, 1])
        axis = np.ones(3) / np.sqrt(3)
        cross = np.cross(np.eye(3), axis)
        turn = np.eye(3) * np.cos(a) + np.sin(a) * cross + (1 - np.cos(a)) * np.outer(axis, axis)
        return _from_density(-np.log((tile + 1.0) / 256) @ turn)

    return change


def dab(tile: RGB, rng: np.random.Generator) -> RGB:
    """Eosin replaced by brown."""
    amounts = -np.log((tile + 1.0) / 256) @ np.linalg.inv(HED)
    amounts = np.clip(amounts, 0, None)
    amounts[..., 2] += amounts[..., 1] * rng.uniform(1.0, 2.0)
    amounts[..., 1] = 0
    return _from_density(amounts @ HED)


def _from_density(density: NDArray[np.float64]) -> RGB:
    return np.rint(np.clip(256 * np.exp(-density) - 1, 0, 255)).astype(np.uint8)


def blank(low: float, high: float, dust: int) -> Change:
    """Glass: light grey, a little noise, and specks."""

    def change(tile: RGB, rng: np.random.Generator) -> RGB:
        side = tile.shape[0]
        plane = rng.uniform(low, high) + rng.normal(0, 1.5, 3) + rng.normal(0, 2, tile.shape)
        plane += np.linspace(-1, 1, side)[:, None, None] * rng.uniform(0, 3)
        for _ in range(rng.integers(0, dust + 1)):
            y, x = np.mgrid[:side, :side] - rng.uniform(0, side, 2)[:, None, None]
            plane -= 90 * np.exp(-(np.hypot(y, x)[..., None] ** 2) / rng.uniform(1, 8))
        return np.rint(np.clip(plane, 0, 255)).astype(np.uint8)

    return change


SETTING: Changes = {
    "blur": {"Gauss σ 0.8–4 px": gaussian(0.8, 4)},
    "pen ink": {"green, blue": inked(INKS_SETTING)},
    "fold": {"tile on itself": folded(itself, 0.8, 1.3)},
    "blank glass": {"clean": blank(232, 250, 0)},
    "stain shift": {
        "haematoxylin : eosin × 1.8–3": stain_amounts(1.8, 3.0),
        "hue turned 20–40°": hue_turned(20, 40),
    },
    "scale mismatch": {"× 1.7–2.5": magnified(1.7, 2.5), "× 0.4–0.6": shrunk(1.7, 2.5)},
}
MEASURING: Changes = {
    "blur": {
        "Gauss σ 0.7 px": gaussian(0.7, 0.7001),
        "Gauss σ 1.5 px": gaussian(1.5, 1.5001),
        "Gauss σ 3 px": gaussian(3, 3.0001),
        "defocus, disc r 1.5–5 px": defocus(1.5, 5),
        "motion 4–10 px": motion(4, 10),
    },
    "pen ink": {name: inked({name: colour}) for name, colour in INKS_MEASURING.items()},
    "fold": {"another part on the tile": folded(turned, 0.7, 1.2)},
    "blank glass": {"with dust": blank(228, 252, 3)},
    "stain shift": {
        "haematoxylin : eosin × 1.5–2.5": stain_amounts(1.5, 2.5),
        "hue turned 15–30°": hue_turned(15, 30),
        "eosin → DAB": dab,
    },
    "scale mismatch": {"× 2": magnified(2, 2.0001), "× 0.5": shrunk(2, 2.0001)},
}


def planted(
    tiles: RGB, changes: dict[str, dict[str, Change]], seed: int
) -> dict[str, dict[str, RGB]]:
    """Tiles after each change, compressed as JPEG of quality 60 to 90."""
    out: dict[str, dict[str, RGB]] = {}
    for i, (cause, kinds) in enumerate(changes.items()):
        for j, (kind, change) in enumerate(kinds.items()):
            rng = np.random.default_rng((seed, i, j))
            changed = [
                jpeg(change(tile, rng)[None], int(rng.integers(60, 91)))[0] for tile in tiles
            ]
            out.setdefault(cause, {})[kind] = np.stack(changed)
    return out
