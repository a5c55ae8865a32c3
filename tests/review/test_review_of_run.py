"""A review of a real run: found again at other thresholds, after a copy, and by nobody else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_ood import open_run, open_slide, run_slide
from napari_ood.analysis.regions import find_regions, rank_regions
from napari_ood.analysis.scored import ScoredRun
from napari_ood.errors import ReviewError
from napari_ood.review import Kind, ReviewStore, Verdict, review_folder, run_identity

if TYPE_CHECKING:
    from napari_ood.models import Bundle


def test_review_of_a_real_run(tiny_bundle: Bundle, procedural_slide: Path, tmp_path: Path) -> None:
    path = tmp_path / "slide.ood.zarr"
    with open_slide(procedural_slide) as slide:
        run = run_slide(slide, tiny_bundle, path, region=(0, 0, 1024, 1024))
        part = run_slide(slide, tiny_bundle, tmp_path / "b.ood.zarr", region=(0, 0, 512, 512))
    scored = ScoredRun(run, tiny_bundle)
    values = scored.score("ood")
    high, low = np.quantile(values, [0.9, 0.7])
    regions = rank_regions(find_regions(scored, values > high, "ood"), "diversity", scored)
    assert len(regions) > 2
    assert review_folder(path) == tmp_path / "slide.review"
    store = ReviewStore(review_folder(path), run_identity(run), "Ada")
    for region in regions:
        store.add(Verdict.of(region, Kind.AGREE, reviewer="Ada", threshold=float(high)))
    assert store.progress(regions) == (len(regions), len(regions))

    copy = shutil.copytree(path, tmp_path / "elsewhere" / "renamed.ood.zarr")
    again = ReviewStore(review_folder(path), run_identity(open_run(copy)), "Ada")
    wider = find_regions(scored, values > low, "ood")
    assert again.match(wider).unmatched == ()
    assert 0 < sum(again.match(wider).verdict(region) is not None for region in wider) < len(wider)

    with pytest.raises(ReviewError, match="another run"):
        ReviewStore(review_folder(path), run_identity(part), "Ada")
