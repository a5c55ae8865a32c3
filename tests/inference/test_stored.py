"""What a run stores, and in which arithmetic: features in half the bytes or none, never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_ood import Bundle, Run, RunError, Slide, open_run, open_slide, run_slide
from napari_ood.analysis.difference import compare_runs
from napari_ood.analysis.scored import ScoredRun
from napari_ood.cli import main
from napari_ood.export import export_run
from napari_ood.inference.asked import Asked
from napari_ood.inference.store import RunWriter
from napari_ood.models import InferenceNet
from napari_ood.models.precision import ENVIRONMENT, Arithmetic
from napari_ood.passport import make_passport
from napari_ood.passport.check import Light
from napari_ood.viewer.maps import Maps, Overlay

pytestmark = pytest.mark.usefixtures("small_shards")


def cancel_after(n: int) -> tuple[list[object], dict[str, object]]:
    seen: list[object] = []
    return seen, {"on_progress": seen.append, "cancel": lambda: len(seen) >= n}


@pytest.fixture(scope="module")
def runs(
    slide_path: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Run]:
    """The same slide with features stored in each way."""
    out = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch, open_slide(slide_path) as slide:
        patch.setattr("napari_ood.inference.plan.BLOCK_PX", 256)
        patch.setattr("napari_ood.inference.plan.SHARD_TILES", (2, 32))
        return {
            how: run_slide(slide, tiny_bundle, out / f"{how}.ood.zarr", device="cpu", features=how)
            for how in ("float32", "float16", "none")
        }


def test_features_take_the_bytes_that_were_asked_for(runs: dict[str, Run]) -> None:
    full, half, none = runs["float32"], runs["float16"], runs["none"]
    assert [run.features_as for run in (full, half, none)] == ["float32", "float16", "none"]
    for run in runs.values():
        np.testing.assert_array_equal(run.logits, full.logits)
        assert run.complete
    np.testing.assert_array_equal(half.features, full.features.astype(np.float16))
    assert half.features.dtype == np.float32
    sizes = {how: run.bytes_per_tile() for how, run in runs.items()}
    for how, run in runs.items():
        on_disk = sum(f.stat().st_size for f in run.path.rglob("*") if f.is_file())
        assert sum(sizes[how].values()) * run.n_tiles == pytest.approx(on_disk)
    assert sizes["none"]["features"] == 0 < sizes["float16"]["features"]
    assert sizes["float16"]["features"] < 0.65 * sizes["float32"]["features"]
    assert not (none.path / "features").exists()


def test_float16_moves_no_score_beyond_its_rounding(runs: dict[str, Run]) -> None:
    full, half = runs["float32"], runs["float16"]
    np.testing.assert_array_equal(full.score("entropy"), half.score("entropy"))
    for name in ("mahalanobis@layer1", "mahalanobis@penultimate", "knn"):
        a, b = full.score(name), half.score(name)
        assert np.abs(a - b).max() <= 5e-3 * np.ptp(a), name


def test_a_run_without_features_has_the_scores_of_its_logits_and_says_why(
    runs: dict[str, Run], slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    none, full = runs["none"], runs["float32"]
    np.testing.assert_array_equal(none.score("uncertainty"), full.score("uncertainty"))
    np.testing.assert_array_equal(none.prediction_map(), full.prediction_map())
    reasons = "run for its prediction only and holds no features"
    for ask in (
        lambda: none.features,
        lambda: list(none.feature_pieces()),
        lambda: none.features_of(np.array([0])),
        lambda: none.score("ood"),
        lambda: none.map("mahalanobis@layer1"),
        lambda: ScoredRun(none).score("ood"),
        lambda: compare_runs(ScoredRun(none), ScoredRun(full), "ood"),
    ):
        with pytest.raises(RunError, match=reasons):
            ask()
    row, col = (int(i) for i in none.index[3])
    logits, features = none.tile(row, col)
    np.testing.assert_array_equal(logits, full.logits[3])
    assert features is None
    scored = ScoredRun(none)
    assert dict(scored.roles) == {"uncertainty": "entropy"}
    assert set(scored.names()) == {n for n in ScoredRun(full).names() if "@" not in n} - {"knn"}
    checks = {check.key: check for check in make_passport(slide, tiny_bundle, none).checks}
    assert checks["ood"].light is Light.GREY and reasons in checks["ood"].words
    assert checks["run"].light is Light.GREEN
    maps = Maps.of_run(none, tiny_bundle)
    assert Overlay.OOD not in maps.overlays and Overlay.UNCERTAINTY in maps.overlays
    assert "prediction only" in maps.no_ood
    assert Maps.of_run(full, tiny_bundle).no_ood == ""
    paths = export_run(scored, tmp_path / "exported", ("csv", "geojson", "report"), slide=slide)
    table = next(p for p in paths if p.suffix == ".csv").read_text().splitlines()
    assert "score_uncertainty" in table[0] and "score_ood" not in table[0]
    assert len(table) == none.n_tiles + 1
    report = next(p for p in paths if p.suffix == ".html").read_text("utf-8")
    assert "holds no features" in report


@pytest.mark.parametrize("how", ["float16", "none"])
def test_a_run_goes_on_as_it_was_begun(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, runs: dict[str, Run], how: str
) -> None:
    out = tmp_path / "part.ood.zarr"
    _, options = cancel_after(1)
    part = run_slide(slide, tiny_bundle, out, device="cpu", features=how, **options)
    assert not part.complete
    for other in {"float32", "float16", "none"} - {how}:
        with pytest.raises(RunError, match=r"was begun with.*leave --features"):
            run_slide(slide, tiny_bundle, out, device="cpu", features=other)
    whole = run_slide(slide, tiny_bundle, out, device="cpu")  # as it is
    assert whole.complete and whole.features_as == how
    np.testing.assert_array_equal(whole.logits, runs[how].logits)
    if how != "none":
        np.testing.assert_array_equal(whole.features, runs[how].features)


def test_features_beyond_float16_are_refused_and_nothing_half_written_counts(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = InferenceNet.forward
    calls: list[int] = []

    def huge(self: InferenceNet, tiles: object) -> object:
        logits, features = forward(self, tiles)
        calls.append(1)
        return logits, features + (70_000 if len(calls) == 3 else 0)

    monkeypatch.setattr(InferenceNet, "forward", huge)
    out = tmp_path / "huge.ood.zarr"
    with pytest.raises(RunError, match=r"features up to 7e\+04 do not fit into float16"):
        run_slide(slide, tiny_bundle, out, device="cpu", features="float16")
    left = open_run(out)
    assert not left.complete and np.isfinite(left.features).all()
    calls.extend([1] * 9)
    assert run_slide(slide, tiny_bundle, out, device="cpu").complete
    monkeypatch.setattr(InferenceNet, "forward", forward)


def test_older_runs_open_as_fp32_with_features(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """Runs of before there was a choice record neither arithmetic nor how features are stored."""
    out = tmp_path / "old.ood.zarr"
    _, options = cancel_after(1)
    run_slide(slide, tiny_bundle, out, device="cpu", **options)
    group = zarr.open_group(out, mode="r+")
    record = dict(group.attrs["napari_ood_run"])
    assert record.pop("arithmetic") == {
        "precision": "fp32", "layout": "channels_last", "convolution": "direct",
    }  # fmt: skip
    assert record.pop("features") == "float32"
    group.attrs["napari_ood_run"] = record
    old = open_run(out)
    assert str(old.arithmetic) == "fp32, channels_last" and old.has_features
    assert len(old.features) == old.n_tiles
    with pytest.raises(RunError, match="was begun in fp32"):
        run_slide(slide, tiny_bundle, out, device="cpu", precision="bf16")
    assert run_slide(slide, tiny_bundle, out, device="cpu", features="float32").complete


def test_a_run_never_mixes_precisions(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_slide(slide, tiny_bundle, tmp_path / "w.zarr", device="cpu", precision="bf16")
    exact = run_slide(slide, tiny_bundle, tmp_path / "e.zarr", device="cpu", precision="fp32")
    assert not np.array_equal(whole.features, exact.features)
    np.testing.assert_allclose(
        whole.features, exact.features, atol=0.05 * np.abs(exact.features).max()
    )
    out = tmp_path / "p.zarr"
    _, options = cancel_after(1)
    run_slide(slide, tiny_bundle, out, device="cpu", precision="bf16", **options)
    with pytest.raises(RunError, match="was begun in bf16 and goes on in it"):
        run_slide(slide, tiny_bundle, out, device="cpu", precision="fp32")
    monkeypatch.setenv(ENVIRONMENT, "fp32")  # says what auto means in new runs only
    resumed = run_slide(slide, tiny_bundle, out, device="cpu")
    assert resumed.complete and resumed.arithmetic.precision == "bf16"
    np.testing.assert_array_equal(resumed.features, whole.features)
    np.testing.assert_array_equal(resumed.logits, whole.logits)


def test_fp32_is_not_what_a_run_goes_on_in_with_other_convolutions(tmp_path: Path) -> None:
    """It promises the bits of direct ones."""
    record = {"arithmetic": Arithmetic(convolution="winograd").to_dict()}
    Asked("auto", None, "cpu", 8).check(tmp_path, record)
    with pytest.raises(RunError, match=r"winograd and goes on in it: leave --precision out"):
        Asked("fp32", None, "cpu", 8).check(tmp_path, record)
    Asked("fp32", None, "cpu", 8).check(tmp_path, {})


def test_a_shard_that_does_not_fit_is_not_marked_done(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    _, options = cancel_after(0)
    run = run_slide(
        slide, tiny_bundle, tmp_path / "r.zarr", device="cpu", features="float16", **options
    )
    writer = RunWriter.resume(run.path)
    from napari_ood.inference.store import shards

    shard = next(s for s in shards(run.done.shape, tuple(run.provenance["shard"])))
    index = np.array([[shard.top, shard.left]])
    logits = np.zeros((1, *run.logits.shape[1:]), np.float32)
    good = np.array([[np.nan, np.inf, 65504.0] + [0.0] * (run.card.n_features - 3)], np.float32)
    bad = good.copy()
    bad[0, 2] = 65520.0  # the first float32 that rounds to infinity
    with pytest.raises(RunError, match="do not fit into float16"):
        writer.write(shard, index, logits, bad)
    assert not writer.done(shard).any()
    writer.write(shard, index, logits, good)  # what is not finite was not finite before
    assert writer.done(shard).sum() == 1


def test_the_command_line_stores_as_asked_and_says_what_a_tile_takes(
    slide_path: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(slide_path), "--model", str(tiny_bundle.path), "--device", "cpu"]
    out = tmp_path / "out"
    assert (
        main([*command, "--out", str(out), "--no-features", "--precision", "bf16", "--json"]) == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert (facts["features"], facts["precision"]) == ("none", "bf16")
    assert facts["bytes_per_tile"]["features"] == 0 < facts["bytes_per_tile"]["logits"]
    run = out / "disc.ood.zarr"
    assert main(["info", str(run), "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["bytes_per_tile"] == facts["bytes_per_tile"]
    assert (known["precision"], known["features"], known["complete"]) == ("bf16", "none", True)
    assert main(["info", str(run)]) == 0
    assert "none: prediction and uncertainty only" in capsys.readouterr().out
    assert main([*command, "--out", str(out), "--precision", "fp32"]) == 2
    assert "was begun in bf16" in capsys.readouterr().err
    assert main([*command, "--out", str(out)]) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "e"), "--threshold", "ood=keep:90%"])
    assert "holds no features" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--out", str(out), "--no-features", "--features", "float16"])
