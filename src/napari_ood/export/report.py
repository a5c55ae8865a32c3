"""A report that a pathologist reads and prints: one HTML file, and a PDF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.errors import SlideError
from napari_ood.export.files import Pieces, Step, new_file, unwatched
from napari_ood.export.report_content import gather
from napari_ood.export.report_figures import overview_of
from napari_ood.export.report_html import render_html
from napari_ood.export.report_pdf import N_SECTIONS, write_pdf
from napari_ood.export.report_regions import N_REGIONS
from napari_ood.export.results import Results, default_thresholds
from napari_ood.passport import PassportOverrides, make_passport

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.passport import Passport
    from napari_ood.review.verdicts import Verdict
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide


def write_report(
    scored: ScoredRun,
    out: str | Path,
    thresholds: Mapping[str, Threshold] | None = None,
    slide: Slide | None = None,
    passport: Passport | None = None,
    verdicts: Mapping[str, tuple[Verdict, ...]] | None = None,
    pdf: bool = True,
    review: str | Path | None = None,
    step: Step = unwatched,
) -> tuple[Path, ...]:
    """Write ``<run>.report.html`` and, with ``pdf``, ``<run>.report.pdf`` into a folder.

    Nothing in them points to the network or to other files. What is not at hand (slide, bundle,
    reference, verdicts) is said to be missing and left out.

    Parameters
    ----------
    scored : ScoredRun
    out : folder, made if it is not there
    thresholds : role → Threshold; by default those that keep 95 % of in-distribution tiles
    slide : for pictures; by default it is opened where the run found it, if it is still the same
    passport : of slide, bundle and run; by default it is made, in a few seconds
    verdicts : reviewer → verdicts
    pdf : whether to write the PDF as well
    review : folder with the passport's overrides; by default the one beside the run
    step : called between pictures, charts and pages; what it raises ends the work, and leaves no
        file behind that is not whole

    Returns
    -------
    Paths of what was written.

    Raises
    ------
    ExportError
        If something cannot be written.
    RunError, BundleError, ReviewError
        If a threshold's score cannot be computed, or overrides cannot be read.
    """
    chosen = default_thresholds(scored) if thresholds is None else dict(thresholds)
    results = Results(scored, chosen, dict(verdicts or {}))
    pieces = Pieces(step, _n_pieces(results, pdf))
    with _at_hand(scored, slide) as found:
        if passport is None:
            passport = make_passport(found, scored.bundle, scored.run, cancel=pieces.cancelled)
        pieces.finished()
        overrides = PassportOverrides(_review_folder(scored, review)).in_force(passport)
        content = gather(results, found, passport, overrides, pieces=pieces)
        overview = overview_of(results, found)
    pieces.finished()
    folder = Path(out)
    page = folder / f"{results.name}.report.html"
    with new_file(page) as partial:
        partial.write_text(render_html(content, results, overview, pieces), "utf-8")
    if not pdf:
        step(pieces.total, pieces.total)
        return (page,)
    printed = folder / f"{results.name}.report.pdf"
    with new_file(printed) as partial:
        write_pdf(partial, content, results, overview, pieces)
    step(pieces.total, pieces.total)
    return page, printed


def _n_pieces(results: Results, pdf: bool) -> int:
    """Passport, overview, regions; the HTML's overview and charts; the PDF's sections."""
    return 2 + N_REGIONS + 1 + 2 * len(results.thresholds) + (N_SECTIONS if pdf else 0)


def _review_folder(scored: ScoredRun, review: str | Path | None) -> Path:
    from napari_ood.review import review_folder

    return Path(review) if review is not None else review_folder(scored.run.path)


@contextmanager
def _at_hand(scored: ScoredRun, slide: Slide | None) -> Iterator[Slide | None]:
    """The slide; by default the run's own, where it still lies and is the same."""
    if slide is not None:
        yield slide
        return
    from napari_ood.slides import open_slide

    record = scored.run.provenance["slide"]
    mpp = record["mpp"]
    try:
        found = open_slide(record["path"], None if mpp is None else (mpp[0], mpp[1]))
    except SlideError:
        yield None
        return
    with found:
        yield found if found.fingerprint() == record["fingerprint"] else None
