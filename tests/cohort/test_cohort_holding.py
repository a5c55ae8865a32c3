"""Two cohorts in one folder, and a cohort beside a run, on real workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_ood.cohort import CohortProgress, read_manifest
from napari_ood.cohort.shared import token_in
from napari_ood.inference.holding import WHOLE_FOLDER, HeldError, holding_folder, holding_run

Cohort = Callable[..., dict[str, Any]]


def test_a_second_cohort_is_refused_and_leaves_the_first_alone(
    slides: list[Path], cohort: Cohort, tmp_path: Path
) -> None:
    refused: list[str] = []

    def double_enter(progress: CohortProgress) -> None:
        if not refused:
            with pytest.raises(HeldError, match=r"process .* since .*: wait for it, stop it, or"):
                cohort(slides[:1], out=tmp_path)
            refused.append("once")

    manifest = cohort(slides, out=tmp_path, on_progress=double_enter)
    assert refused and manifest["counts"]["done"] == 2
    assert manifest == read_manifest(tmp_path)
    with holding_folder(tmp_path):  # nothing is left of it
        pass


def test_a_slide_that_is_run_by_somebody_else_fails_alone(
    slides: list[Path], cohort: Cohort, tmp_path: Path
) -> None:
    with holding_run(tmp_path / "small.ood.zarr"):
        manifest = cohort(slides, out=tmp_path, retries=0)
    records = {Path(record["slide"]).stem: record for record in manifest["slides"]}
    assert records["small"]["error"]["kind"] == "HeldError"
    assert records["large"]["outcome"] == "done"
    assert cohort(slides, out=tmp_path)["counts"]["done"] == 2


def test_what_a_killed_cohort_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / f".cohort-{'0' * 32}").touch()
    with holding_folder(tmp_path), token_in(tmp_path) as token:
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {WHOLE_FOLDER, Path(token).name}
    assert not list(tmp_path.iterdir())
