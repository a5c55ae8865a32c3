"""Measure ``lymph-node-he`` on real tiles and write the tables of docs/results.md.

    python benchmarks/results.py [--data ../shared/data] [--bundle FOLDER] [--write]

In-distribution tiles are PatchCamelyon's validation split, which the recipe never opens. Without
``--write`` the section is printed; with it, docs/results.md and the bundle's card are updated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from napari_ood.evaluation.foreign import controls, read_manifest
from napari_ood.evaluation.handcrafted import colour_texture
from napari_ood.evaluation.metrics import auroc
from napari_ood.evaluation.table import (
    Outputs,
    Row,
    compare,
    id_metrics,
    markdown,
    ood_rows,
    summary,
)
from napari_ood.models import Bundle, load_bundle
from napari_ood.models.card import CONFIG
from napari_ood.models.memory import reuse_freed_memory
from napari_ood.scores import Mahalanobis, mean_probability
from napari_ood.training import read_dataset
from napari_ood.training.fit import balanced_sample

REPO = Path(__file__).resolve().parents[1]
RESULTS = REPO / "docs" / "results.md"
BEGIN, END = "<!-- lymph-node-he: begin -->", "<!-- lymph-node-he: end -->"
LOGIT_SCORES = ("msp", "entropy", "disagreement", "energy")
BASELINE = "colour + texture"
BASELINE_TRAIN_TILES, N_CONTROL = 2000, 600


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that was measured. ``flagged`` are shares above the bundle's own threshold."""

    quality: dict[str, float | None]
    errors: dict[str, float]
    flagged_inside: dict[str, float]
    flagged: dict[str, float]
    rows: list[Row]
    control_rows: list[Row]


def main() -> None:
    """Measure, print, and write what the options ask for."""
    options = _options()
    reuse_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    bundle = load_bundle(options.bundle)
    report = measure(bundle, options.data)
    text = _section(bundle, report)
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps(dataclasses.asdict(report), indent=1), "utf-8")
    if options.write:
        _write_section(text)
        _write_card(bundle, report)


def measure(bundle: Bundle, data: Path) -> Report:
    """Run the network once over all tiles, then compute every score from what it said."""
    card, reference = bundle.card, bundle.require_reference()
    table = read_dataset(data / "pcam" / "labels.csv", card.tile_size, classes=card.classes)
    valid, train = table.split("valid"), table.split("train")
    inside_tiles = valid.read()
    foreign = read_manifest(data / "ood" / "manifest.csv", card.tile_size, card.mpp)
    foreign |= _lc25000(data / "lc25000", card.tile_size)
    sample = np.random.default_rng(0).choice(len(inside_tiles), N_CONTROL, replace=False)
    changed = controls(inside_tiles[np.sort(sample)])

    network = bundle.network("cpu")
    inside = _run(network, inside_tiles)
    outside = {name: _run(network, tiles) for name, tiles in foreign.items()}
    altered = {name: _run(network, tiles) for name, tiles in changed.items()}
    scores = [*LOGIT_SCORES, *_feature_scores(bundle)]
    rows = ood_rows(reference, inside, outside, scores)
    control_rows = ood_rows(reference, inside, altered, scores)

    kept = balanced_sample(train.labels, BASELINE_TRAIN_TILES, np.random.default_rng(0))
    train_tiles = train.subset(kept).read()
    baseline = _Baseline(train_tiles, train.labels[kept], inside_tiles)
    ood = card.scores["ood"]
    return Report(
        quality=id_metrics(inside.logits, valid.labels, card.temperature),
        errors=_error_detection(bundle, inside, valid.labels, scores),
        flagged_inside={k: _share_flagged(bundle, s, inside) for k, s in card.scores.items()},
        flagged={name: _share_flagged(bundle, ood, out) for name, out in outside.items()},
        rows=rows + [baseline.row(name, tiles) for name, tiles in foreign.items()],
        control_rows=control_rows + [baseline.row(name, tiles) for name, tiles in changed.items()],
    )


class _Baseline:
    """Mahalanobis distance on colour and texture statistics, fitted to training tiles."""

    def __init__(self, train: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> None:
        features = colour_texture(train)
        # Statistics have different units; distances don't care, but shrinkage does.
        self.mean, self.std = features.mean(axis=0), features.std(axis=0) + 1e-6
        self.detector = Mahalanobis.fit(self._scaled(features), labels)
        self.inside = self.detector.score(self._scaled(colour_texture(inside)))

    def row(self, name: str, tiles: np.ndarray) -> Row:
        outside = self.detector.score(self._scaled(colour_texture(tiles)))
        return compare(name, BASELINE, self.inside, outside)

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) / self.std


def _run(network: torch.nn.Module, tiles: np.ndarray) -> Outputs:
    parts = []
    with torch.inference_mode():
        for batch in torch.from_numpy(tiles).split(256):
            parts.append([out.numpy() for out in network(batch)])
    logits, features = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Outputs(logits, features)


def _feature_scores(bundle: Bundle) -> list[str]:
    blocks = [block.name for block in bundle.card.blocks]
    early = [name for name in blocks if name != "penultimate"]
    combined = ["+".join(early[:n]) for n in range(2, len(early) + 1)] + ["+".join(blocks)]
    plain = [f"mahalanobis@{name}" for name in dict.fromkeys([*blocks, *combined])]
    return [*plain, f"mahalanobis++@{combined[0]}", "mahalanobis++@penultimate"]


def _lc25000(folder: Path, tile: int) -> dict[str, np.ndarray]:
    if not (folder / "labels.csv").is_file():
        return {}
    table = read_dataset(folder / "labels.csv", tile).split("test")
    images = table.read()
    return {f"LC25000 {name}": images[table.labels == i] for i, name in enumerate(table.classes)}


def _share_flagged(bundle: Bundle, score: str, out: Outputs) -> float:
    """Share of tiles above the bundle's own threshold (5 % of its held-out tiles are)."""
    reference = bundle.require_reference()
    values = reference.score(score, out.logits, out.features)
    return float((values > reference.quantile(score, 0.95)).mean())


def _error_detection(
    bundle: Bundle, inside: Outputs, labels: np.ndarray, scores: list[str]
) -> dict[str, float]:
    """AUROC of each score for telling wrong from right predictions on test tiles."""
    reference = bundle.require_reference()
    p = mean_probability(inside.logits, bundle.card.temperature)
    wrong = p.argmax(axis=1) != labels
    return {s: auroc(reference.score(s, inside.logits, inside.features), wrong) for s in scores}


def _section(bundle: Bundle, report: Report) -> str:
    card, quality = bundle.card, report.quality
    versions = ", ".join(f"{p} {version(p)}" for p in ("torch", "timm", "scikit-learn", "numpy"))
    held = card.training["held_out"]
    seeds = ", ".join(str(stage["seed"]) for stage in card.training["stages"])
    wrong = ", ".join(f"`{name}` {report.errors[name]:.3f}" for name in LOGIT_SCORES)
    ood, uncertainty = card.scores["ood"], card.scores["uncertainty"]
    inside = report.flagged_inside
    return f"""{BEGIN}
## lymph-node-he

Made by `python benchmarks/results.py --write` (Python {platform.python_version()}, {versions}; CPU,
float32, sampling seed 0). Bundle trained by `python training/recipes/lymph_node_he.py --data
../shared/data/pcam --out BUNDLE --threads 1` (seeds {seeds}; log: `docs/lymph-node-he.log.jsonl`);
weights sha256 `{bundle.hashes["model.safetensors"][:16]}…`.

### In distribution

PatchCamelyon `valid`, {quality["n"]} tiles, not used in training. (Looked at once before, by the
exploratory run below, whose gap to the held-out tiles led to stronger stain augmentation.)

| | AUROC | accuracy | ECE | NLL |
|---|---|---|---|---|
| PCam valid | {quality["auroc"]:.3f} | {quality["accuracy"]:.3f} | {quality["ece"]:.3f} | \
{quality["nll"]:.3f} |
| held out of train at random (same slides as training; chose the epoch) | {held["auroc"]:.3f} | \
{held["accuracy"]:.3f} | | {held["nll"]:.3f} |

Will it be wrong? AUROC of telling wrong from right predictions on PCam valid: {wrong}.

The bundle's thresholds keep 95 % of its held-out tiles. On PCam valid they flag
{inside["uncertainty"]:.1%} (`{uncertainty}`) and {inside["ood"]:.1%} (`{ood}`).

### Out of distribution, against PCam valid

Tiles of {card.tile_size} px. Images whose mpp is known are brought to {card.mpp} µm/px; the test
split of LC25000 is resized from 224 px as a whole; what was resampled or padded (mirrored) is
compressed again (JPEG 75, 4:2:0). At most four tiles per image. FPR95: share of foreign tiles kept
when 95 % of PCam valid is kept. Intervals resample tiles, not images or slides, so they are too
narrow. *Flagged*: share above the threshold that the bundle ships.

{summary(report.rows, ood, BASELINE, report.flagged)}

All scores (with two classes `msp` ranks as `entropy` does):

{markdown(report.rows, "auroc")}

{markdown(report.rows, "fpr95")}

### Controls

{N_CONTROL} tiles of PCam valid, changed in ways that leave the tissue as it is, against PCam valid.
0.5: the score does not see the change. Far above: it sees appearance, not tissue.

{markdown(report.control_rows, "auroc").replace("**", "")}
{END}
"""


def _write_section(text: str) -> None:
    old = RESULTS.read_text("utf-8") if RESULTS.is_file() else "# Results\n"
    before, begin, rest = old.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n") if begin else ""
    gap = "" if before.endswith("\n\n") else "\n"
    RESULTS.write_text(before + gap + text + ("\n" + after if after else ""), "utf-8")


def _write_card(bundle: Bundle, report: Report) -> None:
    ood = bundle.card.scores["ood"]
    results = {
        "pcam_valid": {k: v if v is None else round(v, 4) for k, v in report.quality.items()},
        "flagged_on_pcam_valid": {k: round(v, 4) for k, v in report.flagged_inside.items()},
        "ood_against_pcam_valid": {
            row.set: {"n": row.n_ood, "auroc": round(row.auroc, 4), "fpr95": round(row.fpr95, 4)}
            for row in report.rows
            if row.score == ood
        },
    }
    config = dataclasses.replace(bundle.card, results=results).to_config()
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    (bundle.path / CONFIG).write_text(text + "\n", "utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure lymph-node-he on real tiles.")
    parser.add_argument("--data", type=Path, default=REPO.parent / "shared" / "data")
    parser.add_argument("--bundle", default="lymph-node-he", help="name or folder")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write every row with its interval here")
    parser.add_argument("--write", action="store_true", help="update docs/results.md and the card")
    return parser.parse_args()


if __name__ == "__main__":
    main()
