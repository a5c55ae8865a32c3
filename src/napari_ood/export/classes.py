"""Classifications that QuPath shows: names and colours of overlays, classes and verdicts.

A name of several parts is what QuPath calls a derived class, such as ``Artefact: pen``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ood.review.verdicts import Artefact, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ood.models import Card
    from napari_ood.review.verdicts import Verdict

Names = tuple[str, ...]
RGB = tuple[int, int, int]

ROLES: dict[str, tuple[Names, RGB]] = {
    "uncertainty": (("Uncertain",), (241, 105, 19)),
    "ood": (("OOD",), (53, 183, 121)),
    "appearance": (("OOD", "appearance"), (33, 145, 140)),
    "tissue": (("OOD", "tissue"), (159, 218, 58)),
}
OTHER_ROLE: RGB = (110, 80, 160)

DESCRIPTION = "ANNOTATION_DESCRIPTION"
"""Metadata in which QuPath keeps an annotation's description."""

ARTEFACT = "Artefact"
UNKNOWN_TISSUE = "Unknown tissue"
SKIPPED = "Skipped"
_VERDICT_COLORS: dict[Kind, RGB] = {
    Kind.ARTEFACT: (120, 120, 120),
    Kind.UNKNOWN_TISSUE: (0, 170, 210),
    Kind.SKIP: (200, 200, 200),
}
_SPELLINGS = {"artifact": ARTEFACT.lower()}  # QuPath's own class list has the American one


def classification(names: Sequence[str], color: RGB) -> dict[str, Any]:
    """Return a classification as QuPath 0.4 and later write it: ``name`` or ``names``, colour."""
    named: dict[str, Any] = {"name": names[0]} if len(names) == 1 else {"names": list(names)}
    return {**named, "color": list(color)}


def of_role(role: str) -> dict[str, Any]:
    """Classification of flagged regions."""
    names, color = ROLES.get(role, ((role,), OTHER_ROLE))
    return classification(names, color)


def of_class(card: Card, label: str) -> dict[str, Any]:
    """Classification of a class of the bundle, in its colour."""
    colors = dict(zip(card.classes, card.colors, strict=True))
    digits = colors.get(label, "#808080").lstrip("#")
    red, green, blue = (int(digits[i : i + 2], 16) for i in (0, 2, 4))
    return classification((label,), (red, green, blue))


def of_verdict(card: Card, verdict: Verdict) -> dict[str, Any] | None:
    """Classification that says what the tissue is; None where an agreement has no class."""
    label = verdict.label or verdict.prediction
    if verdict.kind in (Kind.AGREE, Kind.WRONG_CLASS):
        return of_class(card, label) if label else None
    return classification(verdict_names(verdict), _VERDICT_COLORS[verdict.kind])


def verdict_names(verdict: Verdict) -> Names:
    """Names of a verdict's classification."""
    if verdict.kind is Kind.ARTEFACT:
        return ARTEFACT, str(verdict.artefact)
    if verdict.kind is Kind.UNKNOWN_TISSUE:
        return (UNKNOWN_TISSUE,)
    if verdict.kind is Kind.SKIP:
        return (SKIPPED,)
    label = verdict.label or verdict.prediction
    return (label,) if label else ()


def judged(
    names: Names, classes: Sequence[str], prediction: str | None
) -> tuple[Kind, str | None, Artefact | None] | None:
    """What a classification says of a place that the model predicts to be ``prediction``.

    Case, spaces and QuPath's trailing ``*`` (classes to be ignored) don't count.

    Returns
    -------
    kind, label, artefact; None if the classification means nothing here.
    """
    words = [_plain(name) for name in names]
    if not words:
        return None
    label = {_plain(name): name for name in classes}.get(": ".join(words))
    if label is not None:
        return (Kind.AGREE, None, None) if label == prediction else (Kind.WRONG_CLASS, label, None)
    first = _SPELLINGS.get(words[0], words[0])
    if first == ARTEFACT.lower():
        known = {kind.value: kind for kind in Artefact}
        detail = words[1] if len(words) > 1 else ""
        return Kind.ARTEFACT, None, known.get(detail, Artefact.OTHER)
    if first == UNKNOWN_TISSUE.lower():
        return Kind.UNKNOWN_TISSUE, None, None
    if first == SKIPPED.lower():
        return Kind.SKIP, None, None
    return None


def _plain(name: str) -> str:
    return " ".join(name.rstrip("*").split()).casefold()
