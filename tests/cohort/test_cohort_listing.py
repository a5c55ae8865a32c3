"""Which slides a cohort is of, and what their runs are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood import OodError, RunError
from napari_ood.cohort.earlier import names_of, of_others, read_earlier
from napari_ood.cohort.listing import list_slides
from napari_ood.cohort.names import run_names
from napari_ood.cohort.plan import plan_jobs


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Slides of all sorts below one folder, and what is none."""
    root = tmp_path / "slides"
    touch(
        root / "b.svs", root / "a.TIF", root / "preview.png", root / ".hidden.svs",
        root / "notes.docx", root / "b.truth.ome.tif", root / "deep" / "er" / "c.ndpi",
        root / "dicom" / "1.dcm", root / "dicom" / "2.dcm",
        root / "image.ome.zarr" / "zarr.json", root / "image.ome.zarr" / "0" / "c.tif",
        root / "b.ood.zarr" / "zarr.json",
    )  # fmt: skip
    return root


def test_folders_hold_slides_and_slides_are_folders(tree: Path) -> None:
    found = [str(s.path.relative_to(tree)) for s in list_slides([tree])]
    assert found == ["a.TIF", "b.svs", "deep/er/c.ndpi", "dicom", "image.ome.zarr"]
    assert "preview.png" in [s.path.name for s in list_slides([tree], images=True)]
    assert [s.path for s in list_slides([tree / "dicom"])] == [tree / "dicom"]


def test_lists_tell_of_their_slides(tree: Path) -> None:
    table = tree.parent / "lists" / "slides.csv"
    touch(table)
    table.write_text(
        "﻿Slide;Scanner;date;Group;note\n"
        "../slides/b.svs;AT2, lab B;2026-02-03;biopsy;x\n"
        "# this one is left out\n"
        "../slides/deep;;;;\n",
        "utf-8",
    )
    found = list_slides([tree / "b.svs", table])
    assert [s.path for s in found] == [tree / "b.svs", tree / "deep" / "er" / "c.ndpi"]
    # Named twice: what the list says of it is kept.
    assert dict(found[0].facts) == {"scanner": "AT2, lab B", "date": "2026-02-03",
                                    "group": "biopsy"}  # fmt: skip
    assert found[1].facts == ()
    plain = tree.parent / "slides.txt"
    plain.write_text(f"{tree}/b.svs\nslides/a.TIF\n\nslides/gone.svs\n", "utf-8")
    assert [s.path.name for s in list_slides([plain])] == ["b.svs", "a.TIF", "gone.svs"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "scanner,date\na,b\n", "columns' names, one of them slide"),
        ("l.csv", "slide,date\nx.svs,3 May\n", r"line 2: '3 May' is no date"),
        ("l.csv", "slide,date\n,2026-01-01\n", "line 2 names no slide"),
        ("l.csv", "# scanned\n\nslide,date\na.svs,\n#\n,2026-01-01\n", "line 6 names no slide"),
        ("l.txt", "", "names no slides"),
        ("l.csv", "slide\n", "names no slides"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(OodError, match=message):
        list_slides([tmp_path / name])


def test_a_folder_without_slides_and_a_list_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OodError, match="holds no slides"):
        list_slides([tmp_path / "empty"])
    with pytest.raises(OodError, match="cannot be read"):
        list_slides([tmp_path / "gone.csv"])


PARTS = st.sampled_from(["a", "A", "b", "case", "x__case", "a__case"])
PATHS = st.builds(
    lambda folders, name, suffix: Path("/", *folders, f"{name}{suffix}"),
    st.lists(PARTS, min_size=1, max_size=3),
    PARTS,
    st.sampled_from([".svs", ".tif"]),
)


@given(st.lists(PATHS, unique=True, min_size=1, max_size=12), st.randoms())
def test_names_of_runs_differ_and_stay(slides: list[Path], random: object) -> None:
    names = run_names(slides, {})
    assert len({name.casefold() for name in names.values()}) == len(slides)
    shuffled = list(slides)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run_names(shuffled, {}) == names
    # Slides that were there before keep their runs when others come.
    first = run_names(slides[: len(slides) // 2], {})
    later = run_names(slides, first)
    assert {s: later[s] for s in first} == first
    assert len({name.casefold() for name in later.values()}) == len(slides)


def test_names_say_which_is_which() -> None:
    slides = [Path(p) for p in ("/s/a/1/x.svs", "/s/b/1/x.svs", "/s/c/y.svs", "/s/c/y.tif",
                                "/s/z.svs")]  # fmt: skip
    assert list(run_names(slides, {}).values()) == ["a__1__x", "b__1__x", "c__y.svs", "c__y.tif",
                                                    "z"]  # fmt: skip


def write_manifest(out: Path, **facts: object) -> None:
    out.mkdir(exist_ok=True)
    (out / "cohort.json").write_text(json.dumps({"format_version": 1, **facts}))


def test_what_earlier_calls_called_their_runs_decides_over_names(tmp_path: Path) -> None:
    slides, out = [tmp_path / name / "x.svs" for name in "abc"], tmp_path / "out"
    touch(*slides)
    (only,) = plan_jobs(slides[:1], out)
    assert Path(only.out).name == "x.ood.zarr"
    first = {"slide": only.slide, "run": only.out}
    second = {"slide": str(slides[1]), "run": str(out / "named.ood.zarr")}
    write_manifest(out, slides=[second], earlier=[first])  # a call that did not name the first
    names = names_of(read_earlier(out, {}))
    jobs = {
        Path(job.slide).parent.name: Path(job.out).name for job in plan_jobs(slides, out, names)
    }
    assert jobs == {"a": "x.ood.zarr", "b": "named.ood.zarr", "c": "c__x.ood.zarr"}


def test_slides_of_earlier_calls_are_kept_unless_nothing_is_left_of_them(tmp_path: Path) -> None:
    touch(tmp_path / "here.svs", tmp_path / "run.ood.zarr")
    records = [
        {"slide": str(tmp_path / slide), "run": str(tmp_path / run)}
        for slide, run in (
            ("here.svs", "none.ood.zarr"), ("moved.svs", "run.ood.zarr"),
            ("mistyped.svs", "mistyped.ood.zarr"), ("this.svs", "run.ood.zarr"),
        )
    ]  # fmt: skip
    assert of_others(records, [str(tmp_path / "this.svs")]) == records[:2]


def test_a_folder_is_of_one_bundle(tmp_path: Path) -> None:
    record = {"slide": "/s/x.svs", "run": "/r/x.ood.zarr", "n_tiles": 0}
    bundle = {"name": "mine", "hashes": {"model.safetensors": "1"}}
    write_manifest(tmp_path, slides=[record], bundle=bundle)
    assert len(read_earlier(tmp_path, {"model.safetensors": "2"})) == 1  # none of it was run
    write_manifest(tmp_path, slides=[record | {"n_tiles": 5}], bundle=bundle)
    assert len(read_earlier(tmp_path, {"model.safetensors": "1"})) == 1
    with pytest.raises(RunError, match="another bundle, mine: choose another output folder"):
        read_earlier(tmp_path, {"model.safetensors": "2"})
