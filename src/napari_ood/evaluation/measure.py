"""Evaluate a bundle on in-distribution data and on data that it should not trust."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.evaluation.bootstrap import Resampler, separation_intervals
from napari_ood.evaluation.contrast import contrast_rows
from napari_ood.evaluation.foreign import controls as changed_tiles
from napari_ood.evaluation.outputs import BundleRunner, OnTiles, Outputs
from napari_ood.evaluation.pixel_scores import place_maps
from napari_ood.evaluation.quality import Quality, id_quality
from napari_ood.evaluation.scoring import DEFAULT, Scorer, score_names
from napari_ood.evaluation.table import CONTRAST, CONTROL, Row, make_row
from napari_ood.evaluation.tileset import DataLike, TileSet, id_set, shared_files, tile_set
from napari_ood.models import Bundle, load_bundle
from napari_ood.models.memory import reuse_freed_memory
from napari_ood.scores import parse_score

Floats = NDArray[np.float32]
ID = "id"
N_BOOTSTRAP, N_CONTROL = 1000, 1000
ROLES = ("ood", "appearance", "tissue", "uncertainty")
PACKAGES = ("napari-ood", "torch", "timm", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes
    ----------
    bundle : its name
    rows : every score on every foreign set
    default_scores : the card's scores, by what they are for
    quality : how good the predictions are in distribution
    flagged : per set (``id``: in distribution), per role of a default score and per name of any
        other: share of the tiles above the bundle's threshold, which 5 % of its held-out tiles
        exceed
    versions, seconds : of what made it
    notes : what the user should know: how images became tiles, which scores were left out …
    id_scores : [N] float32 per score;  ood_scores : the same per set
    """

    bundle: str
    rows: tuple[Row, ...]
    default_scores: Mapping[str, str]
    quality: Quality
    flagged: Mapping[str, Mapping[str, float | None]]
    versions: Mapping[str, str]
    seconds: float
    notes: tuple[str, ...] = ()
    id_scores: Mapping[str, Floats] = field(default_factory=dict, repr=False)
    ood_scores: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict, repr=False)

    def as_json(self) -> dict[str, Any]:
        """What ``napari-ood evaluate --json`` writes; None for what is not defined."""
        return {
            "bundle": self.bundle,
            "rows": [row.as_json() for row in self.rows],
            "default_scores": dict(self.default_scores),
            "id": self.quality.as_json(),
            "flagged": {name: dict(shares) for name, shares in self.flagged.items()},
            "versions": dict(self.versions),
            "seconds": round(self.seconds, 2),
        }


def evaluate(
    bundle: Bundle | str | Path,
    id: DataLike,
    ood: Mapping[str, DataLike],
    scores: str | Sequence[str] = DEFAULT,
    n_bootstrap: int = N_BOOTSTRAP,
    group: str | None = None,
    *,
    split: str | None = None,
    mpp: float | Mapping[str, float] | None = None,
    controls: bool = False,
    contrast: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
    labels: NDArray[np.int64] | None = None,
    on_tiles: OnTiles | None = None,
) -> Evaluation:
    """Run a bundle's network over data and measure its scores.

    Parameters
    ----------
    bundle : Bundle, name, or folder
    id : in-distribution data: a path as ``read_dataset`` takes it, a ``TileDataset``, or tiles
        ``[N, t, t, 3]`` uint8
    ood : name → foreign data
    scores : ``default`` (the card's and those of the logits), ``all``, or names
    n_bootstrap : resamples behind the intervals; 0: no intervals
    group : column of the CSVs that names the slide or patient, which are resampled as wholes;
        ``group`` where a CSV has it
    split : of the in-distribution data; None: ``test``, else ``valid``, else all; ``all``
    mpp : µm/px of images without a column ``mpp``: for all sets, or by name (``id`` for ``id``)
    controls : also compare with in-distribution tiles whose appearance was changed
    contrast : column of the in-distribution CSV whose values are compared with each other
    device, batch_size : where, and how many tiles at a time, the network runs
    seed : of the resamples and of the controls
    groups, labels : for data given as arrays: groups by set name; labels of ``id``
    on_tiles : called with set name, tiles done and tiles in all while the network runs

    Returns
    -------
    Evaluation

    Raises
    ------
    OodError
        If data can't be read or does not fit the bundle.
    """
    started = time.monotonic()
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(str(bundle))
    names = score_names(bundle.card, scores)
    inside, outside = _collect(bundle, id, ood, split, group, mpp, groups or {}, labels)
    if contrast is not None and contrast.casefold() not in inside.columns:
        known = ", ".join(inside.columns) or "none: only a CSV has columns"
        raise OodError(f"id: no column {contrast!r} to contrast; it has: {known}")
    notes = [note for tiles in (inside, *outside) for note in tiles.notes]
    notes += [warning for tiles in outside if (warning := shared_files(inside, tiles))]

    reuse_freed_memory()
    maps, without = place_maps(bundle, names, device)
    runner = BundleRunner(bundle, device, batch_size, on_tiles, maps)
    if controls:
        outside += control_sets(inside, seed)
    outputs: dict[str, Outputs] = {}
    for tiles in (inside, *outside):
        outputs[tiles.name], note = runner.run(tiles)
        notes += [note] if note else []

    scorer = Scorer(bundle, {name: m.threshold for name, m in maps.items()}, without)
    names, left_out = _possible(scorer, names)
    notes += left_out
    values = {name: scorer.scores(names, out) for name, out in outputs.items()}
    rows = _rows(inside, outside, values, names, n_bootstrap, seed)
    if contrast is not None:
        column = inside.columns[contrast.casefold()]
        rows += contrast_rows(contrast, column, inside.groups, values[ID], n_bootstrap, seed)
    quality = id_quality(outputs[ID].logits, inside.labels, values[ID], bundle.card.temperature)
    own = bundle.card.scores
    default = {role: str(parse_score(own[role])) for role in ROLES if role in own}
    others = {name: name for name in names if name not in default.values()}
    return Evaluation(
        bundle=bundle.name,
        rows=tuple(rows),
        default_scores=default,
        quality=quality,
        flagged={
            name: {
                role: scorer.flagged(k, of_set[k]) if k in of_set else None
                for role, k in (default | others).items()
            }
            for name, of_set in values.items()
        },
        versions={"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        seconds=time.monotonic() - started,
        notes=tuple(notes),
        id_scores=values.pop(ID),
        ood_scores=values,
    )


def _collect(
    bundle: Bundle,
    id_data: DataLike,
    ood: Mapping[str, DataLike],
    split: str | None,
    group: str | None,
    mpp: float | Mapping[str, float] | None,
    groups: Mapping[str, Sequence[str]],
    labels: NDArray[np.int64] | None,
) -> tuple[TileSet, list[TileSet]]:
    _check_names(ood, mpp)
    own = mpp if isinstance(mpp, Mapping) else dict.fromkeys((ID, *ood), mpp)
    inside = id_set(
        ID,
        id_data,
        bundle.card,
        split,
        labels=labels,
        group=group,
        mpp=own.get(ID),
        groups=groups.get(ID),
    )
    outside = [
        tile_set(name, data, bundle.card, group=group, mpp=own.get(name), groups=groups.get(name))
        for name, data in ood.items()
    ]
    if group is not None and not any(group.casefold() in t.columns for t in (inside, *outside)):
        raise OodError(f"none of the data has a column {group!r}: only a CSV has columns")
    return inside, outside


def _check_names(ood: Mapping[str, DataLike], mpp: float | Mapping[str, float] | None) -> None:
    for name in ood:
        if not name or name == ID or name.startswith((CONTROL, CONTRAST)):
            raise OodError(f"a foreign set cannot be called {name!r}: choose another name")
    if isinstance(mpp, Mapping) and (unknown := set(mpp) - {ID, *ood}):
        raise OodError(f"mpp is given for {sorted(unknown)[0]!r}, which is no set here")


def control_sets(inside: TileSet, seed: int = 0) -> list[TileSet]:
    """In-distribution tiles, at most 1,000 of them, each with its appearance changed."""
    sample = inside.sample(N_CONTROL, seed)
    assert sample.tiles is not None
    return [
        TileSet(CONTROL + name, sample.labels, sample.groups, tiles=tiles)
        for name, tiles in changed_tiles(sample.tiles, seed).items()
    ]


def _possible(scorer: Scorer, names: list[str]) -> tuple[list[str], list[str]]:
    """The scores that the bundle can give, and notes on those that it can't."""
    reasons = {name: scorer.missing(name) for name in names}
    without: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if reason:
            without.setdefault(reason, []).append(name)
    notes = [f"left out: {', '.join(left)} ({reason})" for reason, left in without.items()]
    return [name for name in names if not reasons[name]], notes


def _rows(
    inside: TileSet,
    outside: Sequence[TileSet],
    values: Mapping[str, Mapping[str, Floats]],
    names: Sequence[str],
    n_bootstrap: int,
    seed: int,
) -> list[Row]:
    draws = {
        tiles.name: Resampler(len(tiles), tiles.groups.tolist(), n_bootstrap, seed, tiles.name)
        for tiles in (inside, *outside)
    }
    # A score that is NaN somewhere gets a row without values; intervals are of the others.
    usable = [k for k in names if not any(np.isnan(of_set[k]).any() for of_set in values.values())]
    found = separation_intervals(
        draws[ID],
        [values[ID][k] for k in usable],
        [(draws[t.name], [values[t.name][k] for k in usable]) for t in outside],
    )
    intervals = {
        (tiles.name, k): interval
        for tiles, of_set in zip(outside, found, strict=True)
        for k, interval in zip(usable, of_set, strict=True)
    }
    return [
        make_row(t.name, k, values[ID][k], values[t.name][k], intervals.get((t.name, k)))
        for t in outside
        for k in names
    ]
