"""What a run left, and everything that is computed from it without the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import BundleError, RunError
from napari_ood.inference.reading import TileArrays
from napari_ood.inference.store import (
    ATTRIBUTE,
    grid_array,
    open_group,
    read_cells,
)
from napari_ood.models.precision import Arithmetic
from napari_ood.naming import FLOAT32, NO_FEATURES
from napari_ood.scores import HEAD_SCORES, ScoreSpec, mean_probability, parse_score
from napari_ood.slides.grid import TileGrid

if TYPE_CHECKING:
    from napari_ood.models import Bundle, Card, Reference

DEFAULT_SCORES = ("uncertainty", "ood", "appearance", "tissue")
"""Names that the bundle's card resolves to scores."""
KEEP_BYTES = 256 * 2**20
"""Features up to this size stay in memory once they are read."""


class Run:
    """The stored outcome of a bundle on a slide, as it was when opened.

    N counts the finished tiles, row by row. Scores and maps are computed from logits and features
    on first use and kept; nothing here runs the network.

    Attributes
    ----------
    path : Path
    provenance : dict
        Slide (path, size, mpp, fingerprint), bundle (name, path, hashes, card), arguments,
        versions, sessions (times, device, speed).
    grid : TileGrid
    tissue : (rows, cols) bool, tiles that are to be run
    done : (rows, cols) bool, tiles that have been
    arithmetic : Arithmetic
        Precision and memory layout that all its numbers were computed in.
    """

    def __init__(self, path: str | Path, bundle: Bundle | None = None) -> None:
        self.path = Path(path)
        self._group = open_group(self.path)
        self.provenance: dict[str, Any] = dict(self._group.attrs[ATTRIBUTE])  # type: ignore[arg-type]
        self.grid = TileGrid.from_dict(self.provenance["grid"])
        self.tissue, self.done = (
            np.asarray(read_cells(self.path, grid_array(self._group, name), slice(None)), bool)
            for name in ("tissue", "done")
        )
        shard: tuple[int, int] = tuple(self.provenance["shard"])
        self._arrays = TileArrays(self.path, self._group, self.done, shard)
        self.arithmetic = Arithmetic.from_dict(self.provenance.get("arithmetic"))
        self._bundle = bundle and bundle.in_precision(self.arithmetic.precision)
        self._scores: dict[str, NDArray[np.float32]] = {}

    def __repr__(self) -> str:
        return f"<Run {self.path.name}: {self.n_tiles} of {self.tissue.sum()} tiles>"

    @property
    def n_tiles(self) -> int:
        """Number of finished tiles, N."""
        return int(self.done.sum())

    @property
    def complete(self) -> bool:
        """Whether every tile with tissue is finished."""
        return bool((self.done | ~self.tissue).all())

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """Row and column of each tile; [N, 2] int64."""
        return np.argwhere(self.done)

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """Level-0 boxes y, x, h, w; [N, 4] float64."""
        return self.grid.boxes(self.index)

    @cached_property
    def partial(self) -> NDArray[np.bool_]:
        """Tiles that reach beyond the slide and were padded with white; [N] bool."""
        return self.grid.partial(self.index)

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """Logits per head; [N, M, C] float32."""
        return self._arrays.whole("logits")

    @property
    def features_as(self) -> str:
        """How features are stored: ``float32``, ``float16`` or ``none``."""
        return str(self.provenance.get("features", FLOAT32))

    @property
    def has_features(self) -> bool:
        """Whether features are stored; without them there are scores of the logits only."""
        return self.features_as != NO_FEATURES

    def require_features(self) -> None:
        """RunError, with advice, where no features are stored."""
        if not self.has_features:
            raise RunError(
                f"{self.path.name} was run for its prediction only and holds no features, which "
                "OOD scores are made of: run the slide again with features, into another output"
            )

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Features, the bundle's blocks side by side; [N, D] float32.

        Here and wherever they are read: RunError where the run holds none.
        """
        self.require_features()
        return self._arrays.whole("features")

    def feature_pieces(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Features piece by piece: positions in ``index`` [n] int64, features [n, D] float32.

        Those of a million tiles take gigabytes and are not kept; those of smaller runs are.
        """
        self.require_features()
        if "features" in self.__dict__ or self._arrays.nbytes("features") <= KEEP_BYTES:
            yield np.arange(self.n_tiles), self.features
        else:
            yield from self._arrays.pieces("features")

    def features_of(self, tiles: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features of some tiles, by their positions in ``index`` [K]; [K, D] float32."""
        self.require_features()
        if "features" in self.__dict__ or self._arrays.nbytes("features") <= KEEP_BYTES:
            return self.features[tiles]
        return self._arrays.at("features", tiles)

    def feature_scores(
        self, reference: Reference, names: Sequence[str]
    ) -> tuple[NDArray[np.float32], ...]:
        """Scores by a reference, [N] float32 each, with the features read once.

        Raises
        ------
        BundleError
            As ``Reference.score``.
        RunError
            If the files are damaged.
        """
        specs = [parse_score(name) for name in names]
        logits = self.logits if any(spec.needs_logits for spec in specs) else None
        if not any(spec.needs_features for spec in specs):
            return reference.scores(names, logits, None)
        scores = tuple(np.empty(self.n_tiles, np.float32) for _ in names)
        for tiles, features in self.feature_pieces():
            z = None if logits is None else logits[tiles]
            for out, found in zip(scores, reference.scores(names, z, features), strict=True):
                out[tiles] = found
        return scores

    @cached_property
    def card(self) -> Card:
        """The bundle's card as it was when the run was made."""
        from napari_ood.models import Card

        return Card.from_config(self.provenance["bundle"]["card"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, C."""
        return self.card.classes

    def tile(self, row: int, col: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Logits [M, C] and features [D] of one finished tile, reading one chunk of each.

        Features are None where the run holds none.

        Raises
        ------
        RunError
            If that tile was not run, or its files are damaged.
        """
        inside = 0 <= row < self.done.shape[0] and 0 <= col < self.done.shape[1]
        if not (inside and self.done[row, col]):
            raise RunError(
                f"{self.path.name} has no tile at row {row}, column {col}: choose one of its own"
            )
        logits, features = (
            np.asarray(read_cells(self.path, grid_array(self._group, name), (row, col)), np.float32)
            if name in self._group
            else None
            for name in ("logits", "features")
        )
        assert logits is not None  # open_group saw to it
        return logits, features

    def bytes_per_tile(self) -> dict[str, float]:
        """Bytes on disk of logits, features (0 where there are none) and all else, by tile.

        Reads no array, but looks at every file.
        """
        sizes = {
            name: sum(f.stat().st_size for f in (self.path / name).rglob("*") if f.is_file())
            for name in ("logits", "features", ".")
        }
        sizes["other"] = sizes.pop(".") - sizes["logits"] - sizes["features"]
        return {name: size / max(1, self.n_tiles) for name, size in sizes.items()}

    def bundle(self) -> Bundle:
        """Return the bundle that made this run, checked against the hashes it had then.

        Raises
        ------
        RunError
            If it is not at hand or has changed since.
        """
        if self._bundle is None:
            found = _find_bundle(self.path, self.provenance["bundle"])
            self._bundle = found.in_precision(self.arithmetic.precision)
        return self._bundle

    def score_name(self, name: str) -> str:
        """Resolve ``uncertainty``, ``ood``, ``appearance``, ``tissue`` by the bundle's card.

        Raises
        ------
        RunError
            If the card has no such score.
        """
        if name not in DEFAULT_SCORES:
            return name
        scores = self.card.scores
        if name not in scores:
            raise RunError(
                f"the bundle of {self.path.name} has no score {name!r}: take one of "
                f"{', '.join(scores)}, or run the slide with a bundle that has it"
            )
        return str(scores[name])

    def score(self, name: str) -> NDArray[np.float32]:
        """Score of each tile; [N] float32, read-only, higher = more uncertain or more foreign.

        Parameters
        ----------
        name : str
            ``entropy``, ``msp``, ``disagreement``, ``mahalanobis[@block]`` …, or ``uncertainty``,
            ``ood``, ``appearance``, ``tissue`` for the bundle's defaults.

        Raises
        ------
        ValueError
            For an unknown score.
        RunError, BundleError
            If the score needs the bundle's reference and that is not at hand, or there is none;
            if it needs features and the run holds none; if the card has no such default.
        """
        spec = parse_score(self.score_name(name))
        key = str(spec)
        if key not in self._scores:
            scores = self._compute(spec)
            scores.flags.writeable = False  # kept: nobody may change what the next one gets
            self._scores[key] = scores
        return self._scores[key]

    def _compute(self, spec: ScoreSpec) -> NDArray[np.float32]:
        if spec.method in HEAD_SCORES:
            return HEAD_SCORES[spec.method](self.logits, self.card.temperature)
        if spec.needs_features:
            self.require_features()
        return self.feature_scores(self.bundle().require_reference(), (str(spec),))[0]

    def map(self, name: str) -> NDArray[np.float32]:
        """Score on the tile grid; (rows, cols) float32, NaN where no tile was run."""
        return self.on_grid(self.score(name), np.float32(np.nan))

    def probabilities(self) -> NDArray[np.float32]:
        """Mean over heads of the calibrated softmax; [N, C] float32."""
        return mean_probability(self.logits, self.card.temperature)

    def prediction(self) -> NDArray[np.int64]:
        """Most probable class of each tile; [N] int64."""
        return np.asarray(self.probabilities().argmax(axis=1), np.int64)

    def prediction_map(self) -> NDArray[np.int64]:
        """Most probable class on the tile grid; (rows, cols) int64, −1 where no tile was run."""
        return self.on_grid(self.prediction(), np.int64(-1))

    def on_grid(self, values: NDArray[Any], fill: Any) -> NDArray[Any]:
        """Spread one value per tile over the grid; (rows, cols), ``fill`` elsewhere."""
        grid = np.full(self.done.shape, fill, values.dtype)
        grid[self.done] = values
        return grid


def open_run(path: str | Path) -> Run:
    """Open a stored run.

    Raises
    ------
    RunError
        If there is none, or it was written by a version that this one cannot read.
    """
    return Run(path)


def _find_bundle(path: Path, record: dict[str, Any]) -> Bundle:
    from napari_ood.models import load_bundle

    changed = False
    for source in (record["path"], record["name"]):
        try:
            bundle = load_bundle(source)
        except BundleError:
            continue
        if bundle.hashes == record["hashes"]:
            return bundle
        changed = True
    state = "has changed since" if changed else "is not at hand"
    raise RunError(
        f"{path.name} was made with bundle {record['name']!r}, which {state}: put the original at "
        f"{record['path']}, or run the slide again"
    )
