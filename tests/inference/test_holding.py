"""One writer at a time: real processes, some of which are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from napari_ood import Bundle, RunError, Slide, run_slide
from napari_ood.inference.holding import (
    WHOLE_FOLDER,
    HeldError,
    Holder,
    check_run,
    holding_folder,
    holding_run,
)

HOLD = """
import sys, time
from pathlib import Path
from napari_ood.inference.holding import holding_run
with holding_run(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(120)
"""


@contextmanager
def held_elsewhere(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes a run."""
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        try:
            yield process
        finally:
            process.kill()


def lock_of(run: Path) -> Path:
    return run.with_name(f".{run.name}.lock")


def test_a_run_that_another_process_writes_is_refused_until_that_is_killed(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "a.ood.zarr"
    with held_elsewhere(out) as process:
        with pytest.raises(HeldError, match=f"process {process.pid} on .* since 20.* UTC: wait"):
            run_slide(slide, tiny_bundle, out, device="cpu")
        with pytest.raises(HeldError):
            check_run(out)
        assert not out.exists()
        process.kill()
        process.wait()
        assert lock_of(out).exists()
        check_run(out)
        assert run_slide(slide, tiny_bundle, out, device="cpu").complete
    assert list(tmp_path.iterdir()) == [out]


def test_a_number_that_was_given_to_another_process_does_not_hold(tmp_path: Path) -> None:
    out = tmp_path / "a.ood.zarr"
    this = Holder.this()
    with holding_run(out):
        assert json.loads(lock_of(out).read_text())["process"] == asdict(this.process)
    before = replace(this, process=replace(this.process, began="0"))
    lock_of(out).write_text(json.dumps(asdict(before)))
    with holding_run(out):
        pass
    rebooted = replace(this, process=replace(this.process, boot="another"))
    lock_of(out).write_text(json.dumps(asdict(rebooted)))
    with holding_run(out):
        pass


@pytest.mark.parametrize("field", ["host", "space"])
def test_what_cannot_be_told_from_here_is_left_and_how_to_go_on_is_said(
    tmp_path: Path, field: str
) -> None:
    out, this = tmp_path / "a.ood.zarr", Holder.this()
    there = replace(this, process=replace(this.process, **{field: "elsewhere"}))
    lock_of(out).write_text(json.dumps(asdict(there)))
    with pytest.raises(HeldError, match="delete ") as refused, holding_run(out):
        pass
    assert str(lock_of(out)) in str(refused.value)
    assert there.process.host in str(refused.value)
    lock_of(out).unlink()
    with holding_run(out):
        pass


def test_a_file_that_says_nothing_holds(tmp_path: Path) -> None:
    lock_of(tmp_path / "a").touch()
    with pytest.raises(HeldError, match="delete "), holding_run(tmp_path / "a"):
        pass


def test_a_cohort_and_a_run_of_its_folder_exclude_each_other(tmp_path: Path) -> None:
    out = tmp_path / "a.ood.zarr"
    with holding_folder(tmp_path):
        with pytest.raises(HeldError, match=str(tmp_path)), holding_run(out):
            pass
        with pytest.raises(HeldError), holding_folder(tmp_path):
            pass
        check_run(out)
    with holding_run(out), holding_folder(tmp_path), pytest.raises(HeldError):
        check_run(out)
    assert not list(tmp_path.iterdir())


def test_of_many_that_take_over_at_once_one_gets_it(tmp_path: Path) -> None:
    """Each round, eight threads find what a dead process left."""
    out = tmp_path / "a"
    dead = Holder.this()
    dead = replace(dead, process=replace(dead.process, began="0"))
    for _ in range(20):
        lock_of(out).write_text(json.dumps(asdict(dead)))
        inside, refused, all_tried = list[int](), list[int](), threading.Barrier(8)

        def take(
            i: int, inside: list[int] = inside, refused: list[int] = refused,
            all_tried: threading.Barrier = all_tried,
        ) -> None:  # fmt: skip
            try:
                with holding_run(out):
                    inside.append(i)
                    all_tried.wait(20)
            except HeldError:
                refused.append(i)
                all_tried.wait(20)

        threads = [threading.Thread(target=take, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(inside), len(refused)) == (1, 7)
        assert not list(tmp_path.iterdir())


def test_folders_that_were_made_for_nothing_are_gone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), holding_run(tmp_path / "b" / "c" / "a"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="folders are not made read-only so")
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may write anywhere")
def test_a_complete_run_is_opened_where_nothing_can_be_written(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "a.ood.zarr"
    run_slide(slide, tiny_bundle, out, device="cpu")
    out.parent.chmod(0o555)
    try:
        assert run_slide(slide, tiny_bundle, out, device="cpu").complete
        with pytest.raises(RunError, match="cannot write"):
            run_slide(slide, tiny_bundle, out.with_name("b.ood.zarr"), device="cpu")
    finally:
        out.parent.chmod(0o755)


def test_the_folder_of_a_cohort_is_its_own_whatever_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cohort"
    with holding_folder(folder):
        assert (folder / WHOLE_FOLDER).is_file()
        (folder / "kept.txt").touch()
    assert list(folder.iterdir()) == [folder / "kept.txt"]


def test_what_was_killed_while_taking_over_holds_nobody_up(tmp_path: Path) -> None:
    out, dead = tmp_path / "a", Holder.this()
    dead = replace(dead, process=replace(dead.process, began="0"))
    for path in (lock_of(out), tmp_path / f"{lock_of(out).name}.guard"):
        path.write_text(json.dumps(asdict(dead)))
    with holding_run(out):
        pass
    assert not list(tmp_path.iterdir())
