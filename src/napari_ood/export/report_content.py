"""What a report says: every number and sentence, computed once for HTML and PDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_ood.analysis.summary import Summary, summarise
from napari_ood.export.files import Pieces, unwatched
from napari_ood.export.report_regions import N_REGIONS, RegionCard, region_cards
from napari_ood.passport.check import percent
from napari_ood.scores.names import score_in_words

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export.results import Results
    from napari_ood.models import Card
    from napari_ood.passport import Passport, PassportOverride
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide

TITLES = {
    "uncertainty": "Uncertainty",
    "ood": "Foreign (OOD)",
    "appearance": "Foreign in appearance",
    "tissue": "Foreign in tissue",
}
QUESTIONS = {
    "uncertainty": "Where is the model likely to be wrong?",
    "ood": "What has the model never seen?",
    "appearance": "Where do stain, scanner or artefacts differ from training?",
    "tissue": "Where is tissue that the model has not learnt?",
}
NOT_FOR_DIAGNOSIS = "For research only. Not a medical device; not for diagnosis."
PREDICTION_ONLY = (
    "nothing here says what is foreign to the model: the slide was run for its prediction only and "
    "the run holds no features, which OOD scores are made of"
)
_MOST_LIMITATIONS = 12


class Row(NamedTuple):
    """A fact: its name and what it is."""

    name: str
    value: str


@dataclass(frozen=True)
class Deferral:
    """One score with its threshold and what that does to this slide."""

    role: str
    threshold: Threshold
    summary: Summary
    card: Card

    @property
    def title(self) -> str:
        """The score's role for people."""
        return TITLES.get(self.role, self.role)

    @property
    def words(self) -> str:
        """What the score measures, in plain words."""
        return score_in_words(self.threshold.score, self.card)

    @property
    def risk_words(self) -> str:
        """Expected error among kept tiles."""
        if self.summary.expected_risk is None:
            return "not known: no held-out tiles"
        risk = self.summary.expected_risk
        return (
            f"{percent(risk, 1)} of {self.summary.n_held_out_kept:,} held-out tiles that it keeps"
        )


@dataclass(frozen=True, eq=False)
class Content:
    """A report without its pictures.

    Attributes
    ----------
    deferrals : one per threshold
    unavailable : scores that could not be shown, and why
    regions : the most foreign regions, best ranked first; ``regions_of`` says by which score
    """

    title: str
    made: str
    whole_image: bool
    facts: tuple[Row, ...]
    verdict_rows: tuple[Row, ...]
    agreement_rows: tuple[Row, ...]
    classes: tuple[tuple[str, str, int, float], ...]
    deferrals: tuple[Deferral, ...]
    passport: Passport
    overrides: Mapping[str, PassportOverride]
    regions: tuple[RegionCard, ...]
    regions_of: str
    n_regions: int
    card: tuple[Row, ...]
    limitations: tuple[str, ...]
    provenance: tuple[Row, ...]
    warnings: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The passport in one line."""
        return self.passport.words(self.overrides)


def gather(
    results: Results,
    slide: Slide | None,
    passport: Passport,
    overrides: Mapping[str, PassportOverride],
    n_regions: int = N_REGIONS,
    pieces: Pieces | None = None,
) -> Content:
    """Compute what the report says; reads the pictures of the regions from the slide.

    ``pieces`` is told of each region.
    """
    pieces = pieces or Pieces(unwatched, n_regions)
    scored = results.scored
    deferrals = tuple(
        Deferral(role, threshold, summarise(scored, threshold), scored.card)
        for role, threshold in results.thresholds.items()
    )
    role = _role_of_regions(results)
    regions = results.regions.get(role, ()) if role else ()
    return Content(
        title=scored.run.provenance["slide"]["name"],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        whole_image=scored.card.whole_image,
        facts=_facts(scored),
        verdict_rows=_verdict_rows(results),
        agreement_rows=_agreement_rows(results, regions, role),
        classes=_classes(scored),
        deferrals=deferrals,
        passport=passport,
        overrides=overrides,
        regions=region_cards(results, regions, slide, pieces, n_regions),
        regions_of=TITLES.get(role or "", role or ""),
        n_regions=len(regions),
        card=_card(scored),
        limitations=scored.card.limitations[:_MOST_LIMITATIONS],
        provenance=_provenance(scored),
        warnings=_warnings(scored),
    )


def _warnings(scored: ScoredRun) -> tuple[str, ...]:
    recorded = tuple(str(w) for w in scored.run.provenance.get("warnings", ()))
    return recorded if scored.run.has_features else (*recorded, PREDICTION_ONLY)


def _role_of_regions(results: Results) -> str | None:
    """The score whose regions are shown: what is foreign before what is uncertain."""
    return next(
        (
            role
            for role in ("ood", "appearance", "tissue", "uncertainty")
            if role in results.flagged
        ),
        next(iter(results.flagged), None),
    )


def _facts(scored: ScoredRun) -> tuple[Row, ...]:
    run, slide = scored.run, scored.run.provenance["slide"]
    h, w = slide["size"]
    mpp = slide["mpp"]
    size = f"{w:,} × {h:,} px"
    if mpp:
        size += f", {w * mpp[1] / 1000:.1f} × {h * mpp[0] / 1000:.1f} mm"
    wanted = int(run.tissue.sum())
    state = "finished" if run.complete else f"not finished: {wanted:,} tiles have tissue"
    area = scored.mm2_per_tile
    tissue = "" if area is None else f", {run.n_tiles * area:,.2f} mm²"
    return (
        Row("Slide", f"{slide['name']} ({size})"),
        Row("Model", f"{scored.card.name}: {', '.join(scored.classes)}"),
        Row("Judged", f"{run.n_tiles:,} tiles{tissue}; the run is {state}"),
    )


def _classes(scored: ScoredRun) -> tuple[tuple[str, str, int, float], ...]:
    """Name, colour, tiles and share of each class."""
    counts = scored.class_counts()
    total = max(sum(counts), 1)
    return tuple(
        (name, color, n, n / total)
        for name, color, n in zip(scored.classes, scored.card.colors, counts, strict=True)
    )


def _verdict_rows(results: Results) -> tuple[Row, ...]:
    rows = []
    for reviewer, verdicts in results.verdicts.items():
        counts: dict[str, int] = {}
        for verdict in verdicts:
            counts[verdict.category] = counts.get(verdict.category, 0) + 1
        told = ", ".join(f"{n} {category}" for category, n in sorted(counts.items()))
        rows.append(Row(reviewer, f"{len(verdicts)} regions: {told}" if verdicts else "none"))
    return tuple(rows)


def _agreement_rows(results: Results, regions: Sequence[Any], role: str | None) -> tuple[Row, ...]:
    from napari_ood.review.agreement import agreement, error_rate

    rows = []
    for pair in agreement(results.verdicts, regions):
        kappa = pair.kinds
        if kappa.value is None:
            told = f"not defined on {kappa.n} regions that both judged"
        else:
            told = f"{kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f}), {kappa.n} regions"
        rows.append(Row(f"Cohen's kappa, {pair.first} and {pair.second}", told))
    given = [verdict for verdicts in results.verdicts.values() for verdict in verdicts]
    if given and role is not None:
        threshold = results.thresholds[role]
        rate = error_rate(given, results.scored, threshold.score, (threshold.value,))[0].flagged
        if rate.value is not None and rate.interval is not None:
            low, high = rate.interval
            told = f"{rate.k} of {rate.n} (95 % interval {percent(low)} to {percent(high)})"
            rows.append(Row("Wrong class among flagged regions that were judged", told))
    return tuple(rows)


def _card(scored: ScoredRun) -> tuple[Row, ...]:
    card = scored.card
    scale = "images as a whole" if card.whole_image else f"tiles of {card.tile_size} px"
    scale += "" if card.mpp is None else f" at {card.mpp:g} µm/px"
    held = card.results.get("held_out") if isinstance(card.results, Mapping) else None
    rows = [
        Row("Name", card.name),
        Row("What it does", card.description),
        Row("Intended use", card.intended_use),
        Row("Stain and tissue", "; ".join(part for part in (card.stain, card.tissue) if part)),
        Row("Sees", f"{scale}, {card.n_heads} heads, {card.architecture}"),
        Row("Trained on", card.training_data),
        Row("On held-out tiles", _numbers(held)),
        Row("Licence", card.licence),
        Row("Citation", card.citation),
    ]
    return tuple(row for row in rows if row.value)


def _numbers(results: Any) -> str:
    if not isinstance(results, Mapping):
        return ""
    told = [
        f"{name} {value:,.4g}"
        for name, value in results.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    return ", ".join(told)


def _provenance(scored: ScoredRun) -> tuple[Row, ...]:
    from napari_ood import __version__

    record = scored.run.provenance
    grid = scored.run.grid
    rows = [
        Row("Run", scored.run.path.name),
        Row("Made", str(record.get("created", ""))),
        Row("Slide file, sha256 of samples", str(record["slide"]["fingerprint"])),
        *(
            Row(f"Bundle: {name}, sha256", str(digest))
            for name, digest in record["bundle"]["hashes"].items()
        ),
        Row("Grid", f"{grid.rows} × {grid.cols} tiles of {grid.tile} px, stride {grid.stride} px"),
        Row("Temperature of the softmax", f"{scored.temperature:.4g}"),
        Row("Computed in", f"{scored.run.arithmetic}; features stored: {scored.run.features_as}"),
        Row("Versions", _joined(record.get("versions", {}))),
        *(Row("Computed", _session(session)) for session in record.get("sessions", [])[-3:]),
        Row("Report by", f"napari-ood {__version__}"),
    ]
    return tuple(rows)


def _joined(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _session(session: Mapping[str, Any]) -> str:
    device, seconds = session.get("device", "unknown device"), session.get("seconds")
    took = f", {seconds:.1f} s" if isinstance(seconds, (int, float)) else ""
    return f"{session.get('started', '')} on {device}{took}, {session.get('machine', '')}"
