"""``napari-ood models``: the bundles at hand."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from napari_ood.cli.report import print_json, print_table

if TYPE_CHECKING:
    from napari_ood.models import BundleEntry, Card


def models(args: Namespace) -> int:
    """Print the card of every bundle at hand; of a broken one, what is wrong with it."""
    from napari_ood import list_bundles

    entries = list_bundles()
    if args.json:
        print_json([describe(entry) for entry in entries])
        return 0
    for index, entry in enumerate(entries):
        if index:
            print()
        print_table(_rows(entry))
    return 0


def describe(entry: BundleEntry) -> dict[str, Any]:
    """Return a bundle's name, folder, its card as stored, or the error that makes it unusable."""
    return {
        "name": entry.name,
        "path": str(entry.path),
        "card": entry.card.to_config() if entry.card else None,
        "warnings": list(entry.card.warnings) if entry.card else [],
        "error": entry.error,
    }


def _rows(entry: BundleEntry) -> list[tuple[str, str]]:
    rows = [("bundle", entry.name), ("folder", str(entry.path))]
    if entry.card is None:
        return [*rows, ("unusable", str(entry.error))]
    return rows + [row for row in _card_rows(entry.card) if row[1]]


def _card_rows(card: Card) -> list[tuple[str, str]]:
    scale = "any scale" if card.mpp is None else f"{card.mpp:g} µm/px"
    whole = f"none: the whole image, resized to {card.tile_size} × {card.tile_size} px"
    return [
        ("about", card.description),
        ("classes", ", ".join(card.classes)),
        ("tiles", whole if card.whole_image else f"{card.tile_size} px at {scale}"),
        ("stain", card.stain),
        ("tissue", card.tissue),
        ("network", f"{card.architecture}, {card.n_heads} heads"),
        ("scores", ", ".join(f"{kind}: {name}" for kind, name in card.scores.items())),
        ("training data", card.training_data),
        ("intended use", card.intended_use),
        *(("limit", text) for text in card.limitations),
        ("licence", card.licence),
        *(("warning", text) for text in card.warnings),
    ]
