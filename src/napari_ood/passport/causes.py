"""Why a place may be foreign, from what its tiles look like: a hint, never a finding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.passport.look_checks import (
    GLASSY,
    STAIN,
    blur_limit,
    blurred,
    fold_limit,
    folded,
    inked,
    outside_share,
)
from napari_ood.slides.appearance import STATISTICS

if TYPE_CHECKING:
    from napari_ood.passport.sample import TileSample

_MOST = 0.5


def likely_causes(
    statistics: NDArray[np.float32],
    slide: TileSample,
    reference: NDArray[np.float32] | None = None,
) -> tuple[str, ...]:
    """Name what at least half of a place's tiles look like.

    Parameters
    ----------
    statistics : [n, S] float32, of the place's tiles, see ``napari_ood.slides.appearance``
    slide : a sample of the slide that the place is on, to compare it with
    reference : [m, S] float32, of the bundle's training tiles

    Returns
    -------
    Of ``ink``, ``blur``, ``fold or thick tissue``, ``glass``, ``unusual stain``; empty where no
    rule applies, which says nothing: the tissue itself may be foreign.
    """
    if not len(statistics):
        return ()
    place = replace(slide, statistics=statistics)
    rules = {
        "ink": inked(place),
        "blur": blurred(place, blur_limit(slide, reference)),
        "fold or thick tissue": folded(place, fold_limit(slide)),
        "glass": place.column("glass") > GLASSY,
    }
    found = [name for name, tiles in rules.items() if tiles.mean() >= _MOST]
    if not found and _unusual_stain(place, slide, reference):
        found = ["unusual stain"]
    return tuple(found)


def _unusual_stain(
    place: TileSample, slide: TileSample, reference: NDArray[np.float32] | None
) -> bool:
    usual = slide.statistics[~inked(slide)] if reference is None else reference
    if not len(usual):
        return False
    columns = (STATISTICS.index(name) for name in STAIN)
    shares = (outside_share(place.statistics[:, c], usual[:, c]) for c in columns)
    return max(shares) >= _MOST
