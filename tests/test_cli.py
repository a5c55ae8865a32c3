"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_ood import OodError, SlideError, open_run
from napari_ood.cli import main
from napari_ood.cli.parser import build_parser
from napari_ood.cli.progress import StatusLine, clock
from napari_ood.inference import Progress


def write_slide(path: Path, mpp: float | None = 0.5) -> Path:
    """Write a 512 × 640 px slide: glass with a square of 256 px of something pink."""
    rng = np.random.default_rng(1)
    pixels = np.full((512, 640, 3), 240, np.uint8)
    pixels[128:384, 64:320] = rng.integers((150, 60, 130), (220, 140, 200), (256, 256, 3))
    where: dict[str, Any] = {}
    if mpp is not None:
        where = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", **where)
    return path


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "pink.tif")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def in_process_of_its_own(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_ood", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_info(slide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", slide, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["width"], facts["height"], facts["mpp"]) == (640, 512, [0.5, 0.5])
    assert facts["levels"][0] == {
        "height": 512, "width": 640, "downsample": [1.0, 1.0], "stored": True,
    }  # fmt: skip
    assert facts["tissue_mm2"] == pytest.approx((256 * 0.5e-3) ** 2, rel=0.05)
    assert run("info", slide) == 0
    table = capsys.readouterr().out
    assert "640 × 512 px" in table
    assert "0.5 µm/px" in table


def test_info_asks_for_the_mpp_and_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_slide(tmp_path / "bare.tif", mpp=None)
    assert run("info", slide, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["mpp"] is None
    assert facts["tissue_mm2"] is None
    assert any("--mpp" in warning for warning in facts["warnings"])
    assert run("info", slide, "--json", "--mpp", "0.25") == 0
    assert json.loads(capsys.readouterr().out)["mpp"] == [0.25, 0.25]


def test_run_writes_a_run_and_goes_on_with_it(
    slide: Path, tiny_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (
        "run",
        slide,
        "--model",
        tiny_bundle.path,
        "--out",
        tmp_path / "o",
        "--device",
        "cpu",
    )
    assert run(*command, "--json") == 0
    out, err = capsys.readouterr()
    facts = json.loads(out.splitlines()[-1])
    stored = open_run(tmp_path / "o" / "pink.ood.zarr")
    assert Path(facts["run"]) == stored.path
    # 256 px of 0.5 µm are 4 tiles of 32 px of 1 µm; tiles that barely touch them do not count.
    assert facts["n_tiles"] == facts["n_total"] == facts["n_new"] == stored.n_tiles >= 16
    assert facts["complete"] is True
    assert facts["device"] == "cpu"
    # Seconds are rounded to milliseconds, and so few tiles take a handful of them.
    assert facts["seconds"] == pytest.approx(facts["n_tiles"] / facts["tiles_per_s"], abs=0.001)
    assert set(facts["stage_seconds"]) == {"read", "forward", "write"}
    assert facts["stage_seconds"]["forward"] > 0
    assert f"{stored.n_tiles}/{stored.n_tiles} tiles" in err
    assert run(*command) == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_run_region_is_x_y_w_h(
    slide: Path, tiny_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", tiny_bundle.path, "--region", "320,128,192,128", "--no-tissue")
    assert run("run", slide, *options, "--out", tmp_path, "--stride", "16") == 0
    boxes = open_run(tmp_path / "pink.ood.zarr").boxes
    y, x = boxes[:, 0].min(), boxes[:, 1].min()
    assert (y, x) == (128, 320)
    assert np.unique(np.diff(np.unique(boxes[:, 1]))) == 32
    assert boxes[:, 0].max() + 64 >= 128 + 128
    assert boxes[:, 1].max() + 64 >= 320 + 192
    assert run("run", slide, "--model", tiny_bundle.path, "--out", tmp_path) == 2
    assert "another" in capsys.readouterr().err


def test_run_says_what_a_whole_image_is(
    image_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "lesion.png"
    pixels = np.random.default_rng(2).integers(60, 250, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    command = ("run", image, "--model", image_bundle.path, "--out", tmp_path, "--device", "cpu")
    assert run(*command, "--json") == 0
    out, err = capsys.readouterr()
    judged = json.loads(out)["image"]
    stored = open_run(tmp_path / "lesion.ood.zarr")
    p = dict(zip(stored.classes, stored.probabilities()[0], strict=True))
    assert judged["probabilities"] == pytest.approx(p, abs=1e-4)
    assert judged["prediction"] == max(p, key=lambda name: p[name])
    ood = judged["scores"]["ood"]
    assert ood["value"] == pytest.approx(stored.score("ood")[0], abs=1e-3)
    familiar = image_bundle.reference.validation_scores(ood["score"])
    assert ood["share_below"] == pytest.approx((familiar < ood["value"]).mean(), abs=0.03)
    assert "µm" not in err and "mpp" not in err, "its scale does not matter"
    assert run(*command) == 0
    said = capsys.readouterr().out
    assert f"{judged['prediction']} {100 * max(p.values()):.0f} %" in said
    assert "more foreign than" in said
    assert run(*command, "--stride", "4") == 2
    assert "judges an image as a whole" in capsys.readouterr().err


def test_a_slide_that_fails_does_not_stop_the_others(
    slide: Path, tiny_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"this is no slide")
    unscaled = write_slide(tmp_path / "unscaled.tif", mpp=None)
    command = ["run", bad, unscaled, slide, "--model", tiny_bundle.path, "--out", tmp_path / "o"]
    assert run(*command, "--json") == 2
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record.get("error") for record in records] == ["SlideError", "SlideError", None]
    assert records[2]["complete"] is True
    errors = [line for line in err.splitlines() if line.startswith("napari-ood: ")]
    assert len(errors) == 2
    assert "bad.svs" in errors[0]
    assert "--mpp" in errors[1]


def test_slides_of_one_name_are_refused_before_anything_runs(
    slide: Path, tiny_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = write_slide(tmp_path / "other" / "Pink.tiff")
    out = tmp_path / "o"
    assert run("run", slide, twin, "--model", tiny_bundle.path, "--out", out) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert str(slide) in err
    assert str(twin) in err
    assert not out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process on Windows")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    tiny_bundle: Any,
    slide: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strip = ("--no-tissue", "--region", "0,0,640,160", "--stride", "4")
    options = ("run", slide, "--model", tiny_bundle.path, *strip, "--out")
    assert run(*options, tmp_path / "whole") == 0
    show = StatusLine.show_run

    def interrupt(line: StatusLine, name: str, progress: Progress) -> None:
        show(line, name, progress)
        if progress.n_done == progress.index.shape[0]:  # the first shard
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(StatusLine, "show_run", interrupt)
    assert run(*options, tmp_path / "cut") == 130
    assert signal.getsignal(signal.SIGINT) is before
    kept = open_run(tmp_path / "cut" / "pink.ood.zarr")
    assert 0 < kept.n_tiles < kept.tissue.sum()
    assert f"kept {kept.n_tiles:,} tiles; run the same command" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(*options, tmp_path / "cut") == 0
    whole, cut = (open_run(tmp_path / name / "pink.ood.zarr") for name in ("whole", "cut"))
    np.testing.assert_array_equal(cut.logits, whole.logits)


def test_models_lists_cards_and_broken_bundles(
    tiny_bundle: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    folders = os.pathsep.join([str(tiny_bundle.path.parent), str(tmp_path)])
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", folders)
    assert run("models", "--json") == 0
    found = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert found["tiny"]["card"]["class_names"] == ["red", "green", "blue"]
    assert found["tiny"]["error"] is None
    assert found["broken"]["card"] is None
    assert run("models") == 0
    table = capsys.readouterr().out
    assert "red, green, blue" in table
    assert found["broken"]["error"] in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--region", "1,2,3"], "four whole numbers"),
        (["--region", "1,2,0,5"], "at least 1 pixel"),
        (["--batch-size", "0"], "at least 1"),
        (["--mpp", "nan"], "above 0"),
    ],
)
def test_bad_values_are_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run("run", "a.svs", "--model", "m", "--out", "o", *arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_device_that_is_not_there(
    slide: Path, tiny_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", tiny_bundle.path, "--out", tmp_path / "o", "--device", "cuda:99")
    assert run("run", slide, *options) == 2
    assert "cpu" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [(SlideError("two\nlines"), 2, "two lines"), (ValueError("odd"), 1, "--debug")],
)
def test_every_error_is_one_line(
    error: Exception,
    code: int,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("napari_ood.slides.slide.open_slide", fail)
    monkeypatch.setattr("napari_ood.slides.open_slide", fail, raising=False)
    assert run("info", "x.svs") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("napari-ood: ")
    assert err.count("\n") == 1
    assert hint in err
    assert run("info", "x.svs", "--debug") == code
    assert "Traceback" in capsys.readouterr().err


def test_a_process_fails_in_one_line_with_its_exit_code(tmp_path: Path) -> None:
    text = tmp_path / "note.svs"
    text.write_text("no slide at all")
    done = in_process_of_its_own("info", text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("napari-ood: ")
    assert "note.svs" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX pipe")
def test_a_reader_that_goes_away_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "napari_ood", "models"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_open_refuses_what_is_not_there_and_where_no_display_is(
    slide: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("open", slide.with_name("gone.svs")) == 2
    assert "does not exist" in capsys.readouterr().err
    monkeypatch.setattr("napari_ood.cli.window.has_display", lambda: False)
    assert run("open", slide) == 2
    assert "no display" in capsys.readouterr().err


SUMMARY = {
    "slide": "sample.ome.tif", "run": "demo/sample.ood.zarr", "bundle": "synthetic-he",
    "device": "cpu", "n_tiles": 30, "seconds": 2.0, "tiles_per_s": 15.0, "accuracy": 0.875,
    "tiles": {"in_distribution": 20, "ink": 10, "fold": 0},
    "ood_auroc": {"overall": 0.9871, "ink": 0.9871, "fold": None},
    "uncertainty_auroc": {"overall": 0.5125, "ink": 0.5125, "fold": None},
}  # fmt: skip


@pytest.fixture
def photographed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The demo with its run left out, and the commands that it starts instead of a window."""
    commands: list[list[str]] = []

    def start(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "qt.qpa.xcb: no such luck\n", "")

    monkeypatch.setattr("napari_ood.demo.run_demo", lambda *_, **__: SUMMARY)
    monkeypatch.setattr("napari_ood.cli.window.has_display", lambda: False)
    monkeypatch.setattr("napari_ood.cli.window.subprocess.run", start)
    return commands


def test_demo_without_a_window_prints_the_summary(
    photographed: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("demo", "--no-window") == 0
    table = capsys.readouterr().out
    assert re.search(r"overall +10 +0\.987 +0\.512\n", table)
    assert re.search(r"ink +10 +0\.987 +0\.512\n", table)
    assert re.search(r"fold +0 +- +-\n", table)
    assert "0.875 on tiles without foreign regions" in table
    assert photographed == []


def test_demo_without_a_display_opens_its_window_on_a_virtual_screen(
    photographed: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert run("demo", "--out", tmp_path) == 2
    assert photographed[0][0] == "xvfb-run"
    assert str(tmp_path) in photographed[0][-1]
    out, err = capsys.readouterr()
    assert "overall" in out  # the summary is not lost with the window
    assert "no such luck" in err
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert run("demo", "--out", tmp_path) == 0
    assert "apt install xvfb" in capsys.readouterr().err


def progress(n_done: int, n_total: int = 100) -> Progress:
    empty = np.empty((0, 2))
    return Progress(n_done, n_total, 1.0, 12.5, 90.0, {}, empty, empty, empty)  # type: ignore[arg-type]


class Terminal:
    """A stream that says what it is and keeps what it is given."""

    def __init__(self, tty: bool) -> None:
        self.tty, self.text = tty, ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


def test_progress_is_one_line_on_a_terminal_and_sparse_elsewhere() -> None:
    for tty, lines in ((True, 1), (False, 2)):
        stream = Terminal(tty)
        with StatusLine(stream) as line:  # type: ignore[arg-type]
            for n in range(1, 101):
                line.show_run("a", progress(n))
        assert stream.text.count("\n") == lines
        assert "1/100 tiles, 12.5 tiles/s, 1:30 left" in stream.text
        assert "100/100 tiles" in stream.text
        assert stream.text.endswith("\n")


def test_clock() -> None:
    assert [clock(s) for s in (0.2, 59.6, 3725)] == ["0:00", "1:00", "1:02:05"]


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("info", "run", "open", "models", "train", "evaluate", "demo", "doctor"):
        with pytest.raises(SystemExit) as stop:
            build_parser().parse_args([command, "--help"])
        assert stop.value.code == 0
        assert "--debug" in capsys.readouterr().out


def test_errors_share_one_base() -> None:
    assert issubclass(SlideError, OodError)
