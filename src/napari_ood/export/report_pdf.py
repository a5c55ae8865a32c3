"""The report as PDF, A4: the same content as the HTML, drawn with matplotlib.

A browser prints the HTML as well; matplotlib is there anyway and needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.export.report_content import NOT_FOR_DIAGNOSIS, QUESTIONS
from napari_ood.export.report_figures import (
    REPORT_STYLE,
    draw_histogram,
    draw_overview,
    draw_risk,
    overview_panels,
)
from napari_ood.export.report_page import (
    INNER,
    QUIET,
    SMALL,
    Pages,
    line_height,
    wrapped,
)
from napari_ood.passport import Light
from napari_ood.passport.check import percent

if TYPE_CHECKING:
    from napari_ood.export.files import Pieces
    from napari_ood.export.report_content import Content, Row
    from napari_ood.export.report_figures import Overview
    from napari_ood.export.report_regions import RegionCard
    from napari_ood.export.results import Results

LAMPS = {
    Light.GREEN: "#2e9e5b",
    Light.YELLOW: "#f2b824",
    Light.RED: "#cf2e26",
    Light.GREY: "#c9cdd2",
}
GUTTER = 6.0
PANEL_MM = (INNER - GUTTER) / 2
TALLEST_PANEL_MM = 80.0
REGION_COLUMNS = 3
REGION_MM = (INNER - GUTTER * (REGION_COLUMNS - 1)) / REGION_COLUMNS


def write_pdf(
    path: Path, content: Content, results: Results, overview: Overview, pieces: Pieces
) -> None:
    """Write all pages; ``pieces`` is told of each of the ``N_SECTIONS`` sections."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages

    about = {"Title": f"{content.title}: napari-ood report", "Creator": "napari-ood"}
    with rc_context(REPORT_STYLE), PdfPages(path, metadata=about) as pdf:
        foot = f"{content.title} · {content.made} · {NOT_FOR_DIAGNOSIS}"
        pages = Pages(pdf, foot, pieces.look)
        for section in _SECTIONS:
            section(pages, content, results, overview)
            pieces.finished()
        pages.end()
    pieces.look()


def _summary(pages: Pages, content: Content, *_: Any) -> None:
    pages.title(f"napari-ood report · {content.made}", content.title)
    pages.banner(f"{content.headline}.", LAMPS[content.passport.light(content.overrides)])
    pages.table(content.facts, (1, 4))
    for warning in content.warnings:
        pages.paragraph(f"Note: {warning}.")


def _overview(pages: Pages, content: Content, results: Results, overview: Overview) -> None:
    panels = overview_panels(results)
    height = PANEL_MM * overview.aspect
    width = PANEL_MM
    if height > TALLEST_PANEL_MM:
        width, height = width * TALLEST_PANEL_MM / height, TALLEST_PANEL_MM
    pages.heading("Overview", keep=height + 16)
    if overview.pixels is None and panels == ("slide",):
        pages.paragraph("There is nothing to show: no tile was judged.")
        return
    for start in range(0, len(panels), 2):
        with pages.block(height + 15):
            for i, panel in enumerate(panels[start : start + 2]):
                axes = pages.axes(i * (PANEL_MM + GUTTER), 6, width, height)
                draw_overview(axes, results, overview, panel)
    pages.paragraph("Black outlines: tiles above the threshold.", SMALL, QUIET)
    head = ("Predicted class", "Tiles", "Share", *(f"{d.title}: above" for d in content.deferrals))
    rows = [
        (
            name,
            f"{n:,}",
            percent(share, 1),
            *(f"{d.summary.per_class[k].n_flagged:,}" for d in content.deferrals),
        )
        for k, (name, _, n, share) in enumerate(content.classes)
    ]
    pages.table(rows, (2, *[1] * (len(head) - 1)), head)


def _passport(pages: Pages, content: Content, *_: Any) -> None:
    pages.heading("Slide passport")
    pages.paragraph(
        "Whether the slide is of the kind that the model knows. Grey means not known, which is "
        "neither good nor bad."
    )
    rows = []
    for check in content.passport.checks:
        override = content.overrides.get(check.key)
        words = check.words
        if override is not None:
            words += f"\nPassed over by {override.reviewer}, {override.time}: {override.reason}"
        rows.append((check.title, check.light.words, check.value, words))
    lights = [LAMPS[check.light] for check in content.passport.checks]
    pages.table(rows, (1.3, 1.1, 1.6, 4), ("Check", "Light", "Found", "What it means"), lights)


def _thresholds(pages: Pages, content: Content, results: Results, *_: Any) -> None:
    pages.heading("Thresholds")
    if not content.deferrals:
        pages.paragraph(
            "No threshold was set: without the bundle's reference nothing says what is usual."
        )
        return
    rows = [
        (
            f"{d.title}\n{d.words}\n{d.threshold.score} > {d.threshold.value:.3g}",
            QUESTIONS.get(d.role, ""),
            d.threshold.words(),
            d.summary.words(),
            d.risk_words,
        )
        for d in content.deferrals
    ]
    head = ("Score", "Question", "Threshold means", "Set aside here", "Wrong among kept, expected")
    pages.table(rows, (1.7, 1.4, 1.3, 1.5, 1.4), head)
    pages.paragraph(
        "Expected errors are those on held-out tiles like the training tiles. On a slide that the "
        "passport finds unlike them they do not hold.",
        SMALL,
        QUIET,
    )
    if content.whole_image or not results.scored.run.n_tiles:
        return
    for d in content.deferrals:
        with pages.block(64):
            draw_histogram(pages.axes(0, 8, PANEL_MM, 38), results, d.role, d.threshold)
            if results.scored.risk_curve(d.threshold.score) is not None:
                right = pages.axes(PANEL_MM + GUTTER + 13, 8, PANEL_MM - 13, 38)
                draw_risk(right, results, d.role, d.threshold)


def _regions(pages: Pages, content: Content, *_: Any) -> None:
    pages.heading("Most conspicuous regions", keep=70)
    if not content.regions:
        why = "The bundle judges the image as a whole, so there are no regions."
        pages.paragraph(why if content.whole_image else "No region lies above the threshold.")
        return
    pages.paragraph(
        f"{len(content.regions)} of {content.n_regions:,} regions above the threshold of "
        f"“{content.regions_of}”, chosen so that they differ. The outline is the region. “May "
        "be” is a hint from simple rules on colour and sharpness, not a finding."
    )
    for start in range(0, len(content.regions), REGION_COLUMNS):
        _region_row(pages, content.regions[start : start + REGION_COLUMNS])


def _region_row(pages: Pages, cards: Sequence[RegionCard]) -> None:
    texts = [_region_lines(card) for card in cards]
    pictured = any(card.picture is not None for card in cards)
    picture_mm = REGION_MM if pictured else 4.0
    height = picture_mm + max(map(len, texts)) * line_height(SMALL) + 5
    with pages.block(height):
        for i, (card, lines) in enumerate(zip(cards, texts, strict=True)):
            left = i * (REGION_MM + GUTTER)
            if card.picture is not None:
                _picture(pages, card, left)
            pages.text(left, picture_mm + 1, lines[:1], SMALL, weight="bold")
            pages.text(left, picture_mm + 1 + line_height(SMALL), lines[1:], SMALL)


def _picture(pages: Pages, card: RegionCard, left: float) -> None:
    axes = pages.axes(left, 0, REGION_MM, REGION_MM)
    assert card.picture is not None
    axes.imshow(card.picture, aspect="auto", interpolation="antialiased")
    axes.set(xticks=[], yticks=[])


def _region_lines(card: RegionCard) -> list[str]:
    region = card.region
    told = [
        f"{card.rank} · {card.size}",
        f"Model: {region.label} ({percent(region.label_share)} of its tiles); "
        f"highest score {region.peak:.4g}",
    ]
    if card.causes:
        told.append(f"May be: {', '.join(card.causes)}")
    told += [
        f"{reviewer}: {said}" + (f" – {comment}" if comment else "")
        for reviewer, said, comment in card.verdicts
    ] or ["not reviewed"]
    told.append(card.place)
    return [line for text in told for line in wrapped(text, REGION_MM, SMALL)]


def _review(pages: Pages, content: Content, *_: Any) -> None:
    pages.heading("Review", keep=14)
    if not content.verdict_rows:
        pages.paragraph("Nobody has reviewed this run yet.")
        return
    pages.table((*content.verdict_rows, *content.agreement_rows), (1.4, 4))
    pages.paragraph(
        "Rates hold for the places that were flagged and looked at, not for the whole slide.",
        SMALL,
        QUIET,
    )


def _origin(pages: Pages, content: Content, *_: Any) -> None:
    rows: tuple[Row, ...] = content.card
    pages.heading("The model")
    pages.table(rows, (1, 4))
    for item in content.limitations:
        pages.paragraph(f"•  {item}", SMALL + 0.5)
    pages.heading("Where this comes from")
    pages.table(content.provenance, (1.4, 4), size=SMALL)


_SECTIONS: tuple[Callable[..., None], ...] = (
    _summary,
    _overview,
    _passport,
    _thresholds,
    _regions,
    _review,
    _origin,
)
N_SECTIONS = len(_SECTIONS)
