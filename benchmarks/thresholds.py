"""How fast are scores, quantiles and thresholds at a million tiles?

    python benchmarks/thresholds.py [--tiles 1000000] [--heads 10] [--classes 2] [--features 64]

Writes a synthetic run and a bundle with a reference to a temporary folder, opens the run as the
dock does, and prints the time of each step and the peak memory as a markdown table: by the clock,
and of the processors, which says more on a busy machine. A step that is repeated shows its median
and its slowest. No network is run.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_ood import open_run
from napari_ood.analysis import ScoredRun, summarise
from napari_ood.inference.plan import Plan
from napari_ood.inference.store import RunWriter, shards
from napari_ood.models import Card, Reference
from napari_ood.models.card import MODEL, BundleFile, FeatureBlock
from napari_ood.scores.thresholds import Meaning, value_threshold
from napari_ood.slides.grid import TileGrid

HELD_OUT, MOVES, SHARD = 3000, 100, (32, 32)


class Synthetic:
    """What a scored run asks of a bundle: a card, hashes and a reference."""

    def __init__(self, heads: int, classes: int, features: int) -> None:
        self.name, self.hashes = "synthetic", {"model": "0"}
        blocks = (FeatureBlock("penultimate", "penultimate", "mean", 0, features),)
        self.card = Card(
            name=self.name,
            classes=tuple(f"class {i}" for i in range(classes)),
            architecture="timm:resnet18",
            tile_size=224,
            mpp=0.5,
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            n_heads=heads,
            blocks=blocks,
            scores={"uncertainty": "entropy", "ood": "mahalanobis"},
            files={MODEL: BundleFile("0" * 64, 1)},
        )
        rng = np.random.default_rng(1)
        labels = rng.integers(0, classes, HELD_OUT)
        self.reference = Reference(
            train_features=rng.normal(size=(HELD_OUT, features)),
            train_labels=labels,
            head_weight=rng.normal(size=(heads, classes, features)),
            head_bias=np.zeros((heads, classes)),
            validation_logits=draw_logits(rng, labels, heads, classes),
            validation_features=rng.normal(size=(HELD_OUT, features)),
            validation_labels=labels,
            blocks=blocks,
        )

    def require_reference(self) -> Reference:
        return self.reference


def draw_logits(rng: np.random.Generator, labels: Any, heads: int, classes: int) -> Any:
    """[N, M, C] float32: heads that mostly agree on a class, mostly the right one."""
    shape = (len(labels), 1, classes)
    own = rng.normal(size=(len(labels), heads, classes), scale=0.5)
    return (3 * np.eye(classes)[labels][:, None] + rng.normal(size=shape) + own).astype(np.float32)


def write_run(path: Path, bundle: Synthetic, n_tiles: int) -> None:
    """Store ``n_tiles`` tiles with random logits and features, all with tissue."""
    cols = int(np.ceil(np.sqrt(n_tiles)))
    rows = -(-n_tiles // cols)
    grid = TileGrid.over((rows * 224, cols * 224), 224)
    tissue = (np.arange(rows * cols) < n_tiles).reshape(rows, cols)
    card = bundle.card
    slide = {"name": "synthetic", "path": "", "mpp": [0.5, 0.5], "fingerprint": "0"}
    record = {"name": bundle.name, "path": "", "hashes": bundle.hashes, "card": card.to_config()}
    provenance = {"identity": {}, "slide": slide, "bundle": record, "sessions": []}
    plan = Plan(grid, tissue, SHARD)
    writer = RunWriter.create(path, plan, card.n_heads, card.n_classes, card.n_features, provenance)
    rng = np.random.default_rng(0)
    for shard in shards(tissue.shape, SHARD):
        index = np.argwhere(tissue[shard.slices]) + shard.origin
        if len(index):
            labels = rng.integers(0, card.n_classes, len(index))
            features = rng.normal(size=(len(index), card.n_features)).astype(np.float32)
            logits = draw_logits(rng, labels, card.n_heads, card.n_classes)
            writer.write(shard, index, logits, features)


def timed(step: Callable[[], Any]) -> tuple[float, float, Any]:
    """Milliseconds that a step takes on the clock and of processors, and what it returns."""
    start, busy = time.perf_counter(), time.process_time()
    result = step()
    clock, processors = time.perf_counter() - start, time.process_time() - busy
    return 1000 * clock, 1000 * processors, result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time scores and thresholds of a large run.")
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--features", type=int, default=64)
    options = parser.parse_args()
    bundle = Synthetic(options.heads, options.classes, options.features)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.ood.zarr"
        took, *_ = timed(lambda: write_run(path, bundle, options.tiles))
        print(
            f"{options.tiles:,} tiles, {options.heads} heads, {options.classes} classes, "
            f"{options.features} features (run written in {took / 1000:.0f} s)\n"
        )
        measure(path, bundle)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory {peak:,.0f} MiB")


def measure(path: Path, bundle: Any) -> None:
    """Open the run and go through what a user does."""
    print("| step | ms | ms of processors |\n|---|---|---|")

    def show(name: str, step: Callable[[], Any]) -> Any:
        clock, processors, result = timed(step)
        print(f"| {name} | {clock:,.1f} | {processors:,.1f} |", flush=True)
        return result

    scored = show("open the run", lambda: ScoredRun(open_run(path), bundle))
    show("read the logits", lambda: scored.run.logits)
    for name in ("entropy", "disagreement", "msp", "energy"):
        show(f"score {name}", lambda name=name: scored.score(name))
    show(
        "probabilities, prediction, confidence", lambda: (scored.prediction(), scored.confidence())
    )
    show("held-out scores and risk curve", lambda: scored.risk_curve("entropy"))
    for meaning, x in ((Meaning.KEEP, 0.95), (Meaning.RISK, 0.02), (Meaning.COVERAGE, 0.8)):
        show(
            f"threshold for {meaning.value} {x:g}",
            lambda meaning=meaning, x=x: scored.threshold("entropy", meaning, x),
        )
    show(
        "first summary (sorts the scores)",
        lambda: summarise(scored, value_threshold("entropy", 0.3)),
    )
    moves = [value_threshold("entropy", v) for v in np.linspace(0, np.log(2), MOVES)]
    repeated("move: read-out", moves, lambda t: summarise(scored, t))
    repeated("move: mask of flagged tiles", moves, scored.flagged)
    repeated(
        "move: read-out and mask on the grid",
        moves,
        lambda t: (summarise(scored, t), scored.on_grid(scored.flagged(t), False)),
    )
    warm = scored.with_temperature(1.5)
    show("another temperature: entropy", lambda: warm.score("entropy"))
    show("another temperature: summary", lambda: summarise(warm, warm.renewed(moves[50])))
    back = warm.with_temperature(scored.temperature)
    show("back to the first temperature", lambda: summarise(back, moves[50]))
    rule = show("fit prediction sets", lambda: scored.conformal(0.05))
    show("prediction sets", lambda: rule.sets(scored.probabilities()))
    show("read the features", lambda: scored.run.features)
    show("fit mahalanobis to the reference", lambda: scored.familiar("ood"))
    show("score mahalanobis", lambda: scored.score("ood"))
    show("summary of mahalanobis", lambda: summarise(scored, scored.threshold("ood")))


def repeated(name: str, moves: list[Any], step: Callable[[Any], Any]) -> None:
    """Print median and slowest of one step per threshold."""
    times = np.array([timed(lambda move=move: step(move))[:2] for move in moves])
    shown = (f"{np.median(t):.2f}, slowest {t.max():.2f}" for t in times.T)
    print(f"| {name} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
