from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drawn import DrawnRun
from napari_ood.analysis.regions import Region, find_regions
from napari_ood.errors import ReviewError
from napari_ood.review import Kind, ReviewStore, Verdict

RUN = "a" * 64


def verdict(key: str = "0-0", kind: Kind = Kind.AGREE, reviewer: str = "Ada") -> Verdict:
    row, col = map(int, key.split("-"))
    return Verdict(key, (row, col, 1, 1), ((row, col),), kind, reviewer=reviewer, time="2026")


def said(store: ReviewStore) -> dict[str, Kind]:
    return {given.region_key: given.kind for given in store.verdicts()}


def three_regions() -> tuple[Region, ...]:
    run = DrawnRun([[1.0, 0, 1.0, 0, 1.0]])
    return find_regions(run, run.values > 0, "ood")  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "slide.review"


def test_verdicts_are_there_when_the_review_is_opened_again(folder: Path) -> None:
    regions = three_regions()
    store = ReviewStore(folder, RUN, "Ada")
    assert not folder.exists(), "looking writes nothing"
    assert store.progress(regions) == (0, 3)
    for region, kind in zip(regions[:2], (Kind.AGREE, Kind.SKIP), strict=True):
        store.add(Verdict.of(region, kind, reviewer="Ada"))
    store.add(Verdict.of(regions[0], Kind.UNKNOWN_TISSUE, reviewer="Ada", comment="fat? ✓\n2"))
    again = ReviewStore(folder, RUN, "Ada")
    assert again.verdicts() == store.verdicts()
    assert [given.region_key for given in again.verdicts()] == ["0-2", "0-0"]
    assert again.verdicts()[1].comment == "fat? ✓\n2"
    assert again.progress(regions) == (2, 3)
    assert again.match(regions).verdict(regions[0]) == again.verdicts()[1]
    assert again.notices == () and again.unsaved == 0


def test_undo_and_redo_work_across_restarts(folder: Path) -> None:
    def reopened() -> ReviewStore:
        return ReviewStore(folder, RUN, "Ada")

    first, second, third = verdict(), verdict(kind=Kind.SKIP), verdict("1-1")
    for each in (first, second, third):
        reopened().add(each)
    assert reopened().undo() == third
    assert reopened().undo() == second
    assert said(reopened()) == {"0-0": Kind.AGREE}, "the earlier verdict counts again"
    assert reopened().redo() == second
    assert said(reopened()) == {"0-0": Kind.SKIP}
    assert reopened().redo() == third and reopened().redo() is None
    assert reopened().undo() == third
    reopened().add(verdict("2-2"))
    assert reopened().redo() is None, "a new verdict ends what could be redone"
    assert [reopened().undo() for _ in range(4)] == [verdict("2-2"), second, first, None]
    assert reopened().verdicts() == ()


def test_two_windows_of_one_reviewer(folder: Path) -> None:
    left, right = (ReviewStore(folder, RUN, name) for name in ("Ada", " ada "))
    left.add(verdict("0-0"))
    right.add(verdict("1-1", reviewer="ADA"))
    left.add(verdict("2-2"))
    right.refresh()
    assert said(left) == said(right) == dict.fromkeys(("0-0", "1-1", "2-2"), Kind.AGREE)
    assert left.undo() == verdict("2-2")
    assert right.undo() == verdict("1-1", reviewer="ADA"), "what the other has undone is undone"
    assert left.undo() == verdict("0-0")
    assert len(list(folder.iterdir())) == 1


def test_several_reviewers_each_have_a_file(folder: Path) -> None:
    names = ["Ada", "Zoë/2", "Zoe 2", "con", "李", "x" * 300]
    stores = [ReviewStore(folder, RUN, name) for name in names]
    for i, store in enumerate(stores):
        store.add(verdict(f"{i}-0", reviewer=store.reviewer))
    assert len(list(folder.iterdir())) == len(names)
    everyone = stores[0].all_verdicts()
    assert set(everyone) == set(names)
    assert [given.region_key for given in everyone["李"]] == ["4-0"]
    assert said(stores[0]) == {"0-0": Kind.AGREE}
    assert stores[1].undo() is not None
    assert set(stores[0].all_verdicts()) == {*names} - {"Zoë/2"}
    with pytest.raises(ReviewError, match="name"):
        ReviewStore(folder, RUN, "  ")
    with pytest.raises(ValueError, match="Zoe"):
        stores[0].add(verdict(reviewer="Zoe"))


def test_a_copy_of_a_file_beside_it_counts_once(folder: Path) -> None:
    store = ReviewStore(folder, RUN, "Ada")
    store.add(verdict("0-0"))
    (file,) = folder.iterdir()
    shutil.copy(file, folder / "ada (conflict).jsonl")
    store.add(verdict("1-1"))
    again = ReviewStore(folder, RUN, "Ada")
    assert set(said(again)) == {"0-0", "1-1"}
    assert again.undo() is not None and again.undo() is not None and again.undo() is None
    assert said(ReviewStore(folder, RUN, "Ada")) == {}


def test_the_review_of_another_run_is_refused(folder: Path) -> None:
    ReviewStore(folder, RUN, "Ada").add(verdict())
    before = {file: file.read_bytes() for file in folder.iterdir()}
    for reviewer in ("Ada", "Bob"):
        with pytest.raises(ReviewError, match=r"another run.*choose another folder"):
            ReviewStore(folder, "b" * 64, reviewer)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_newer_version_and_what_is_no_folder_are_told(folder: Path) -> None:
    folder.mkdir()
    (folder / "ada.jsonl").write_text(json.dumps({"version": 2, "run": RUN}) + "\n")
    with pytest.raises(ReviewError, match="update napari-ood"):
        ReviewStore(folder, RUN, "Ada")
    with pytest.raises(ReviewError, match="choose another folder"):
        ReviewStore(folder / "ada.jsonl", RUN, "Ada")


def test_a_file_that_is_deleted_or_cut_meanwhile_loses_nothing(folder: Path) -> None:
    store = ReviewStore(folder, RUN, "Ada")
    store.add(verdict("0-0"))
    (file,) = folder.iterdir()
    file.unlink()
    with pytest.raises(ReviewError, match="moved or deleted"):
        store.add(verdict("1-1"))
    file.write_text("\n")
    with pytest.raises(ReviewError, match="cut short"):
        store.add(verdict("2-2"))
    assert set(said(store)) == {"0-0", "1-1", "2-2"} and store.unsaved == 2
    moved = store.save_to(folder.with_name("elsewhere"))
    assert set(said(ReviewStore(moved.path, RUN, "Ada"))) == {"0-0", "1-1", "2-2"}


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_a_file_cut_at_any_byte_keeps_all_that_is_whole(data: st.DataObject, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    store = ReviewStore(folder, RUN, "Ada")
    ends = []
    for i in range(3):
        store.add(verdict(f"{i}-0"))
        (file,) = folder.iterdir()
        ends.append(file.stat().st_size - 1)  # without the line break it is whole as well
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])

    again = ReviewStore(folder, RUN, "Ada")

    n_left = sum(end <= cut for end in ends)
    assert list(said(again)) == [f"{i}-0" for i in range(n_left)]
    torn = bool(whole[:cut].rpartition(b"\n")[2]) and cut not in ends
    assert len(again.notices) == torn
    again.add(verdict("9-9"))
    for opened in (again, ReviewStore(folder, RUN, "Ada")):
        assert list(said(opened)) == [*(f"{i}-0" for i in range(n_left)), "9-9"]
        assert len(opened.notices) == torn
    assert file.read_bytes().startswith(whole[:cut]), "nothing is ever rewritten"


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_disk_that_takes_half_a_line_loses_nothing(folder: Path) -> None:
    import resource

    store = ReviewStore(folder, RUN, "Ada")
    store.add(verdict("0-0"))
    (file,) = folder.iterdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 50, hard))
    try:
        with pytest.raises(ReviewError, match=r"disk.*is full, 1 change is kept"):
            store.add(verdict("1-1"))
        with pytest.raises(ReviewError, match="2 changes are kept in this window"):
            store.add(verdict("2-2"))
        with pytest.raises(ReviewError, match="3 changes"):
            store.undo()
        assert set(said(store)) == {"0-0", "1-1"} and store.unsaved == 3
        assert set(said(ReviewStore(folder, RUN, "Ada"))) == {"0-0"}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.save()
    assert store.unsaved == 0
    again = ReviewStore(folder, RUN, "Ada")
    assert said(again) == said(store) == dict.fromkeys(("0-0", "1-1"), Kind.AGREE)
    assert "cut off" in again.notices[0]
    assert again.redo() == verdict("2-2")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder with a review by Ada in which this process may not write."""
    if os.name != "posix":
        pytest.skip("permissions of folders are POSIX")
    base = Path(tempfile.mkdtemp())
    ReviewStore(base / "old.review", RUN, "Ada").add(verdict())
    user = os.geteuid()
    for path in (base / "old.review", base):
        path.chmod(0o555)
    for path in (base / "old.review").iterdir():
        path.chmod(0o444)
    if user == 0:
        os.seteuid(65534)  # root may write anywhere
    try:
        yield base
    finally:
        if user == 0:
            os.seteuid(0)
        for path in (base, base / "old.review"):
            path.chmod(0o755)
        shutil.rmtree(base)


@pytest.mark.parametrize("name", ["new.review", "old.review"])
def test_a_folder_that_cannot_be_written_loses_nothing(read_only: Path, name: str) -> None:
    store = ReviewStore(read_only / name, RUN, "Ada")
    before = said(store)
    assert len(before) == (name == "old.review"), "reading needs no writing"
    with pytest.raises(ReviewError, match=r"cannot save in .*\(Permission denied\), 1 change is"):
        store.add(verdict("5-5"))
    assert said(store) == {**before, "5-5": Kind.AGREE} and store.unsaved == 1
    with tempfile.TemporaryDirectory() as other:
        moved = store.save_to(Path(other) / "here")
        assert said(ReviewStore(moved.path, RUN, "Ada")) == said(store)
        moved.add(verdict("6-6"))
        assert store.save_to(moved.path).unsaved == 0
        assert set(said(ReviewStore(moved.path, RUN, "Ada"))) == {*said(store), "6-6"}
