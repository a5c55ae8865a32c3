"""What bf16 and float16 change, and what bf16 gains, on tiles that no bundle has seen.

Speeds are of the network alone, in rounds in which all arithmetics take turns; medians are quoted.
Changes are told per score in units of the score's own range (5th to 95th percentile of held-out
tiles), decisions at the threshold that keeps 95 % of held-out tiles: those of the reference as it
is, and those of the reference scored in bf16, which is what a run in bf16 uses.

    python benchmarks/precision.py [--data ../shared/data] [--tiles 400] [--rounds 5] [--threads 2]

Takes about three minutes on two cores. ``--json FILE`` keeps the numbers.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from napari_ood import Bundle, load_bundle
from napari_ood.models import Reference, reuse_freed_memory
from napari_ood.models.device import processor
from napari_ood.models.halved import recorded_changes
from napari_ood.models.precision import BF16, CHANNELS_FIRST, USUAL, Arithmetic, ArithmeticNet
from napari_ood.scores import mean_probability
from napari_ood.training.dataset import read_dataset
from napari_ood.training.halved import run_in

Tiles = NDArray[np.uint8]
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]

BATCH_SIZE = 32
SPEED_TILES = 64
ARITHMETICS = (
    USUAL,
    Arithmetic("fp32", CHANNELS_FIRST),
    Arithmetic(BF16),
    Arithmetic(BF16, CHANNELS_FIRST),
)


def lymph_node(data: Path, n: int) -> Tiles:
    with (data / "pcam" / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "valid"]
    chosen = rows[:: max(1, len(rows) // n)][:n]
    return np.stack([np.asarray(Image.open(data / "pcam" / row["path"])) for row in chosen])


def foreign(data: Path, n: int) -> Tiles:
    folder = data / "ood"
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["px"] == "96"]
    chosen = rows[:: max(1, len(rows) // n)][:n]
    return np.stack([np.asarray(Image.open(folder / row["path"]).convert("RGB")) for row in chosen])


def dermoscopy(data: Path, n: int) -> Tiles:
    valid = read_dataset(data / "isic2017").split("valid")
    side = load_bundle("dermoscopy").card.tile_size
    return valid.subset(np.arange(min(n, len(valid)))).read_tiles(side).tiles


SETS: tuple[tuple[str, str, Callable[[Path, int], Tiles]], ...] = (
    ("lymph-node-he", "PatchCamelyon, validation split", lymph_node),
    ("lymph-node-he", "foreign tiles of 96 px", foreign),
    ("dermoscopy", "ISIC 2017, validation split", dermoscopy),
)


def speeds(bundle: Bundle, rounds: int) -> dict[str, float]:
    side = bundle.card.tile_size
    tiles = torch.randint(0, 256, (SPEED_TILES, side, side, 3), dtype=torch.uint8)
    nets = {a: ArithmeticNet(bundle.network("cpu"), a) for a in ARITHMETICS}
    took: dict[Arithmetic, list[float]] = {a: [] for a in ARITHMETICS}
    with torch.inference_mode():
        for round_ in range(rounds + 1):
            for arithmetic in ARITHMETICS if round_ % 2 else reversed(ARITHMETICS):
                start = time.perf_counter()
                for batch in tiles.split(BATCH_SIZE):
                    nets[arithmetic](batch)
                if round_:
                    took[arithmetic].append(time.perf_counter() - start)
    return {str(a): SPEED_TILES / statistics.median(spent) for a, spent in took.items()}


def changes(bundle: Bundle, exact: Pair, other: Pair, after: Reference) -> dict[str, Any]:
    """What another arithmetic changes; ``after`` is the reference that its thresholds come from."""
    before = bundle.require_reference()
    p, q = (mean_probability(z, bundle.card.temperature) for z, _ in (exact, other))
    found: dict[str, Any] = {
        "probability": {
            "largest": float(np.abs(p - q).max()),
            "mean": float(np.abs(p - q).mean()),
            "turned": float((p.argmax(1) != q.argmax(1)).mean()),
        }
    }
    for role, score in bundle.card.scores.items():
        limit = before.quantile(score, 0.95)
        unit = limit - before.quantile(score, 0.05)
        a, b = before.score(score, *exact), after.score(score, *other)
        apart = np.abs(b - a) / unit
        flagged, now = a > limit, b > after.quantile(score, 0.95)
        turned = flagged != now
        found[role] = {
            "median": float(np.median(apart)),
            "p95": float(np.quantile(apart, 0.95)),
            "largest": float(apart.max()),
            "flagged": float(flagged.mean()),
            "flagged_now": float(now.mean()),
            "turned": float(turned.mean()),
            "farthest_turned": float((np.abs(a - limit)[turned] / unit).max(initial=0)),
        }
    return found


def print_changes(title: str, found: dict[str, Any]) -> None:
    p = found["probability"]
    print(
        f"  {title}: probability changes by {p['mean']:.4f} in the mean, {p['largest']:.3f} at "
        f"most; {p['turned']:.2%} of predictions turn"
    )
    for role, row in found.items():
        if role != "probability":
            print(
                f"    {role:12} median {row['median']:.4f}, p95 {row['p95']:.3f}, largest "
                f"{row['largest']:.3f} of the range; flagged {row['flagged']:.2%} -> "
                f"{row['flagged_now']:.2%}, {row['turned']:.2%} turn, none farther than "
                f"{row['farthest_turned']:.3f} from the threshold"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--tiles", type=int, default=400, help="per set, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    reuse_freed_memory()
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    record: dict[str, Any] = {"speeds": {}, "changes": []}
    for name in ("lymph-node-he", "dermoscopy", "synthetic-he"):
        bundle = load_bundle(name)
        found = speeds(bundle, args.rounds)
        record["speeds"][name] = found
        usual = found[str(USUAL)]
        rates = ", ".join(f"{a} {rate:.1f} ({rate / usual:.2f})" for a, rate in found.items())
        print(f"{name}: tiles/s {rates}")
        changed = {k: round(v, 4) for k, v in (recorded_changes(bundle) or {}).items()}
        print(f"  bf16 turns of its own held-out tiles: {changed}")
    for name, title, tiles in SETS:
        bundle = load_bundle(name)
        images = tiles(args.data, args.tiles)
        print(f"{name} on {title}: {len(images)} tiles")
        exact, half = (run_in(bundle, images, a) for a in (USUAL, Arithmetic(BF16)))
        rounded = (exact[0], exact[1].astype(np.float16).astype(np.float32))
        own = bundle.require_reference()
        rows = {
            "bf16, thresholds of fp32": changes(bundle, exact, half, own),
            "bf16, thresholds of bf16": changes(
                bundle, exact, half, bundle.in_precision(BF16).require_reference()
            ),
            "features as float16": changes(bundle, exact, rounded, own),
        }
        for kind, found in rows.items():
            print_changes(kind, found)
        record["changes"].append({"bundle": name, "tiles": title, "n": len(images), **rows})
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
