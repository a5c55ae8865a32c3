"""Whether a slide fits a bundle: scale, scanner, stain, focus, artefacts, in words."""

from __future__ import annotations

from napari_ood.passport.check import Check, Light, Passport
from napari_ood.passport.make import make_passport
from napari_ood.passport.overrides import PassportOverride, PassportOverrides
from napari_ood.passport.sample import TileSample, sample_tiles

__all__ = [
    "Check",
    "Light",
    "Passport",
    "PassportOverride",
    "PassportOverrides",
    "TileSample",
    "make_passport",
    "sample_tiles",
]
