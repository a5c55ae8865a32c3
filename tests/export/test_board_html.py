"""The cohort board as one HTML file: whole, harmless, and alive in a browser where there is one."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_ood.board import Board, SlideRow, WorstRegion, drift_of
from napari_ood.errors import ExportCancelled
from napari_ood.export.board_chart import drift_svg
from napari_ood.export.board_html import script_json, worst_picture, write_board

EVIL = "</script><img src=x onerror=alert(1)>'\"&"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)  # fmt: skip


def row(i: int, **more: Any) -> SlideRow:
    facts: dict[str, Any] = {"n_tiles": 100, "ood": i / 100, "date": f"2026-01-{i % 28 + 1:02}",
                             "scanner": "S", "light": "green", "uncertainty": 0.1,
                             "uncertainty_95": 0.2,
                             "classes": (("a", 0.7), ("b", 0.3))}  # fmt: skip
    return SlideRow(f"case-{i:03}", f"/s/{i}.svs", f"/r/{i}.ood.zarr", "done", **(facts | more))


def write(rows: list[SlideRow], folder: Path) -> str:
    board = Board(folder, tuple(rows))
    path = write_board(board, drift_of(rows), folder / "board.html")
    return path.read_text("utf-8")


class Reader(HTMLParser):
    """Collects elements, and the text of the data's script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == ("script", {"id": "data", "type": "application/json"}):
            self.data += data


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    rows = [row(i) for i in range(12)]
    evil = {"scanner": EVIL, "group": EVIL, "error": EVIL, "date": "2026-02-01"}
    rows.append(SlideRow(EVIL, EVIL, EVIL, "failed", n_tiles=5, ood=0.5, **evil))
    text = write(rows, tmp_path)
    reader = Reader()
    reader.feed(text)
    assert [tag for tag, _ in reader.tags].count("script") == 2
    assert not [t for t, attributes in reader.tags if "onerror" in attributes]
    assert "img" not in [tag for tag, _ in reader.tags]
    found = json.loads(reader.data)
    assert found[12]["name"] == EVIL and found[12]["scanner"] == EVIL
    assert len(found) == 13


def test_nothing_is_fetched(tmp_path: Path) -> None:
    text = write([row(i) for i in range(3)], tmp_path)
    assert not re.findall(r"(?:https?:)?//[a-z]", text.replace("http://www.w3.org", ""))
    assert "default-src 'none'" in text


def test_json_in_scripts_is_json() -> None:
    assert json.loads(script_json({"a": EVIL + "\u2028"})) == {"a": EVIL + "\u2028"}
    assert "<" not in script_json({"a": EVIL})


def test_chart_has_a_dot_per_slide_where_it_belongs() -> None:
    rows = [row(i, ood=0.05) for i in range(20)] + [row(20 + i, ood=0.5) for i in range(8)]
    (track,) = drift_of(rows).tracks
    svg = drift_svg(track, rows)
    dots = re.findall(r'class="dot (\w+)[^"]*" data-row="(\d+)" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert sorted(int(place) for _, place, _, _ in dots) == list(range(28))
    by_place = {int(place): (float(x), float(y)) for _, place, x, y in dots}
    assert by_place[25][1] < by_place[3][1], "a larger share stands higher"
    dates = sorted(range(28), key=lambda i: str(rows[i].date))
    assert [by_place[i][0] for i in dates] == sorted(by_place[i][0] for i in dates)


def test_pictures_are_of_the_worst_region_of_the_same_slide(tmp_path: Path) -> None:
    pixels = np.full((600, 600, 3), 240, np.uint8)
    pixels[400:500, 100:200] = (200, 0, 0)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128))
    box = (400.0, 100.0, 100.0, 100.0)
    worst = WorstRegion(box, box, 1, 1.0, 1.0, "a")
    found = worst_picture(_at(path, worst))
    assert found is not None and found.startswith("data:image/jpeg;base64,")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))))
    assert image[88, 88, 0] > 150 > 60 > image[88, 88, 1]
    assert image[4, 4].min() > 200
    corner = (0.0, 500.0, 100.0, 100.0)  # the picture is of the slide all the same, not of beyond
    pixels[:] = (0, 200, 0)
    tifffile.imwrite(tmp_path / "green.tif", pixels, photometric="rgb", tile=(128, 128))
    found = worst_picture(
        _at(tmp_path / "green.tif", WorstRegion(corner, corner, 1, 1.0, 1.0, "a"))
    )
    assert found is not None
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))))
    assert image[..., 0].max() < 60
    assert worst_picture(_at(path, worst, fingerprint="of another")) is None
    assert worst_picture(_at(tmp_path / "gone.tif", worst)) is None


def _at(path: Path, worst: WorstRegion, **more: Any) -> SlideRow:
    return SlideRow("a", str(path), "/r", "done", ood=0.5, worst=worst, **more)


def test_cancelled_leaves_nothing(tmp_path: Path) -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    rows = [row(1, worst=WorstRegion(box, box, 1, 1.0, 1.0, "a"))]
    with pytest.raises(ExportCancelled):
        write_board(Board(tmp_path, tuple(rows)), drift_of(rows), tmp_path / "b.html",
                    cancel=lambda: True)  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(BROWSER is None, reason="no chromium here to open the board in")
def test_in_a_browser(tmp_path: Path) -> None:
    """The script runs: rows by OOD share, then by what is clicked and typed."""
    rows = [row(i, group="biopsy" if i % 2 else EVIL) for i in range(30)]
    text = write(rows, tmp_path)
    act = """
<script>
const first = () => document.querySelector("tr.row td.name").textContent;
const log = [first(), document.querySelectorAll("tr.row").length];
document.querySelector("th button").click(); log.push(first());
document.querySelector("th button").click(); log.push(first());
filter.value = "case-01 BIOPSY"; filter.dispatchEvent(new Event("input"));
log.push(document.querySelectorAll("tr.row").length);
document.querySelector("svg .dot[data-row='7']").dispatchEvent(new MouseEvent("click"));
log.push(document.querySelector("tr.open td.name").textContent);
log.push(document.querySelector("tr.more").textContent.includes("napari-ood board"));
log.push(document.querySelectorAll("img[src=x]").length);
document.title = JSON.stringify(log);
</script></body>"""
    page = tmp_path / "acted.html"
    page.write_text(text.replace("</body>", act), "utf-8")
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    assert json.loads(unescape(title.group(1))) == [
        "case-029", 30, "case-000", "case-029", 5, "case-007", True, 0,
    ]  # fmt: skip
