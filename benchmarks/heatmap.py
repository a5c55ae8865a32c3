"""Measure maps finer than a tile: the learned heatmap and the distance of places.

    python benchmarks/heatmap.py [--bundle lymph-node-he] [--data ../shared/data] [--write]
    python benchmarks/heatmap.py --only-controls [--controls 200] [--write]

Whether a tile is foreign: decoder (``heatmap``) and places (``locations``) against the scores of
the features, on the foreign sets of ``benchmarks/results.py``. Where it is foreign: AUROC of pixels
against the truth, on regions planted into PatchCamelyon ``valid`` (ink, fold, blur, a piece of
another organ: none of these kinds was planted to train the decoder), and on the procedural sample
slide with ``synthetic-he``. ``--write`` puts the tables into docs/results/heatmap.md and .json.

What the maps see of changes that leave the tissue as it is: ``--controls`` tiles, each changed in
fourteen ways (15 ms a tile for the network and 50 ms for the two maps: 200 take four minutes of one
core); ``--only-controls`` measures nothing else and leaves the rest of the page as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import RESULTS, SEED, foreign_sets, own_dataset
from scipy import ndimage

from napari_ood.errors import OodError
from napari_ood.evaluation import Evaluation, evaluate, ood_auroc
from napari_ood.evaluation.pixel_scores import PIXEL_SCORES
from napari_ood.evaluation.planted import KINDS, TISSUE, plant
from napari_ood.evaluation.table import CONTROL, markdown, number
from napari_ood.explain.explainer import Explainer
from napari_ood.explain.heatmap import DecoderMap
from napari_ood.explain.locations import LocationMap
from napari_ood.explain.target import Target
from napari_ood.models import Bundle, load_bundle
from napari_ood.samples import load_truth, synthetic_slide
from napari_ood.scores import Mahalanobis
from napari_ood.slides import SlideView, TileGrid, open_slide, tissue_mask

Tiles = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mapper = Callable[[Tiles], Floats]
NEAR = ("he-cmu1", "he-colon", "LC25000")
SALIENCY = ("gradient", "grad_cam", "layer_cam")
MIN_TISSUE, PIXEL_STEP, N_RESAMPLES = 0.7, 3, 1000
BLIND = (
    "**The decoder does not show where a tile is blurred.** Blur, ink, folds and other tissue are "
    "kept out of what it learns from, so that it can be judged on them; ink and folds it finds all "
    "the same, blur hardly. That a tile is blurred *all over* it does see (the table of changed "
    "tiles), at no place in particular. `locations` finds blur, as does the named cause."
)
CONTROLS, WHERE = "## Changed appearance, same tissue", "## Where is it foreign?"


def main() -> None:
    """Measure, print, and write what the options ask for."""
    options = _options()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    bundle = load_bundle(options.bundle)
    controls = _controls_section(bundle, options)
    if options.only_controls:
        print(controls)
        if options.write:
            _replace_controls(RESULTS / "heatmap.md", controls)
        return
    evaluation = _tiles_table(bundle, options)
    planted = _planted_table(bundle, options)
    drawn = _drawn_table(load_bundle(options.synthetic), options)
    text = _report(bundle, evaluation, controls, planted, drawn, options)
    print(text)
    if options.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "heatmap.md").write_text(text, "utf-8")
        record = {"tiles": evaluation.as_json()["rows"], "planted": planted, "drawn": drawn}
        (RESULTS / "heatmap.json").write_text(_lines(record), "utf-8")


def _tiles_table(bundle: Bundle, options: argparse.Namespace) -> Evaluation:
    """Scores of tiles on the foreign sets."""
    key, dataset = own_dataset(bundle.card, options.data)
    sets = dict(foreign_sets(bundle.card, options.data, key))
    return evaluate(
        bundle,
        dataset,
        {name: found.tiles for name, found in sets.items()},
        ["entropy", *PIXEL_SCORES],
        options.bootstrap,
        device=options.device,
        seed=SEED,
        groups={name: found.groups for name, found in sets.items()},
        on_tiles=lambda name, done, total: _say(f"{name}: {done}/{total}"),
    )


def _controls_section(bundle: Bundle, options: argparse.Namespace) -> str:
    """What scores see of in-distribution tiles whose appearance was changed; with its heading."""
    test = own_dataset(bundle.card, options.data)[1].split("valid")
    chosen = np.random.default_rng(SEED).permutation(len(test))[: options.controls]
    own = {role: str(name) for role, name in bundle.card.scores.items()}
    evaluation = evaluate(
        bundle,
        test.subset(chosen).read(),
        {},
        [*PIXEL_SCORES, *own.values()],
        options.bootstrap,
        controls=True,
        device=options.device,
        seed=SEED,
        on_tiles=lambda name, done, total: _say(f"{name}: {done}/{total}"),
    )
    names = {score: role for role, score in reversed(list(evaluation.default_scores.items()))}
    cells = _score_cells(list(evaluation.rows), ["heatmap", "locations", *names], names, "auroc")
    cells = [(row[0].removeprefix(CONTROL), *row[1:]) for row in cells]
    return "\n\n".join(
        (
            CONTROLS,
            f"{len(chosen)} PatchCamelyon `valid` tiles, drawn at random, with a changed "
            "appearance against the same ones unchanged: AUROC, in brackets its 95 % interval "
            "(tiles resampled). 0.5: does not see it. The tissue is what it was. Whether a score "
            "should see a change depends on what one asks: blur is a defect, another compression "
            "hardly.",
            markdown(cells),
        )
    )


def _replace_controls(page: Path, section: str) -> None:
    """Put the section before the next one, in place of the old one if there is one."""
    text = page.read_text("utf-8")
    before, _, after = text.partition(CONTROLS if CONTROLS in text else WHERE)
    after = after.partition(WHERE)[2] if CONTROLS in text else after
    page.write_text(f"{before}{section}\n\n{WHERE}{after}", "utf-8")


def _planted_table(bundle: Bundle, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Pixel AUROC per kind and map, on planted regions in test tiles with enough tissue."""
    key, dataset = own_dataset(bundle.card, options.data)
    test = dataset.split("valid")
    order = np.random.default_rng(SEED).permutation(len(test))
    tiles = test.subset(order).read()
    tiles = tiles[_tissue_share(tiles) >= MIN_TISSUE][: options.tiles]
    near = [s for s in foreign_sets(bundle.card, options.data, key) if s[0].startswith(NEAR)]
    pieces = np.concatenate([found.tiles[:60] for _, found in near])
    train = dataset.split("train")
    known = train.subset(np.random.default_rng(SEED).permutation(len(train))[:500])
    maps = dict(_maps(bundle, known.read(), known.labels, options.device))
    rows = []
    for seed, kind in enumerate((*KINDS, TISSUE)):
        planted = plant(kind, tiles, SEED + seed, pieces)
        for name, mapper in maps.items():
            n = options.saliency_tiles if name not in (*PIXEL_SCORES, COLOUR) else len(tiles)
            _say(f"{kind}: {name}")
            row = _localisation(mapper, planted.tiles[:n], planted.masks[:n])
            rows.append({"kind": kind, "map": name, **row})
    return rows


COLOUR = "colour"


def _maps(
    bundle: Bundle, known: Tiles, labels: NDArray[np.int64], device: str
) -> Iterator[tuple[str, Mapper]]:
    """Maps by name: decoder, places, plain colour, and saliency of the OOD score."""
    yield "heatmap", DecoderMap(bundle, device)
    yield "locations", LocationMap(bundle, device)
    yield COLOUR, _colour_map(known, labels)
    explainer, target = Explainer(bundle, device), Target.of_score("ood")

    def saliency(method: str) -> Mapper:
        return lambda tiles: np.concatenate(
            [
                np.abs(explainer.explain(tiles[i : i + 8], method, target).values)
                for i in range(0, len(tiles), 8)
            ]
        )

    yield from ((method, saliency(method)) for method in SALIENCY)


def _colour_map(known: Tiles, labels: NDArray[np.int64]) -> Mapper:
    """The baseline: Mahalanobis distance of blurred colour and its local spread at each pixel."""
    rng = np.random.default_rng(SEED)
    side = known.shape[1]

    def vectors(tiles: Tiles) -> NDArray[np.float64]:
        x = tiles / 255.0
        size = (0, side / 32, side / 32, 0)
        mean = ndimage.gaussian_filter(x, size)
        spread = np.sqrt(np.maximum(ndimage.gaussian_filter(x * x, size) - mean**2, 0))
        return np.concatenate([mean, spread], axis=3)

    rows = rng.integers(0, side, (2, len(known), 20))
    sample = vectors(known)[np.arange(len(known))[:, None], rows[0], rows[1]].reshape(-1, 6)
    fit = Mahalanobis.fit(sample, np.repeat(labels, 20))

    def score(tiles: Tiles) -> Floats:
        parts = [fit.score(vectors(tile[None]).reshape(-1, 6)) for tile in tiles]
        return np.stack(parts).reshape(tiles.shape[:3])

    return score


def _localisation(mapper: Mapper, tiles: Tiles, masks: NDArray[np.bool_]) -> dict[str, Any]:
    """AUROC of pixels: mean over tiles with its interval, all pixels together, ms per tile."""
    started = time.perf_counter()
    heat = mapper(tiles)
    ms = 1000 * (time.perf_counter() - started) / len(tiles)
    both = masks.any(axis=(1, 2)) & ~masks.all(axis=(1, 2))
    heat, masks = heat[both][:, ::PIXEL_STEP, ::PIXEL_STEP], masks[both]
    masks = masks[:, ::PIXEL_STEP, ::PIXEL_STEP]
    kept = masks.any(axis=(1, 2)) & ~masks.all(axis=(1, 2)) & np.isfinite(heat).all(axis=(1, 2))
    heat, masks = heat[kept], masks[kept]
    own = np.array([ood_auroc(h[~m], h[m]) for h, m in zip(heat, masks, strict=True)])
    rng = np.random.default_rng(SEED)
    means = own[rng.integers(0, len(own), (N_RESAMPLES, len(own)))].mean(axis=1)
    return {
        "n": len(own),
        "within": float(own.mean()),
        "within_ci": np.quantile(means, [0.025, 0.975]).tolist(),
        "pooled": ood_auroc(heat[~masks], heat[masks]),
        "ms_per_tile": ms,
    }


def _drawn_table(bundle: Bundle, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Pixel AUROC per kind on the procedural sample slide, tissue without foreign against each."""
    path = synthetic_slide()
    truth, card = load_truth(path), bundle.card
    assert card.mpp is not None
    with open_slide(path) as slide:
        assert slide.mpp is not None
        step = (card.mpp / slide.mpp[0], card.mpp / slide.mpp[1])
        height, width = slide.levels[0].shape[:2]
        grid = TileGrid.over((height, width), card.tile_size, step)
        use = (tissue_mask(slide).fraction(grid.boxes()) >= MIN_TISSUE) & ~grid.partial()
        view = SlideView(slide, step)
        corners = grid.index()[use] * card.tile_size
        tiles = np.stack([view.read(int(y), int(x), *[card.tile_size] * 2) for y, x in corners])
    labels = np.stack([_truth_of(truth, corner, step, card.tile_size) for corner in corners])
    rows = []
    for mapper in (DecoderMap(bundle, options.device), LocationMap(bundle, options.device)):
        _say(f"{bundle.name}: {mapper.name}")
        heat = mapper(tiles)[:, ::PIXEL_STEP, ::PIXEL_STEP]
        sparse = labels[:, ::PIXEL_STEP, ::PIXEL_STEP]
        clean = heat[sparse == 0]
        for kind, name in {-1: "overall", **truth.kinds}.items():
            here = heat[sparse > 0] if kind < 0 else heat[sparse == kind]
            if len(here):
                auroc = ood_auroc(clean, here)
                rows.append({"kind": name, "map": mapper.name, "n": len(here), "pooled": auroc})
    return rows


def _truth_of(
    truth: Any, corner: NDArray[np.int64], step: tuple[float, float], side: int
) -> NDArray[np.uint8]:
    """Labels under the pixels of a tile; nearest."""
    axes = [
        np.clip(((c + np.arange(side) + 0.5) * s / truth.downsample).astype(int), 0, n - 1)
        for c, s, n in zip(corner, step, truth.foreign.shape, strict=True)
    ]
    return np.asarray(truth.foreign[np.ix_(*axes)])


def _tissue_share(tiles: Tiles) -> NDArray[np.float64]:
    """Share of the pixels that are no glass: coloured or dark."""
    coloured = tiles.max(axis=3).astype(int) - tiles.min(axis=3) > 25
    return np.asarray((coloured | (tiles.mean(axis=3) < 150)).mean(axis=(1, 2)))


def _report(
    bundle: Bundle,
    evaluation: Evaluation,
    controls: str,
    planted: list[dict[str, Any]],
    drawn: list[dict[str, Any]],
    options: argparse.Namespace,
) -> str:
    names = {score: role for role, score in reversed(list(evaluation.default_scores.items()))}
    columns = ["heatmap", "locations", *names]
    rows = list(evaluation.rows)
    parts = [
        "# Maps finer than a tile",
        f"Made by `python benchmarks/heatmap.py --write` (seed {SEED}, {options.device}). "
        "`heatmap`: the decoder, trained on artefacts planted by code (none of a kind that is "
        "judged here); `locations`: distance of places to in-distribution places, no foreign data.",
        "## Is the tile foreign?",
        f"{bundle.name}, PatchCamelyon `valid` against the foreign sets, AUROC with 95 % interval, "
        "then FPR95. `heatmap`: mean heat of the tile; `locations`: what a tenth of its places "
        "exceed.",
        markdown(_score_cells(rows, columns, names, "auroc")),
        markdown(_score_cells(rows, columns, names, "fpr95")),
        controls,
        WHERE,
        f"Regions planted into PatchCamelyon `valid` tiles with at least {MIN_TISSUE:.0%} tissue: "
        "AUROC of foreign against other pixels of the same tile, mean over tiles with 95 % "
        "interval (tiles resampled); after it all pixels of all tiles together. `colour`: "
        "baseline, Mahalanobis distance of blurred colour and its local spread. The rest: "
        "saliency of the OOD score, absolute values.".replace("%", " %", 1),
        markdown(_localisation_cells(planted)),
        BLIND,
        "### Procedural sample slide, synthetic-he",
        "All pixels of tissue tiles: planted against not planted. The slide's seed was used for no "
        "choice, the code that draws its foreign regions is not the one that planted artefacts for "
        "the decoder.",
        markdown(_drawn_cells(drawn)),
    ]
    return "\n\n".join(parts) + "\n"


def _score_cells(
    rows: list[Any], columns: list[str], names: dict[str, str], value: str
) -> list[tuple[str, ...]]:
    found = {(row.set, row.score): row for row in rows}
    header = ("AUROC" if value == "auroc" else "FPR95", *(f"`{names.get(c, c)}`" for c in columns))
    cells = [header]
    for name in dict.fromkeys(row.set for row in rows):
        line = [name]
        for column in columns:
            row = found[name, column]
            interval = row.auroc_ci if value == "auroc" and column in PIXEL_SCORES else None
            line.append(number(getattr(row, value), interval))
        cells.append(tuple(line))
    return cells


def _localisation_cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    cells = [("map", "tiles", "ms per tile", *kinds)]
    for name in dict.fromkeys(row["map"] for row in rows):
        own = {row["kind"]: row for row in rows if row["map"] == name}
        first = own[kinds[0]]
        cells.append(
            (
                f"`{name}`",
                str(first["n"]),
                f"{np.median([row['ms_per_tile'] for row in own.values()]):.1f}",
                *(
                    f"{number(own[k]['within'], tuple(own[k]['within_ci']))}; "
                    f"{number(own[k]['pooled'])}"
                    for k in kinds
                ),
            )
        )
    return cells


def _drawn_cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = [
        (f"`{name}`", *(number(r["pooled"]) for r in rows if r["map"] == name))
        for name in dict.fromkeys(row["map"] for row in rows)
    ]
    return [("map", *kinds), *lines]


def _lines(record: dict[str, list[dict[str, Any]]]) -> str:
    """JSON with a line per row."""
    parts = [
        f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(_short(r)) for r in rows) + "\n]"
        for key, rows in record.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    return [_short(part) for part in value] if isinstance(value, list | tuple) else value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure maps finer than a tile.")
    parser.add_argument("--bundle", default="lymph-node-he", help="name or folder")
    parser.add_argument("--synthetic", default="synthetic-he", help="name or folder")
    parser.add_argument("--data", type=Path, default=RESULTS.parents[2] / "shared" / "data")
    parser.add_argument("--tiles", type=int, default=300, help="with planted regions, per kind")
    parser.add_argument("--saliency-tiles", type=int, default=60)
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--controls", type=int, default=200, help="tiles that are changed")
    parser.add_argument("--only-controls", action="store_true", help="nothing but changed tiles")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="docs/results/heatmap.md and .json")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except OodError as error:
        raise SystemExit(str(error)) from None
