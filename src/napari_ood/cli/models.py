"""``napari-ood models``: the bundles at hand."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from napari_ood.cli.report import print_json, print_table

if TYPE_CHECKING:
    from napari_ood.models import Bundle


def models(args: Namespace) -> int:
    """Print every bundle's card."""
    from napari_ood import list_bundles, load_bundle

    bundles = [load_bundle(name) for name in list_bundles()]
    if args.json:
        print_json([describe(bundle) for bundle in bundles])
        return 0
    for index, bundle in enumerate(bundles):
        if index:
            print()
        print_table(_rows(bundle))
    return 0


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's path, its card as stored, and what this version does not understand."""
    return {
        "name": bundle.name,
        "path": str(bundle.path),
        "card": bundle.card.to_config(),
        "warnings": list(bundle.card.warnings),
    }


def _rows(bundle: Bundle) -> list[tuple[str, str]]:
    card = bundle.card
    scale = "any scale" if card.mpp is None else f"{card.mpp:g} µm/px"
    rows = [
        ("bundle", bundle.name),
        ("", card.description),
        ("classes", ", ".join(card.classes)),
        ("tiles", f"{card.tile_size} px at {scale}"),
        ("stain", card.stain),
        ("tissue", card.tissue),
        ("network", f"{card.architecture}, {card.n_heads} heads"),
        ("scores", ", ".join(f"{kind}: {name}" for kind, name in card.scores.items())),
        ("training data", card.training_data),
        ("intended use", card.intended_use),
        *(("limit", text) for text in card.limitations),
        ("licence", card.licence),
        ("folder", str(bundle.path)),
        *(("warning", text) for text in card.warnings),
    ]
    return [row for row in rows if row[1]]
