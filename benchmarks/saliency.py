"""What saliency methods cost, and which of them are faithful: docs/results/saliency.md.

    OMP_NUM_THREADS=1 python benchmarks/saliency.py --tiles DATA/pcam --write [--only cost]

Cost: CPU time per tile for each method over that of a forward pass in the same run, on the bundles
that ship. Faithfulness, on real tiles of the bundle's own kind: deletion and insertion curves
(Petsiuk et al. 2018) of the predicted class, and the rank correlation with the map of randomised
weights (Adebayo et al. 2018). Prints markdown; ``--write`` puts each part that was measured into
the page. Cost: about two minutes on one core; faithfulness about twenty.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_ood.errors import ExplainError
from napari_ood.explain import METHODS, Explainer, Target, perturbation_curves, randomisation_check
from napari_ood.models import load_bundle

PAGE = Path(__file__).parents[1] / "docs" / "results" / "saliency.md"
BUNDLES = ("synthetic-he", "lymph-node-he", "dermoscopy")
REPEATS, BATCH = 3, 8
FAITHFUL = "lymph-node-he"
RANDOM = "random order"
FEWER = {"rise": {"n_masks": 300}, "perturbation": {"n_iterations": 100}}
FEWER_TILES = {
    **dict.fromkeys(("smoothgrad", "integrated_gradients", "occlusion"), 32),
    **dict.fromkeys(("rise", "perturbation"), 16),
}
"""Tiles for the methods of about 100 and of over 500 forward passes."""
RANDOMISED_TILES = 8
"""Tiles of slow methods whose map is made again with random weights."""
N_STEPS, N_RESAMPLES = 16, 2000
TITLE = """# What saliency costs, and which methods are faithful

Written by `benchmarks/saliency.py`. Read the methods' caveats in [explain.md](../explain.md).
"""
COST, FAITHFULNESS = "## Cost", "## Faithfulness"


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost and faithfulness of saliency methods.")
    parser.add_argument("--tiles", type=Path, required=True, help="folder with labels.csv (PCam)")
    parser.add_argument("--n", type=int, default=64, help="tiles")
    parser.add_argument("--only", choices=("cost", "faithfulness"), help="one of the two parts")
    parser.add_argument("--write", action="store_true", help="into docs/results/saliency.md")
    args = parser.parse_args()
    parts = {}
    if args.only != "faithfulness":
        parts[COST] = costs()
    if args.only != "cost":
        parts[FAITHFULNESS] = faithfulness(read_tiles(args.tiles, args.n))
    print(TITLE, *parts.values(), sep="\n")
    if args.write:
        parts = {**parts_of(PAGE.read_text("utf-8")), **parts}
        PAGE.write_text("\n".join((TITLE, parts[COST], parts[FAITHFULNESS])), "utf-8")


def parts_of(page: str) -> dict[str, str]:
    """The two parts of the page that is there."""
    cost, _, faithful = page.partition(FAITHFULNESS)
    return {
        COST: COST + cost.partition(COST)[2].rstrip() + "\n",
        FAITHFULNESS: FAITHFULNESS + faithful,
    }


def read_tiles(folder: Path, n: int) -> NDArray[np.uint8]:
    """``n`` validation tiles: of each class and stain cluster alike, evenly spaced over the list.

    The first ``k`` of them hold each class and cluster alike, too.
    """
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "valid"]
    kinds = sorted({(row["label"], row["stain_cluster"]) for row in rows})
    each = -(-n // len(kinds))
    columns = []
    for kind in kinds:
        paths = [row["path"] for row in rows if (row["label"], row["stain_cluster"]) == kind]
        places = np.linspace(0, len(paths) - 1, each).astype(int)
        columns.append([paths[i] for i in np.random.default_rng(0).permutation(places)])
    chosen = list(itertools.chain(*zip(*columns, strict=True)))[:n]
    return np.stack([np.asarray(Image.open(folder / path).convert("RGB")) for path in chosen])


def costs() -> str:
    lines = [
        f"{COST}\n\nCPU time per tile over that of a forward pass with features, one thread, "
        f"target: a class; the OOD score for the gradient's second number. Fast methods: {BATCH} "
        f"tiles at once, median of {REPEATS}; slow ones: one tile, once.\n"
    ]
    found = [bundle_costs(name) for name in BUNDLES]
    forward = (f"{1e3 * seconds['']:.1f}" for seconds in found)
    lines.append(f"| | {' | '.join(BUNDLES)} |\n|---|{'---:|' * len(BUNDLES)}")
    lines.append(f"| forward pass, ms | {' | '.join(forward)} |")
    for method in METHODS:
        cells = " | ".join(cell(seconds, method) for seconds in found)
        lines.append(f"| {METHODS[method].title} | {cells} |")
    return "\n".join(lines) + "\n"


def cell(costs: dict[str, float], method: str) -> str:
    if method not in costs:
        return "not defined"
    text = f"{costs[method] / costs['']:.1f}"
    return f"{text}; {costs['ood'] / costs['']:.1f}" if method == "gradient" else text


def bundle_costs(name: str) -> dict[str, float]:
    """Seconds of CPU per tile by method; "" is the forward pass, "ood" the score's gradient."""
    explainer = Explainer(load_bundle(name), "cpu")
    side = explainer.bundle.card.tile_size
    tiles = np.random.default_rng(0).integers(0, 255, (BATCH, side, side, 3)).astype(np.uint8)
    score = Target.of_score("ood")
    forward = Target.of_score("energy")
    explainer.explain(tiles, "gradient", score)  # builds the network, fits the score
    found = {"": median_cpu(lambda: explainer.values(tiles, forward)) / BATCH}
    found["ood"] = median_cpu(lambda: explainer.explain(tiles, "gradient", score)) / BATCH
    for method, how in METHODS.items():
        x = tiles[:1] if how.slow else tiles
        try:
            explainer.layers()
            seconds = median_cpu(
                lambda x=x, method=method: explainer.explain(x, method, Target.of_class(0)),
                1 if how.slow else REPEATS,
            )
        except ExplainError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        found[method] = seconds / len(x)
    return found


def median_cpu(call, repeats: int = REPEATS) -> float:  # type: ignore[no-untyped-def]
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return float(np.median(times))


@dataclass(frozen=True)
class Found:
    """Deletion and insertion AUC of each tile [n, 2], of its predicted class; correlations [k]."""

    areas: NDArray[np.float64]
    correlations: NDArray[np.float32]

    @property
    def gap(self) -> NDArray[np.float64]:
        """Insertion − deletion; [n]."""
        return np.asarray(self.areas[:, 1] - self.areas[:, 0])


def faithfulness(tiles: NDArray[np.uint8]) -> str:
    explainer = Explainer(load_bundle(FAITHFUL), "cpu")
    n_classes = explainer.bundle.card.n_classes
    p = np.stack([explainer.values(tiles, Target.of_class(c), share=True)
                  for c in range(n_classes)], axis=1)  # fmt: skip
    predicted = p.argmax(axis=1)
    noise = np.random.default_rng(0).random(tiles.shape[:3], np.float32)
    rows = {RANDOM: Found(curves(explainer, tiles, noise, predicted), np.empty(0, np.float32))}
    for method in METHODS:
        n = FEWER_TILES.get(method, len(tiles))
        rows[method] = judged(explainer, tiles[:n], predicted[:n], method)
        print(f"{method} done, {time.process_time():.0f} s", file=sys.stderr, flush=True)
    return faithfulness_table(rows, len(tiles), float(p.max(axis=1).mean()))


def judged(
    explainer: Explainer, tiles: NDArray[np.uint8], predicted: NDArray[np.int64], method: str
) -> Found:
    """Curves of all tiles; the test of randomised weights of all, or of a few for a slow method."""
    slow, options = METHODS[method].slow, FEWER.get(method, {})
    maps, correlations = np.empty(tiles.shape[:3], np.float32), []
    at_once = 1 if slow else BATCH
    for c in np.unique(predicted):
        target, mine = Target.of_class(int(c)), np.flatnonzero(predicted == c)
        for at in np.split(mine, range(at_once, len(mine), at_once)):
            if slow and at[0] >= RANDOMISED_TILES:
                maps[at] = explainer.explain(tiles[at], method, target, **options).values
                continue
            sanity = randomisation_check(explainer, tiles[at], method, target, **options)
            maps[at] = sanity.original.values
            correlations.append(sanity.correlations)
    found = np.concatenate(correlations)
    return Found(curves(explainer, tiles, maps, predicted), found[np.isfinite(found)])


def curves(explainer, tiles, maps, predicted) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    """[N, 2]: deletion and insertion AUC of each tile, for its predicted class."""
    return np.array([
        (found.deletion_auc, found.insertion_auc)
        for tile, values, c in zip(tiles, maps, predicted, strict=True)
        for found in [
            perturbation_curves(explainer, tile, values, Target.of_class(int(c)), N_STEPS)
        ]
    ])  # fmt: skip


def interval(values: NDArray[np.float64]) -> str:
    """Mean and its 95 % interval, tiles resampled."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (N_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def faithfulness_table(rows: dict[str, Found], n: int, p: float) -> str:
    words = ", ".join(f"{METHODS[m].title} with {v} {k[2:]}" for m, o in FEWER.items()
                      for k, v in o.items())  # fmt: skip
    lines = [
        f"{FAITHFULNESS}\n\n{FAITHFUL}, {n} validation tiles of PatchCamelyon, half of them of "
        "each class and half of each of two clusters of stain (a guess at the two centres; which "
        "slide a tile is of is not known, and no tile was used in training), the predicted class "
        f"(mean probability {p:.2f}). A faithful map has a low deletion AUC (the class "
        "goes when the most salient pixels are blurred first) and a high insertion AUC (it comes "
        "back first). Difference: insertion − deletion, and by how much that is more than for "
        "pixels in random order on the same tiles, with the 95 % interval of its mean (tiles "
        "resampled). Correlation with the map of randomised weights, and of how many tiles: near 0 "
        "is good; near 1, the map shows the picture and not what the model learned. To save time, "
        f"slow methods see fewer tiles, and {words}.\n",
        "| | tiles | deletion ↓ | insertion ↑ | difference ↑ | more than random | correlation ↓ |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for method, found in rows.items():
        title = METHODS[method].title if method in METHODS else method
        more, correlation, k = "–", "–", len(found.correlations)
        if method != RANDOM:
            more = interval(found.gap - rows[RANDOM].gap[: len(found.gap)])
            correlation = f"{found.correlations.mean():.2f} ({k})"
        deletion, insertion = found.areas.mean(axis=0)
        lines.append(f"| {title} | {len(found.gap)} | {deletion:.3f} | {insertion:.3f} | "
                     f"{found.gap.mean():+.3f} | {more} | {correlation} |")  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
