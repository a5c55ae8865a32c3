"""The doctor: what it finds, and what it says about what is broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_ood.cli import main
from napari_ood.doctor import Finding, checks, diagnose, libraries, usable

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about Linux")


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_this_installation_is_examined(
    tiny_bundle: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tiny_bundle.path.parent))
    code = main(["doctor", "--json"])
    records = json.loads(capsys.readouterr().out)
    found = {record["name"]: record for record in records}
    assert code == (0 if all(r["status"] != "problem" for r in records) else 1)
    for name in ("napari-ood", "Python", "torch", "napari", "Qt", "OpenSlide", "imagecodecs"):
        assert found[name]["status"] == "ok", found[name]
    assert any(r["name"] == "device" and r["value"].startswith("cpu: ") for r in records)
    assert any(r["name"] == "bundle" and r["value"].startswith("tiny: ") for r in records)


@linux
def test_opengl_renderer_is_named() -> None:
    if not libraries.has_display() and shutil.which("xvfb-run") is None:
        pytest.skip("needs a display or xvfb-run")
    finding = by_name(list(checks.opengl()))["OpenGL"]
    assert finding.status == "ok", finding
    assert "Mesa" in finding.value or "NVIDIA" in finding.value or "AMD" in finding.value


@linux
def test_a_probe_that_aborts_is_a_finding_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    finding = by_name(list(checks.opengl()))["OpenGL"]
    assert finding.status == "problem"
    assert "no OpenGL context" in finding.value
    assert finding.advice


def test_a_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("probe", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    monkeypatch.setattr(checks, "has_display", lambda: True)
    assert "no answer" in by_name(list(checks.opengl()))["OpenGL"].value


@linux
def test_missing_libraries_become_an_apt_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_loads", lambda name: name != "libxcb-cursor.so.0")
    monkeypatch.setenv("DISPLAY", ":987")
    assert libraries.missing_packages() == ["libxcb-cursor0"]
    finding = by_name(list(checks.opengl()))["system libraries"]
    assert finding.status == "problem"
    assert finding.advice == "sudo apt install libxcb-cursor0"


@linux
def test_libraries_runs_on_a_bare_python() -> None:
    command = [sys.executable, "-I", "-S", libraries.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == libraries.missing_packages()


def test_without_display_and_virtual_screen_windows_are_a_limit_not_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "has_display", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    finding = by_name(list(checks.opengl()))["OpenGL"]
    assert finding.status == "note"
    assert "xvfb" in finding.advice


def test_a_damaged_bundle_is_a_problem(
    tiny_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle.path, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tmp_path))
    problems = [f for f in checks.bundles() if f.status == "problem"]
    assert len(problems) == 1
    assert "model.safetensors" in problems[0].value


def test_a_cache_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_OOD_CACHE", str(tmp_path / "file" / "sub"))
    (finding,) = checks.cache()
    assert finding.status == "problem"
    assert "NAPARI_OOD_CACHE" in finding.advice


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("before", "ok", "seen")
        raise ImportError("libwhatever.so: cannot open shared object file")

    def fine() -> Iterator[Finding]:
        yield Finding("after", "ok", "seen")

    monkeypatch.setattr(checks, "CHECKS", (broken, fine))
    findings = diagnose()
    assert [finding.name for finding in findings] == ["before", "broken", "after"]
    assert not usable(findings)
    assert main(["doctor"]) == 1
    assert "PROBLEM: ImportError: libwhatever.so" in capsys.readouterr().out
