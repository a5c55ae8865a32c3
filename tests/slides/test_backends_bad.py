"""Malformed, truncated and fuzzed files: read, or refused with a SlideError, soon and cheaply."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood.errors import SlideError
from napari_ood.slides import open_slide

SVS = "slides/aperio_cmu_small/CMU-1-Small-Region.svs"
MAX_SECONDS = 10
MAX_MEGABYTES = 400

# One process opens all files, so that a crash or a memory bomb cannot take the tests with it.
SWEEP = """
import json, sys, time, warnings
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
except ImportError:
    peak = lambda: 0.0
from napari_ood.errors import SlideError
from napari_ood.slides import open_slide
for path in sys.stdin.read().splitlines():
    start, before, outcome = time.process_time(), peak(), "read"
    try:
        with open_slide(path) as slide:
            h, w = slide.shape
            slide.read(0, -5, -5, 256, 256)
            slide.read(slide.n_native - 1, 0, 0, 64, 64)
            slide.read(0, h - 64, w - 64, 128, 128)
            [slide.associated[name] for name in slide.associated]
    except SlideError as error:
        outcome = f"refused: {error}"
    except BaseException as error:
        outcome = f"crashed: {error!r}"
    seconds, megabytes = time.process_time() - start, peak() - before
    print(json.dumps([path, outcome, seconds, megabytes]), flush=True)
"""


@pytest.fixture(scope="module")
def sweep(shared_data: Path) -> tuple[dict[str, list[Any]], str]:
    bad = shared_data / "bad"
    files = [str(f) for f in sorted(bad.rglob("*")) if f.is_file() and f.name != "SOURCE.txt"]
    done = subprocess.run(
        [sys.executable, "-c", SWEEP], input="\n".join(files), text=True, capture_output=True,
        timeout=300, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = {Path(row[0]).relative_to(bad).as_posix(): row[1:] for row in rows}
    assert len(outcomes) == len(files), f"died at {files[len(outcomes)]}: {done.stderr[-500:]}"
    return outcomes, done.stderr


def test_every_bad_file_is_read_or_refused(sweep: tuple[dict[str, list[Any]], str]) -> None:
    outcomes, _ = sweep
    assert len(outcomes) > 50
    crashed = {name: row for name, row in outcomes.items() if row[0].startswith("crashed")}
    slow = {name: row for name, row in outcomes.items() if row[1] > MAX_SECONDS}
    greedy = {name: row for name, row in outcomes.items() if row[2] > MAX_MEGABYTES}
    long = {n: r for n, r in outcomes.items() if len(r[0]) > 400 or "\n" in r[0]}
    assert (crashed, slow, greedy, long) == ({}, {}, {}, {})


def test_readers_stay_silent(sweep: tuple[dict[str, list[Any]], str]) -> None:
    assert sweep[1] == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated_svs/empty.svs", r"empty \(0 bytes\)"),
        ("truncated_svs/text.svs", "no slide or image format"),
        ("truncated_svs/cmu_trunc_4096.svs", "truncated"),
        ("gcp_dicom/test_wsi2.dcm", "only a label"),
        ("openslide_python/unopenable.tiff", "compression 52479"),
    ],
)
def test_the_reason_is_told(shared_data: Path, name: str, reason: str) -> None:
    with pytest.raises(SlideError, match=rf"cannot open {Path(name).name}: .*{reason}"):
        open_slide(shared_data / "bad" / name)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="No such file"):
        open_slide(tmp_path / "nowhere.svs")


def test_a_damaged_tile_costs_only_itself(shared_data: Path, tmp_path: Path) -> None:
    """The error names file, level and place; other tiles of the slide are still read."""
    import tifffile

    data = bytearray((shared_data / SVS).read_bytes())
    with tifffile.TiffFile(shared_data / SVS) as tif:
        offset = tif.pages.first.dataoffsets[25]  # 10 tiles of 240 px in a row
    data[offset : offset + 60] = bytes(60)
    (tmp_path / "d.svs").write_bytes(data)
    with open_slide(tmp_path / "d.svs") as slide, open_slide(shared_data / SVS) as truth:
        with pytest.raises(SlideError, match=r"d\.svs: cannot read level 0 at y=500, x=1210"):
            slide.read(0, 500, 1210, 50, 50)
        window = (480, 240, 240, 720)
        np.testing.assert_array_equal(slide.read(0, *window), truth.read(0, *window))


def test_a_header_cannot_claim_a_giant_tile(shared_data: Path, tmp_path: Path) -> None:
    """A JPEG tile that says it is 65,535 px square would cost 12 GB before it failed."""
    import tifffile

    data = bytearray((shared_data / SVS).read_bytes())
    with tifffile.TiffFile(shared_data / SVS) as tif:
        offset = tif.pages.first.dataoffsets[0]
    frame = data.index(b"\xff\xc0", offset)
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "g.svs").write_bytes(data)
    with (
        open_slide(tmp_path / "g.svs") as slide,
        pytest.raises(SlideError, match="claims to be 65535 x 65535"),
    ):
        slide.read(0, 0, 0, 10, 10)


CROWD = """
import sys, threading
from napari_ood.errors import SlideError
from napari_ood.slides import open_slide
refused = []
def read(slide):
    for i in range(6):
        try:
            slide.read(0, 83 * i, 150 * i, 200, 200)
        except SlideError as error:
            refused.append(str(error))
for _ in range(300):
    with open_slide(sys.argv[1]) as slide:
        threads = [threading.Thread(target=read, args=(slide,)) for _ in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
print(len(refused))
"""


def test_threads_that_meet_a_truncated_dicom_do_not_crash(
    shared_data: Path, tmp_path: Path
) -> None:
    """OpenSlide 4.0.1 alone segfaults here when its handle is shared."""
    name = "slides/dicom_gcp/multi_frame_jpeg_camelyon_challenge_image.dcm"
    (tmp_path / "half.dcm").write_bytes((shared_data / name).read_bytes()[:60_000])
    done = subprocess.run(
        [sys.executable, "-c", CROWD, str(tmp_path / "half.dcm")], text=True, capture_output=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr[-500:]
