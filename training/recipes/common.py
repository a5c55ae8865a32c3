"""What the recipes of the shipped bundles share: train on one split, then write the whole card."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from napari_ood.models import Bundle, add_to_bundle, load_bundle, save_bundle
from napari_ood.models.card import EXTRAS
from napari_ood.training.config import EpochRecord, TrainProgress
from napari_ood.training.make import make_bundle, refit_bundle
from napari_ood.training.request import Request

COLUMNS = ("path", "label", "group", "mpp")


def options(
    description: str, more: Callable[[argparse.ArgumentParser], object] = lambda parser: None
) -> argparse.Namespace:
    """Command line of a recipe; ``more`` adds what only one recipe has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--epochs", type=int, help="fewer, for a trial run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch")
    parser.add_argument(
        "--refit", action="store_true", help="keep OUT's weights, fit its reference and card anew"
    )
    parser.add_argument(
        "--thumbnails", action="store_true", help="keep small pictures of the reference's tiles"
    )
    more(parser)
    return parser.parse_args()


def rows_of_split(
    table: Path, split: str, out: Path, keep: Callable[[dict[str, str]], bool] = lambda row: True
) -> Path:
    """Write the rows of one split as a table of its own, without the column ``split``.

    Groups and scales (columns ``group``, ``mpp``) go with them, so that held-out tiles are of other
    slides or patients. The other splits are never opened: they are test sets.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if row["split"] == split and keep(row)]
    names = [name for name in COLUMNS if name in (reader.fieldnames or ())]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "path": (table.parent / row["path"]).resolve()})
    return out


def train_bundle(request: Request, words: Mapping[str, Any], args: argparse.Namespace) -> Bundle:
    """Train as requested, or only fit the reference anew, then write the card's words.

    OUT.log.jsonl gets one line per epoch.
    """

    def report(progress: TrainProgress) -> None:
        if progress.record is not None:
            print(json.dumps(_short(progress.record)), flush=True)

    def notice(text: str) -> None:
        print(text, file=sys.stderr)

    if args.refit:
        bundle = refit_bundle(request, load_bundle(request.out), notice)
    else:
        made = make_bundle(request, report, notice, resume=args.resume)
        lines = (json.dumps(record) + "\n" for record in made.summary["history"])
        args.out.with_suffix(".log.jsonl").write_text("".join(lines), "utf-8")
        bundle = made.bundle
    extras = {name: bundle.arrays(name) or {} for name in EXTRAS if name in bundle.card.files}
    card = dataclasses.replace(bundle.card, **words)
    saved = save_bundle(request.out, bundle.trained_network(), card, bundle.reference)
    return add_to_bundle(saved, extras)


def _short(record: EpochRecord) -> dict[str, Any]:
    values = dataclasses.asdict(record)
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
