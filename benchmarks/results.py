"""Measure a bundle on real tiles: quality, foreign sets, controls, and a plain baseline.

    python benchmarks/results.py [BUNDLE] [--data ../shared/data] [--scores all] [--write] [--card]

The in-distribution tiles are those of the dataset whose classes the bundle has (PatchCamelyon,
ISIC 2017, LC25000): its split ``test``, else ``valid``. Without ``--write`` the tables are
printed; with it they are written to docs/results/<bundle>.md and .json. ``--card`` puts the short
results into the bundle's card.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.evaluation import Evaluation, Resampler, Row, evaluate, separation_intervals
from napari_ood.evaluation.foreign import ForeignTiles, read_manifest
from napari_ood.evaluation.handcrafted import colour_texture
from napari_ood.evaluation.measure import control_sets
from napari_ood.evaluation.table import (
    CONTRAST,
    CONTROL,
    cross_table,
    make_row,
    markdown,
    number,
    set_table,
    share,
)
from napari_ood.evaluation.tileset import TileSet, id_set, tile_set
from napari_ood.models import Bundle, Card, load_bundle
from napari_ood.models.card import CONFIG
from napari_ood.scores import Mahalanobis
from napari_ood.training import TileDataset, read_dataset
from napari_ood.training.fit import balanced_sample

REPO = Path(__file__).resolve().parents[1]
RESULTS = REPO / "docs" / "results"
DATASETS = {"pcam": "PatchCamelyon", "isic2017": "ISIC 2017", "lc25000": "LC25000"}
STAIN_COLUMN = "stain_cluster"
BASELINE, BASELINE_TILES = "colour + texture", 2000
SEED = 0


def main() -> None:
    """Measure, print, and write what the options ask for."""
    options = _options()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    bundle = load_bundle(options.bundle)
    key, dataset = own_dataset(bundle.card, options.data)
    sets = dict(foreign_sets(bundle.card, options.data, key))
    evaluation = evaluate(
        bundle,
        dataset,
        {name: found.tiles for name, found in sets.items()},
        options.scores,
        options.bootstrap,
        controls=True,
        contrast=STAIN_COLUMN if STAIN_COLUMN in dataset.columns else None,
        device=options.device,
        seed=SEED,
        groups={name: found.groups for name, found in sets.items()},
        on_tiles=lambda name, done, total: print(f"{name}: {done}/{total}", file=sys.stderr),
    )
    baseline = _baseline(bundle.card, dataset, sets, options.bootstrap)
    text = report(bundle, DATASETS[key], evaluation, baseline)
    print(text)
    if options.write:
        _write(bundle.name, text, evaluation, baseline)
    if options.card:
        _write_card(bundle, f"{key}_{_split(dataset)}", evaluation)


def own_dataset(card: Card, data: Path) -> tuple[str, TileDataset]:
    """The dataset in a folder of datasets whose classes the bundle has, and its name."""
    for key in DATASETS:
        table = data / key / "labels.csv"
        if table.is_file():
            dataset = read_dataset(table, card.tile_size)
            if set(dataset.classes) <= set(card.classes):
                return key, dataset
    raise SystemExit(f"no dataset in {data} has only classes of {card.name}: {card.classes}")


def _split(dataset: TileDataset) -> str:
    return "test" if "test" in dataset.splits else "valid"


def foreign_sets(card: Card, data: Path, own: str) -> Iterator[tuple[str, ForeignTiles]]:
    """Foreign sets: those of the manifest, and held-out tiles of the other datasets by class."""
    yield from read_manifest(data / "ood" / "manifest.csv", card.tile_size, card.mpp).items()
    for key, title in DATASETS.items():
        table = data / key / "labels.csv"
        if key == own or not table.is_file():
            continue
        dataset = read_dataset(table, card.tile_size)
        held = dataset.split(_split(dataset))
        tiles = held.read()
        for label, name in enumerate(held.classes):
            rows = held.labels == label
            groups = [g or path.name for g, path in zip(held.groups, held.paths, strict=True)]
            kept = tuple(str(g) for g, keep in zip(groups, rows, strict=True) if keep)
            yield f"{title} {name}", ForeignTiles(tiles[rows], kept)


def _baseline(
    card: Card, dataset: TileDataset, sets: dict[str, ForeignTiles], n_bootstrap: int
) -> list[Row]:
    """Rows of a Mahalanobis distance on colour and texture statistics of the same tiles."""
    train = dataset.split("train")
    kept = balanced_sample(train.labels, BASELINE_TILES, np.random.default_rng(SEED))
    features = colour_texture(train.subset(kept).read(card.tile_size, card.mpp))
    # Statistics have different units; distances don't care, but shrinkage does.
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    detector = Mahalanobis.fit((features - mean) / std, train.labels[kept])

    def score(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        return detector.score((colour_texture(tiles) - mean) / std)

    inside = id_set("id", dataset, card, None)
    outside = [tile_set(n, s.tiles, card, groups=s.groups) for n, s in sets.items()]
    outside += control_sets(inside, SEED)
    id_scores = score(dataset_tiles(inside))
    values = [score(dataset_tiles(tiles)) for tiles in outside]
    draws = [
        Resampler(len(t), t.groups.tolist(), n_bootstrap, SEED, t.name) for t in (inside, *outside)
    ]
    pairs = [(draw, [v]) for draw, v in zip(draws[1:], values, strict=True)]
    intervals = separation_intervals(draws[0], [id_scores], pairs)
    return [
        make_row(tiles.name, BASELINE, id_scores, v, found[0])
        for tiles, v, found in zip(outside, values, intervals, strict=True)
    ]


def dataset_tiles(tiles: TileSet) -> NDArray[np.uint8]:
    if tiles.tiles is not None:
        return tiles.tiles
    assert tiles.dataset is not None
    return tiles.dataset.read()


def report(bundle: Bundle, dataset: str, evaluation: Evaluation, baseline: list[Row]) -> str:
    """The tables as markdown."""
    quality, card = evaluation.quality, bundle.card
    changed = (CONTROL, CONTRAST)
    foreign = [row for row in evaluation.rows if not row.set.startswith(changed)]
    controls = [row for row in evaluation.rows if row.set.startswith(changed)]
    parts = [
        f"# {bundle.name}",
        f"Made by `python benchmarks/results.py {bundle.name} --write` "
        f"({', '.join(f'{k} {v}' for k, v in evaluation.versions.items())}; seed {SEED}). Weights "
        f"sha256 `{bundle.hashes['model.safetensors'][:16]}…`.",
        f"## In distribution: {dataset}",
        f"{quality.n:,} tiles ({evaluation.notes[0]}).",
        markdown(
            [
                ("", "AUROC", "accuracy", "ECE", "NLL"),
                (
                    dataset,
                    *map(number, (quality.auroc, quality.accuracy, quality.ece, quality.nll)),
                ),
            ]
        ),
        "Will it be wrong? AUROC of telling wrong from right predictions; AURC and AUGRC (lower "
        "is better).",
        markdown(_error_table(evaluation)),
        "## Foreign sets",
        f"Tiles of {card.tile_size} px. Images whose mpp is known are brought to the bundle's "
        f"({card.mpp}) µm/px, at most four tiles per image; others are resized as a whole; what "
        "was resampled out of a JPEG is compressed again (quality 75, 4:2:0). FPR95: share of "
        "foreign tiles kept when 95 % of the in-distribution tiles are kept. Intervals resample "
        "images, or groups where the dataset names them. *flagged*: share above the threshold "
        "that the bundle ships.",
    ]
    for role, score in evaluation.default_scores.items():
        flagged = {name: shares[role] for name, shares in evaluation.flagged.items()}
        parts += [
            f"### `{role}`: `{score}`",
            f"Flags {share(flagged['id'])} of the in-distribution tiles.",
            markdown(set_table(foreign, score, flagged)),
        ]
    plain = [row for row in baseline if not row.set.startswith(changed)]
    parts += [
        "### Baseline: Mahalanobis distance of colour and texture statistics",
        markdown(set_table(plain, BASELINE, {})),
        "### All scores",
        markdown(_transposed(cross_table([*foreign, *plain], "auroc"))),
        markdown(_transposed(cross_table([*foreign, *plain], "fpr95"))),
        "## Controls",
        "In-distribution tiles changed in ways that leave the tissue as it is, against unchanged "
        "ones; and in-distribution tiles against each other (*contrast*). 0.5: the score does not "
        "see the change. Far above: it sees appearance.",
        markdown(_transposed(_plain(cross_table([*controls, *_only(baseline, CONTROL)], "auroc")))),
        "## Notes",
        "\n".join(f"- {note}" for note in evaluation.notes),
    ]
    return "\n\n".join(parts) + "\n"


def _error_table(evaluation: Evaluation) -> list[tuple[str, ...]]:
    quality = evaluation.quality
    names = sorted(quality.error_auroc, key=lambda k: -(quality.error_auroc[k] or 0))
    columns = (quality.error_auroc, quality.aurc, quality.augrc)
    lines = [(f"`{name}`", *(number(column[name]) for column in columns)) for name in names]
    return [("score", "AUROC of errors", "AURC", "AUGRC"), *lines]


def _only(rows: list[Row], prefix: str) -> list[Row]:
    return [row for row in rows if row.set.startswith(prefix)]


def _transposed(table: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Sets down, scores across where there are few scores; else as it is."""
    return list(zip(*table, strict=True)) if len(table) < len(table[0]) else table


def _plain(table: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without bold type: seeing a control is no merit."""
    return [tuple(cell.replace("**", "") for cell in cells) for cells in table]


def _write(name: str, text: str, evaluation: Evaluation, baseline: list[Row]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, "utf-8")
    record = evaluation.as_json() | {"baseline": [row.as_json() for row in baseline]}
    target = RESULTS / f"{name}.json"
    target.write_text(_one_line_per_row(record), "utf-8")


def _one_line_per_row(record: dict[str, Any]) -> str:
    """JSON of four digits, with each row on a line of its own: small, and diffs can be read."""
    parts = []
    for key, value in record.items():
        rows = value if isinstance(value, list) else None
        lines = [json.dumps(_four_digits(row), ensure_ascii=False) for row in rows or []]
        text = (
            "[\n" + ",\n".join(lines) + "\n]"
            if rows is not None
            else json.dumps(_four_digits(value), ensure_ascii=False, allow_nan=False)
        )
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _four_digits(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _four_digits(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_four_digits(part) for part in value]
    return value


def _write_card(bundle: Bundle, inside: str, evaluation: Evaluation) -> None:
    """Put the quality and the rows of the default scores, rounded, into the bundle's card."""
    quality = evaluation.quality

    def of(score: str) -> dict[str, Any]:
        return {
            row.set: {"n": row.n_ood, "auroc": _rounded(row.auroc), "fpr95": _rounded(row.fpr95)}
            for row in evaluation.rows
            if row.score == score
        }

    names = ("n", "accuracy", "auroc", "ece", "nll")
    results = {
        inside: {name: _rounded(getattr(quality, name)) for name in names},
        f"flagged_on_{inside}": {
            role: _rounded(evaluation.flagged["id"][role]) for role in evaluation.default_scores
        },
    }
    for role, score in evaluation.default_scores.items():
        results[f"{role}_against_{inside}"] = of(score)
    kept = {**bundle.card.results, **results}  # the training's own held-out results stay
    config = dataclasses.replace(bundle.card, results=kept).to_config()
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    (bundle.path / CONFIG).write_text(text + "\n", "utf-8")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a bundle on real tiles.")
    parser.add_argument("bundle", nargs="?", default="lymph-node-he", help="name or folder")
    parser.add_argument("--data", type=Path, default=REPO.parent / "shared" / "data")
    parser.add_argument("--scores", default="all", help="all, default, or names")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="docs/results/<bundle>.md and .json")
    parser.add_argument("--card", action="store_true", help="put short results into the card")
    return parser.parse_args()


if __name__ == "__main__":
    main()
