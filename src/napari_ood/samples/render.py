"""Drawing: any box of a procedural section as 8-bit RGB, the same however it is cut into boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from napari_ood.samples.anatomy import CELL
from napari_ood.samples.epithelium import LAYERS, Gland, columnar, draw_gland
from napari_ood.samples.noise import Field, enlarge, soften, wrapped
from napari_ood.samples.section import Section
from napari_ood.samples.sprites import stamp
from napari_ood.samples.squamous import draw_squamous
from napari_ood.samples.stains import COUNTERSTAIN, DAB, GLASS_RGB, density, to_rgb
from napari_ood.samples.structures import SURFACE_HEIGHT, Vessel
from napari_ood.samples.vessels import draw_vessel

Items = Sequence[Gland | Vessel]
Draw = Callable[[int], tuple[Field, Field]]

MARGIN, WIDE_MARGIN = 8, 96
"""Px drawn around a box for the optics; where blur or a fold needs more."""

FOLD_SHIFT = (56, -43)
"""Where the second layer of a fold comes from, px."""

PSF_PX = 0.75
DEFOCUS_PX = (2.4, 6.0)


class Renderer:
    """Draws boxes of one section; keeps recent crypts and vessels, which often cross boxes.

    Safe to call from several threads.
    """

    def __init__(self, section: Section) -> None:
        self.section = section
        tex = section.textures
        banks = section.fibre_banks, section.nucleus_banks
        self._reach = tuple(max(bank.reach for bank in group) for group in banks)
        self._gland = lru_cache(96)(
            lambda i: draw_gland(section.glands[i], tex["grain"], tex["warp"])
        )
        self._vessel = lru_cache(32)(
            lambda i: draw_vessel(section.vessels[i], tex["streaks"], tex["warp"])
        )

    def box(self, y: int, x: int, h: int, w: int) -> NDArray[np.uint8]:
        """Draw ``(h, w, 3)`` uint8 at level-0 position (y, x)."""
        planted = self.section.planted
        near = y - MARGIN, x - MARGIN, h + 2 * MARGIN, w + 2 * MARGIN
        wide = any(self._touches(f, *near) for f in (planted.blur, planted.fold))
        m = WIDE_MARGIN if wide else MARGIN
        y0, x0, full_h, full_w = y - m, x - m, h + 2 * m, w + 2 * m
        light = self._light(y0, x0, full_h, full_w)
        if self._touches(self.section.anatomy.inside + 60, y0, x0, full_h, full_w):
            od = self._section_density(y0, x0, full_h, full_w)
        else:
            od = np.zeros((full_h, full_w, 3), np.float32)
        rgb = self._defocused(to_rgb(od, light), y0, x0)
        if self._touches(self.section.planted.ink[..., 1], y0, x0, full_h, full_w):
            rgb *= np.exp(-self._ink(y0, x0, full_h, full_w))
        inner = np.s_[m : m + h, m : m + w]
        noise = np.stack(
            [wrapped(self.section.textures["noise"], y + k * 331, x, h, w) for k in range(3)], -1
        )
        return np.clip(rgb[inner] + 1.3 * noise + 0.5, 0, 255).astype(np.uint8)

    def _touches(self, field: Field, y: int, x: int, h: int, w: int) -> bool:
        """Whether a coarse field is above zero anywhere in a box."""
        y0, x0 = max(y // CELL - 1, 0), max(x // CELL - 1, 0)
        return bool((field[y0 : (y + h) // CELL + 2, x0 : (x + w) // CELL + 2] > 0).any())

    def _field(self, field: Field, y: int, x: int, h: int, w: int) -> Field:
        return enlarge(field, CELL, y, x, h, w)

    def _light(self, y: int, x: int, h: int, w: int) -> Field:
        """Light through bare glass: strips of the line scanner, faint unevenness, dust."""
        strip = (np.arange(x, x + w) % 1024) / 1024 - 0.5
        uneven = 1 - 0.008 * (2 * strip[None, :]) ** 2
        mottle = wrapped(self.section.textures["warp"], y, x, h, w)
        shade = (uneven + 0.0015 * mottle).astype(np.float32)
        return np.asarray(shade[..., None] * np.asarray(GLASS_RGB, np.float32))

    def _section_density(self, y: int, x: int, h: int, w: int) -> Field:
        """Optical density ``(h, w, 3)`` of the section."""
        layers = self._layers(y, x, h, w)
        s = self.section
        thickness = [self._field(s.thickness[k], y, x, h, w) for k in range(2)]
        haem, eosin = layers[0] * thickness[0], layers[1] * thickness[1]
        od = density(s.stain, haem, eosin, layers[2])
        if self._touches(s.planted.ihc, y, x, h, w):
            ihc = self._field(s.planted.ihc, y, x, h, w)
            grain = 1 + 0.14 * wrapped(s.textures["grain"], y, x, h, w)
            brown = layers[3] * 1.7 * grain + 0.13 * eosin
            blue = np.where(layers[3] > 0.2, np.maximum(haem - 0.4, 0), haem)
            units = np.stack([COUNTERSTAIN, DAB]).astype(np.float32)
            other = np.stack([0.62 * blue + 0.18 * eosin, brown], axis=-1) @ units
            od += ihc[..., None] * (other - od)
        if self._touches(s.planted.fold, y, x, h, w):
            fold = self._field(s.planted.fold, y, x, h, w)
            second = np.roll(od, FOLD_SHIFT, axis=(0, 1))
            second = np.stack([soften(second[..., k], 2.0) for k in range(3)], axis=-1)
            od += fold[..., None] * second
        return od

    def _layers(self, y: int, x: int, h: int, w: int) -> Field:
        """Draw the stains ``(4, h, w)`` from the ground up, then cut them at the section's edge."""
        s = self.section
        canvas = np.zeros((LAYERS, h, w), np.float32)
        mottle = wrapped(s.textures["mottle"], y, x, h, w)
        grain = wrapped(s.textures["grain"], y, x, h, w)
        uneven = np.clip(1 + 0.35 * mottle + 0.2 * grain, 0, 3)
        for k in range(2):
            canvas[k] = self._field(s.ground[k], y, x, h, w) * uneven
        self._stamp_fibres(canvas, y, x)
        self._paste(canvas, y, x, s.vessels, self._vessel)
        self._paste(canvas, y, x, s.glands, self._gland)
        self._squamous(canvas, y, x)
        self._stamp_nuclei(canvas, y, x)
        self._line_surface(canvas, y, x, grain)
        canvas *= self._edge(y, x, h, w, mottle)
        return canvas

    def _stamp_fibres(self, canvas: Field, y: int, x: int) -> None:
        s, marks = self.section, self.section.fibres
        for i in marks.near((y, x), canvas.shape[1:], self._reach[0]):
            sprite = s.fibre_banks[marks.kind[i]].pick(marks.variant[i], marks.theta[i])
            at = marks.yx[i]
            stamp(canvas[:2], sprite, at[0] - y, at[1] - x, marks.amount[i])

    def _stamp_nuclei(self, canvas: Field, y: int, x: int) -> None:
        s, marks = self.section, self.section.nuclei
        for i in marks.near((y, x), canvas.shape[1:], self._reach[1]):
            sprite = s.nucleus_banks[marks.kind[i]].pick(marks.variant[i], marks.theta[i])
            at = marks.yx[i]
            stamp(canvas, sprite, at[0] - y, at[1] - x, marks.amount[i])
        h, w = canvas.shape[1:]
        lo, hi = (y - 16, x - 16), (y + h + 16, x + w + 16)
        for i in np.flatnonzero(((s.red >= lo) & (s.red < hi)).all(axis=1)):
            sprite = s.red_bank[i % len(s.red_bank)]
            stamp(canvas, sprite, s.red[i, 0] - y, s.red[i, 1] - x, s.red_amount[i], first=2)

    def _paste(self, canvas: Field, y: int, x: int, items: Items, draw: Draw) -> None:
        """Lay drawn squares (crypts or vessels) over the canvas."""
        h, w = canvas.shape[1:]
        for i, item in enumerate(items):
            top, left = int(item.y) - item.reach - y, int(item.x) - item.reach - x
            side = 2 * item.reach
            y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, h), min(left + side, w)
            if y0 >= y1 or x0 >= x1:
                continue
            layers, opacity = draw(i)
            part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            target = canvas[:, y0:y1, x0:x1]
            target *= 1 - opacity[part]
            target += layers[:, part[0], part[1]]

    def _squamous(self, canvas: Field, y: int, x: int) -> None:
        s = self.section
        h, w = canvas.shape[1:]
        if not self._touches(s.nest + 20, y, x, h, w):
            return
        inside = self._field(s.nest, y, x, h, w)
        inside += 2.5 * wrapped(s.textures["mottle"], y, x, h, w)
        weight = np.clip(inside / 1.5 + 0.5, 0, 1)
        basal = np.exp(-np.maximum(inside, 0) / 32)
        drawn = draw_squamous(
            s.squamous,
            s.planted.pearls,
            (y, x),
            weight,
            basal,
            s.textures["grain"],
            s.textures["warp"],
        )
        canvas *= 1 - weight
        canvas += weight * drawn

    def _line_surface(self, canvas: Field, y: int, x: int, grain: Field) -> None:
        """Draw the surface epithelium, and clear what lies in the lumen above it."""
        h, w = canvas.shape[1:]
        depth = self._field(self.section.anatomy.depth, y, x, h, w)
        rows, cols = np.nonzero((depth < SURFACE_HEIGHT) & (depth > -12))
        if len(rows) == 0:
            return
        box = np.s_[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
        along = self._field(self.section.anatomy.along, y, x, h, w)[box]
        t = SURFACE_HEIGHT - depth[box]
        layers, cells = columnar(self.section.surface, along, t, np.ones_like(t), grain[box])
        lumen = np.clip(t / 4, 0, 1) * (1 - cells)
        target = canvas[:, box[0], box[1]]
        target *= (1 - cells) * (1 - lumen)
        target += layers * cells

    def _edge(self, y: int, x: int, h: int, w: int, mottle: Field) -> Field:
        """Opacity of the section at its outline: torn where it was cut, smooth at the lumen."""
        s = self.section
        inside = self._field(s.anatomy.inside, y, x, h, w)
        depth = self._field(s.anatomy.depth, y, x, h, w)
        torn = np.clip((depth - inside) / 60, 0, 1)
        warp = wrapped(s.textures["warp"], y + 17, x + 5, h, w)
        line = inside + torn * (3 * mottle + 6 * warp)
        return np.asarray(np.clip(line / 1.5 + 0.5, 0, 1), np.float32)

    def _defocused(self, rgb: Field, y: int, x: int) -> Field:
        """Blur by the scanner's optics, and more where the section was out of focus."""
        h, w = rgb.shape[:2]
        rgb = np.stack([soften(rgb[..., k], PSF_PX) for k in range(3)], axis=-1)
        if not self._touches(self.section.planted.blur, y, x, h, w):
            return rgb
        amount = self._field(self.section.planted.blur, y, x, h, w)
        middle, far = (
            np.stack([soften(rgb[..., k], sigma) for k in range(3)], axis=-1)
            for sigma in DEFOCUS_PX
        )
        near = np.clip(2 * amount, 0, 1)[..., None]
        beyond = np.clip(2 * amount - 1, 0, 1)[..., None]
        blurred = rgb + near * (middle - rgb)
        return np.asarray(blurred + beyond * (far - blurred), np.float32)

    def _ink(self, y: int, x: int, h: int, w: int) -> Field:
        """Optical density of ink; it lies on the cover slip, so the optics do not sharpen it."""
        ink = self.section.planted.ink
        return np.stack([self._field(ink[..., k], y, x, h, w) for k in range(3)], axis=-1)
