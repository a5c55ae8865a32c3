from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_ood.analysis.regions import find_regions
from napari_ood.analysis.scored import ScoredRun
from napari_ood.errors import ExportCancelled, ExportError
from napari_ood.export.files import watched
from napari_ood.export.report import write_report
from napari_ood.export.report_page import text_width, wrapped
from napari_ood.inference import run_slide
from napari_ood.passport import PassportOverrides, make_passport
from napari_ood.review.verdicts import Artefact, Kind, Verdict
from napari_ood.scores.thresholds import value_threshold
from napari_ood.slides import open_slide

if TYPE_CHECKING:
    from napari_ood.models import Bundle

ADDRESSES = {"src", "href", "srcset", "action", "data", "poster", "background"}
VOID = {"meta", "img", "br", "col", "link", "hr", "input"}


class Page(HTMLParser):
    """Text, pictures and every address of a page; checks that tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.pictures, self.addresses, self.tags = "", [], [], []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attributes:
            if name in ADDRESSES:
                self.addresses.append(value or "")
                if tag == "img":
                    self.pictures.append(value or "")
            assert not name.startswith("on")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Page:
    html = path.read_text("utf-8")
    page = Page(html)
    assert not {"script", "iframe", "object", "link"} & set(page.tags)
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"url\(|@import", html)
    for picture in page.pictures:
        kind, data = picture.removeprefix("data:").split(";base64,")
        decoded = base64.b64decode(data, validate=True)
        if kind == "image/jpeg":
            Image.open(io.BytesIO(decoded)).load()
        else:
            # What an SVG names is its own vocabulary; nothing is loaded from it.
            assert b"<svg" in decoded and not re.search(rb'href="(?!#)', decoded)
    return page


def n_pages(path: Path) -> int:
    data = path.read_bytes()
    assert data.startswith(b"%PDF") and data.rstrip().endswith(b"%%EOF")
    return len(re.findall(rb"/Type /Page\b", data))


class Looks:
    """Says to stop after so many looks."""

    def __init__(self, most: int) -> None:
        self.n, self._most = 0, most

    def __call__(self) -> bool:
        self.n += 1
        return self.n > self._most


def cells(n: int) -> Any:
    done = np.zeros((8, 8), bool)
    done.flat[:n] = True
    return done


def test_a_run_with_its_bundle_and_no_slide(make_run: Any, tmp_path: Path) -> None:
    scored = make_run(cells(40))
    html, pdf = write_report(scored, tmp_path / "out")
    assert (html.name, pdf.name) == ("drawn.report.html", "drawn.report.pdf")
    page = read(html)
    for told in (
        "keeps 95 % of in-distribution tiles",
        "mahalanobis@layer1",
        "not for diagnosis",
        "Nobody has reviewed this run yet",
        "no picture: the slide is not at hand",
        *scored.run.provenance["bundle"]["hashes"].values(),
        scored.run.provenance["slide"]["fingerprint"],
        *scored.classes,
    ):
        assert told in page.text, told
    n_charts = sum(picture.startswith("data:image/svg") for picture in page.pictures)
    assert n_charts == 2 * len(scored.roles)  # a histogram and a risk–coverage curve of each
    assert n_pages(pdf) >= 3


def test_cancelled_anywhere_the_files_of_before_are_whole(make_run: Any, tmp_path: Path) -> None:
    scored = make_run(cells(40))
    told: list[tuple[int, int]] = []
    before = write_report(scored, tmp_path, step=lambda *at: told.append(at))
    assert told == sorted(told) and told[-1][0] == told[-1][1]
    assert len(set(told)) > 15, "progress is told in pieces"
    page, printed = (path.stat().st_mtime_ns for path in before)
    for at in np.linspace(0, len(told) - 2, 4).astype(int).tolist():
        looks = Looks(at)
        with pytest.raises(ExportCancelled):
            write_report(scored, tmp_path, step=watched("report", cancel=looks))
        assert looks.n == at + 1, "nothing more is done"
        assert sorted(tmp_path.glob("*.report*")) == sorted(before)
        assert not list(tmp_path.glob(".*partial"))
        assert n_pages(before[1]) >= 3 and before[1].stat().st_mtime_ns == printed
        assert read(before[0]).text
    assert before[0].stat().st_mtime_ns > page, "the last one came as far as the PDF"


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("with_bundle", [True, False])
def test_few_tiles_with_or_without_bundle(
    make_run: Any, tmp_path: Path, n: int, with_bundle: bool
) -> None:
    scored = make_run(cells(n), with_bundle=with_bundle, mpp=(0.5, 0.5) if with_bundle else None)
    html, pdf = write_report(scored, tmp_path)
    page = read(html)
    assert f"{n} tiles" in page.text
    assert ("No threshold was set" in page.text) == (not with_bundle)
    assert n_pages(pdf) >= 1


@pytest.mark.parametrize("values", [np.nan, 1.0])
def test_scores_that_are_no_numbers_or_all_the_same(
    make_run: Any, tmp_path: Path, tiny_bundle: Bundle, values: float
) -> None:
    card = tiny_bundle.card
    logits = np.full((12, card.n_heads, card.n_classes), values, np.float32)
    scored = make_run(cells(12), logits=logits)
    html, pdf = write_report(scored, tmp_path)
    assert "12 tiles" in read(html).text and n_pages(pdf) >= 1


def test_names_are_text_and_never_markup(make_run: Any, tmp_path: Path) -> None:
    name = "<script>alert(1)</script> & $x_1$"
    scored = make_run(cells(4), slide={"name": name})
    html, _ = write_report(scored, tmp_path)
    assert name in read(html).text


def test_a_folder_that_cannot_be_written(make_run: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", "utf-8")
    with pytest.raises(ExportError, match="choose another output folder"):
        write_report(make_run(cells(1)), blocked)


def test_pictures_verdicts_and_overrides(
    procedural_slide: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    region = (0.0, 0.0, 1024.0, 1024.0)
    with open_slide(procedural_slide) as slide:
        stored = tmp_path / "procedural.ood.zarr"
        scored = ScoredRun(run_slide(slide, tiny_bundle, stored, region, device="cpu"))
        values = scored.score("ood")
        threshold = value_threshold(scored.score_name("ood"), float(np.quantile(values, 0.8)))
        regions = find_regions(scored, scored.flagged(threshold), threshold.score)
        verdicts = tuple(
            Verdict.of(r, Kind.ARTEFACT, reviewer="ada", artefact=Artefact.PEN, comment="a <b> pen")
            for r in regions
        )
        passport = make_passport(slide, tiny_bundle, scored.run)
        PassportOverrides(tmp_path / "review").add(passport, "run", "looked at it", "ada")
        html, pdf = write_report(
            scored, tmp_path, {"ood": threshold}, slide, passport, {"ada": verdicts},
            review=tmp_path / "review",
        )  # fmt: skip
    page = read(html)
    n_shown = min(len(regions), 12)
    photographs = [p for p in page.pictures if p.startswith("data:image/jpeg")]
    assert len(photographs) == n_shown + 1  # and the overview
    assert page.text.count("artefact: pen") >= n_shown and "a <b> pen" in page.text
    assert "Passed over by ada" in page.text and "looked at it" in page.text
    assert threshold.words() in page.text
    assert n_pages(pdf) >= 3
    again, _ = write_report(scored, tmp_path, {"ood": threshold}, pdf=True)  # finds the slide
    assert len(read(again).pictures) == len(page.pictures)


@settings(deadline=None, max_examples=40)
@given(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=120),
    st.floats(8, 80),
)
def test_wrapped_text_fits_and_is_complete(text: str, width: float) -> None:
    lines = wrapped(text, width, 9.0)
    assert all(text_width(line, 9.0) <= width or len(line) == 1 for line in lines)
    assert "".join(lines).replace(" ", "") == "".join(text.split())
