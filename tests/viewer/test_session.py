"""The session, without Qt and without napari."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_ood import Bundle, Slide, open_run, open_slide
from napari_ood.viewer.checks import check_run, parse_mpp
from napari_ood.viewer.job import Job, Request
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.output import choose_output
from napari_ood.viewer.session import Session
from napari_ood.viewer.state import Phase, Scope

from .conftest import write_slide


class HeldJob(Job):
    """A job that ends when the test says so."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.ended = False

    def start(self) -> None: ...

    @property
    def alive(self) -> bool:
        return not self.ended


class Recorder:
    """Keeps what a session says."""

    def __init__(self, session: Session) -> None:
        self.changes: list[Any] = []
        self.failures: list[str] = []
        session.changed.connect(self._on_changed)
        session.failed.connect(self._on_failed)

    def _on_changed(self, new: Any, old: Any) -> None:
        self.changes.append((new, old))

    def _on_failed(self, message: str) -> None:
        self.failures.append(message)


def test_the_session_loads_neither_qt_nor_napari_nor_torch():
    code = (
        "import sys, napari_ood.viewer.session\n"
        "print([m for m in ('napari', 'qtpy', 'PyQt6', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_change_is_one_snapshot_and_nothing_is_said_without_one(slide: Slide):
    session = Session()
    heard = Recorder(session)
    session.set_scope(Scope.VIEW)
    session.set_scope(Scope.VIEW)
    session.set_opacity(session.state.opacities[Overlay.OOD])
    assert len(heard.changes) == 1
    new, old = heard.changes[0]
    assert (new.scope, old.scope) == (Scope.VIEW, Scope.SLIDE)
    assert new.differs(old, "scope")
    assert not new.differs(old, "slide", "results")


def test_a_run_needs_slide_bundle_and_mpp(tmp_path: Path, slide: Slide, tiny_bundle: Bundle):
    session = Session(HeldJob)
    assert not session.start()
    session.add_slide(open_slide(write_slide(tmp_path / "unscaled.tif", mpp=None)))
    session.use_bundle(tiny_bundle)
    check = check_run(session.state.slide, session.state.bundle)
    assert check is not None
    assert check.blocking
    assert "µm per pixel" in check.text
    assert not session.start()
    session.set_mpp(0.5)
    assert session.state.slide is not None
    assert session.state.slide.mpp == (0.5, 0.5)
    assert session.start()


def test_too_coarse_a_slide_is_said_before_the_run(tmp_path: Path, tiny_bundle: Bundle):
    coarse = open_slide(write_slide(tmp_path / "coarse.tif", mpp=1.2))
    check = check_run(coarse, tiny_bundle)
    assert check is not None
    assert not check.blocking
    far = open_slide(write_slide(tmp_path / "far.tif", mpp=20.0))
    check = check_run(far, tiny_bundle)
    assert check is not None
    assert check.blocking


def test_phases_of_a_run(slide: Slide, tiny_bundle: Bundle):
    session = Session(HeldJob)
    heard = Recorder(session)
    session.add_slide(slide)
    session.use_bundle(tiny_bundle)
    assert session.start()
    assert not session.start(), "one run at a time"
    assert session.state.phase is Phase.RUNNING
    assert session.poll()
    session.cancel()
    assert session.state.phase is Phase.CANCELLING
    job = session._job
    assert isinstance(job, HeldJob)
    assert job.cancelled
    job.error, job.ended = "the disk is full", True
    assert not session.poll()
    assert session.state.phase is Phase.IDLE
    assert heard.failures == ["the disk is full"]
    assert not session.poll()
    assert heard.failures == ["the disk is full"], "a failure is said once"


def test_removing_the_slide_stops_its_run(slide: Slide, tiny_bundle: Bundle):
    session = Session(HeldJob)
    session.add_slide(slide)
    session.use_bundle(tiny_bundle)
    session.start()
    session.remove_slide(slide)
    assert session._job is not None
    assert session._job.cancelled
    assert session.state.slide is None


def test_a_damaged_bundle_is_one_message_and_the_old_one_stays(tmp_path: Path, tiny_bundle: Bundle):
    session = Session()
    heard = Recorder(session)
    session.use_bundle(tiny_bundle)
    session.choose_bundle(tmp_path / "nothing")
    assert len(heard.failures) == 1
    assert "\n" not in heard.failures[0]
    assert session.state.bundle is tiny_bundle


def test_a_slide_whose_file_went_away_is_one_message(slide: Slide, tiny_bundle: Bundle):
    session = Session(HeldJob)
    heard = Recorder(session)
    session.add_slide(slide)
    slide.path.unlink()
    session.use_bundle(tiny_bundle)
    assert heard.failures == []
    assert not session.start()
    assert len(heard.failures) == 1
    assert "cannot be read any more" in heard.failures[0]
    assert session.state.phase is Phase.IDLE


def test_outputs_never_collide_and_the_same_run_goes_on(slide: Slide, tiny_bundle: Bundle):
    from napari_ood import run_slide

    folder = slide.path.parent
    first = choose_output(slide, tiny_bundle)
    assert first.path == folder / "half.ood.zarr"
    assert not first.resumes
    run_slide(slide, tiny_bundle, first.path, region=(0, 0, 128, 128), device="cpu")
    other = choose_output(slide, tiny_bundle)
    assert other.path == folder / "half-2.ood.zarr", "another region is another run"
    same = choose_output(slide, tiny_bundle, (0, 0, 128, 128))
    assert same.path == first.path
    assert same.complete
    assert same.n_total == open_run(first.path).n_tiles > 0
    other.path.mkdir()
    (other.path / "letter.txt").write_text("not a run")
    assert choose_output(slide, tiny_bundle).path == folder / "half-3.ood.zarr"


@pytest.mark.parametrize(("text", "mpp"), [("0.25", 0.25), (" 0,5 ", 0.5)])
def test_mpp_is_read_as_people_type_it(text: str, mpp: float):
    assert parse_mpp(text) == mpp


@pytest.mark.parametrize("text", ["", "20x", "250", "0", "-1", "nan"])
def test_mpp_that_cannot_be_is_refused(text: str):
    with pytest.raises(ValueError, match="µm"):
        parse_mpp(text)
