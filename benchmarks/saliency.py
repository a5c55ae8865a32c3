"""What saliency methods cost, and which of them are faithful.

    OMP_NUM_THREADS=1 python benchmarks/saliency.py --tiles DATA/pcam > docs/results/saliency.md

Cost: CPU time per tile for each method over that of a forward pass in the same run, on the bundles
that ship. Faithfulness, on real tiles of the bundle's own kind: deletion and insertion curves
(Petsiuk et al. 2018) of the predicted class, and the rank correlation with the map of randomised
weights (Adebayo et al. 2018). Prints markdown. About five minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_ood.errors import ExplainError
from napari_ood.explain import METHODS, Explainer, Target, perturbation_curves, randomisation_check
from napari_ood.models import load_bundle

BUNDLES = ("synthetic-he", "lymph-node-he", "dermoscopy")
REPEATS, BATCH = 3, 8
FAITHFUL = "lymph-node-he"
RANDOM = "random order"
FEWER = {"rise": {"n_masks": 300}, "perturbation": {"n_iterations": 100}}
N_STEPS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost and faithfulness of saliency methods.")
    parser.add_argument("--tiles", type=Path, required=True, help="folder with labels.csv (PCam)")
    parser.add_argument("--n", type=int, default=4, help="tiles per class")
    parser.add_argument("--only", choices=("cost", "faithfulness"), help="one of the two parts")
    args = parser.parse_args()
    print("# What saliency costs, and which methods are faithful\n")
    print("Written by `benchmarks/saliency.py`. Read the methods' caveats in [explain.md]"
          "(../explain.md).\n")  # fmt: skip
    if args.only != "faithfulness":
        print_costs()
    if args.only != "cost":
        print_faithfulness(read_tiles(args.tiles, args.n))


def read_tiles(folder: Path, n_each: int) -> NDArray[np.uint8]:
    """The first ``n_each`` validation tiles of each class, evenly spaced over the list."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "valid"]
    chosen = []
    for label in sorted({row["label"] for row in rows}):
        paths = [row["path"] for row in rows if row["label"] == label]
        chosen += [paths[i] for i in np.linspace(0, len(paths) - 1, n_each).astype(int)]
    return np.stack([np.asarray(Image.open(folder / path).convert("RGB")) for path in chosen])


def print_costs() -> None:
    print("## Cost\n")
    print("CPU time per tile over that of a forward pass with features, one thread, target: a "
          f"class; the OOD score for the gradient's second number. Fast methods: {BATCH} tiles at "
          f"once, median of {REPEATS}; slow ones: one tile, once.\n")  # fmt: skip
    costs = [bundle_costs(name) for name in BUNDLES]
    forward = (f"{1e3 * found['']:.1f}" for found in costs)
    print(f"| | {' | '.join(BUNDLES)} |\n|---|{'---:|' * len(BUNDLES)}")
    print(f"| forward pass, ms | {' | '.join(forward)} |")
    for method in METHODS:
        print(f"| {METHODS[method].title} | {' | '.join(cell(c, method) for c in costs)} |")
    print(flush=True)


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


def print_faithfulness(tiles: NDArray[np.uint8]) -> None:
    explainer = Explainer(load_bundle(FAITHFUL), "cpu")
    n_classes = explainer.bundle.card.n_classes
    p = np.stack([explainer.values(tiles, Target.of_class(c), share=True)
                  for c in range(n_classes)], axis=1)  # fmt: skip
    predicted = p.argmax(axis=1)
    rng = np.random.default_rng(0)
    noise = rng.random(tiles.shape[:3], np.float32)
    rows = {RANDOM: (curves(explainer, tiles, noise, predicted), np.full(len(tiles), np.nan))}
    for method in METHODS:
        maps = np.empty(tiles.shape[:3], np.float32)
        rho = np.empty(len(tiles), np.float32)
        for c in np.unique(predicted):
            at = predicted == c
            options = FEWER.get(method, {})
            target = Target.of_class(int(c))
            sanity = randomisation_check(explainer, tiles[at], method, target, **options)
            maps[at], rho[at] = sanity.original.values, sanity.correlations
        rows[method] = (curves(explainer, tiles, maps, predicted), rho)
        print(f"{method} done", file=sys.stderr, flush=True)
    print_rows(rows, len(tiles), p.max(axis=1).mean())


def curves(explainer, tiles, maps, predicted) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    """[N, 2]: deletion and insertion AUC of each tile, for its predicted class."""
    return np.array([
        (found.deletion_auc, found.insertion_auc)
        for tile, values, c in zip(tiles, maps, predicted, strict=True)
        for found in [
            perturbation_curves(explainer, tile, values, Target.of_class(int(c)), N_STEPS)
        ]
    ])  # fmt: skip


def print_rows(rows: dict[str, tuple[NDArray, NDArray]], n: int, p: float) -> None:  # type: ignore[type-arg]
    words = ", ".join(f"{METHODS[m].title} with {v} {k[2:]}" for m, o in FEWER.items()
                      for k, v in o.items())  # fmt: skip
    print(f"## Faithfulness\n\n{FAITHFUL}, {n} validation tiles of PatchCamelyon, the predicted "
          f"class (mean probability {p:.2f}). A faithful map has a low deletion AUC (the class "
          "goes when the most salient pixels are blurred first) and a high insertion AUC (it comes "
          "back first). Difference: insertion − deletion, and by how much that is more than for "
          "pixels in random order, mean ± standard error over tiles, paired. Correlation with the "
          "map of randomised weights: near 0 is good; near 1, the map shows the picture and not "
          f"what the model learned. To save time: {words}.\n")  # fmt: skip
    print("| | deletion ↓ | insertion ↑ | difference ↑ | more than random | correlation ↓ |")
    print("|---|---:|---:|---:|---:|---:|")
    base = np.diff(rows[RANDOM][0])[:, 0]
    for method, (areas, rho) in rows.items():
        title = METHODS[method].title if method in METHODS else method
        gap = np.diff(areas)[:, 0]
        gain = gap - base
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        known = rho[np.isfinite(rho)]
        correlation = f"{known.mean():.2f}" if len(known) else "–"
        more = "–" if method == RANDOM else f"{gain.mean():+.3f} ± {error:.3f}"
        print(f"| {title} | {areas[:, 0].mean():.3f} | {areas[:, 1].mean():.3f} | "
              f"{gap.mean():+.3f} | {more} | {correlation} |")  # fmt: skip


if __name__ == "__main__":
    main()
