"""A cohort's runs are in the precision, and store the features, that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_ood import Bundle, RunError, open_run, open_slide, run_slide
from napari_ood.board import read_board
from napari_ood.cli.cohort import warnings_text
from napari_ood.cohort.plan import Job, Settings
from napari_ood.cohort.run import run_cohort
from napari_ood.cohort.work import Workplace
from napari_ood.errors import OodError


def settings(bundle: Bundle, **options: object) -> Settings:
    return Settings(str(bundle.path), dict(bundle.hashes), device="cpu", task_tiles=8, **options)


def test_workers_compute_and_store_as_the_cohort_asks(
    tiny_bundle: Bundle, slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ood.inference.plan.BLOCK_PX", 256)
    monkeypatch.setattr("napari_ood.inference.plan.SHARD_TILES", (2, 32))
    with open_slide(slides[1]) as slide:
        options = {"device": "cpu", "precision": "bf16", "features": "float16"}
        alone = run_slide(slide, tiny_bundle, tmp_path / "alone.ood.zarr", **options)
    place = Workplace(settings(tiny_bundle, precision="bf16", features="float16"))
    job = Job(str(slides[1]), str(tmp_path / "c.ood.zarr"), 1)
    begun = place.begin(job)
    assert len(begun.parts) > 1  # other workers take these, and read the precision from the run
    for cells in begun.parts:
        place.part(job, cells)
    place.close()
    run = open_run(job.out)
    assert run.complete and run.arithmetic.precision == "bf16" and run.features_as == "float16"
    np.testing.assert_array_equal(run.logits, alone.logits)
    np.testing.assert_array_equal(run.features, alone.features)


def test_a_run_of_another_precision_is_left_alone(
    tiny_bundle: Bundle, slides: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "small.ood.zarr"
    with open_slide(slides[0]) as slide:
        stop = {"cancel": lambda: True, "device": "cpu"}
        run_slide(slide, tiny_bundle, out, precision="bf16", **stop)
    place = Workplace(settings(tiny_bundle))
    with pytest.raises(
        RunError, match="begun in bf16 and goes on in it: ask for --precision bf16,"
    ):
        place.begin(Job(str(slides[0]), str(out), 1))
    place.close()


def test_a_slide_without_tissue_says_so(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "white.tif"
    tifffile.imwrite(path, np.full((300, 300, 3), 245, np.uint8), photometric="rgb",
                     resolution=(20_000, 20_000), resolutionunit="CENTIMETER")  # fmt: skip
    place = Workplace(settings(tiny_bundle))
    begun = place.begin(Job(str(path), str(tmp_path / "white.ood.zarr"), 1))
    place.close()
    assert begun.n_total == 0 and "no tissue found" in begun.warnings[-1]
    assert "no tissue found" in warnings_text([{"slide": "s", "warnings": begun.warnings}])
    (row,) = read_board(tmp_path).rows
    assert (row.outcome, row.error) == ("done", "no tissue was found")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "auto"}, "one precision for all its slides"),
        ({"precision": "fp64"}, "choose auto, fp32 or bf16"),
        ({"features": "float8"}, "choose float32, float16, none"),
    ],
)
def test_what_no_cohort_can_be_is_said_before_any_worker_starts(
    tiny_bundle: Bundle, slides: list[Path], tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(OodError, match=message):
        run_cohort(slides, tiny_bundle, tmp_path / "out", device="cpu", **options)
    assert not (tmp_path / "out").exists()
