"""The run on disk: one zarr group per slide and bundle, one cell per tile.

Arrays are (rows, cols, …) over the tile grid, chunked by shard, so that glass takes no space and
each shard is written once. A shard's ``done`` chunk is written last, after its logits and features:
what ``done`` names is whole, whatever happened since.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_ood.errors import RunError
from napari_ood.scores import mean_probability, parse_score
from napari_ood.slides.grid import TileGrid

if TYPE_CHECKING:
    from napari_ood.inference.plan import Plan
    from napari_ood.models import Bundle, Card

SUFFIX = ".ood.zarr"
ATTRIBUTE = "napari_ood_run"
FORMAT_VERSION = 1
DEFAULT_SCORES = ("uncertainty", "ood")


class Shard(NamedTuple):
    """A rectangle of tiles that are read, computed and stored together."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index arrays over the grid."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def origin(self) -> NDArray[np.int64]:
        """Row and column of the first tile."""
        return np.array([self.top, self.left])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, how many."""
        return self.bottom - self.top, self.right - self.left


def shards(shape: tuple[int, int], shard: tuple[int, int]) -> Iterator[Shard]:
    """Shards of a grid of ``shape`` tiles, row by row."""
    for row in range(0, shape[0], shard[0]):
        for col in range(0, shape[1], shard[1]):
            yield Shard(row, col, min(row + shard[0], shape[0]), min(col + shard[1], shape[1]))


def disk_error(path: Path, error: OSError) -> RunError:
    """Say what to do about a failed write; what was written before is kept."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"the disk is full, {path} is incomplete but kept: free space and run again"
        )
    return RunError(f"cannot write {path}: {error.strerror or error}; choose another output folder")


class RunWriter:
    """Creates or resumes a run and writes its shards. One writer per run at a time."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._logits = _array(group, "logits")
        self._features = _array(group, "features")
        self._done = _array(group, "done")

    @classmethod
    def create(
        cls,
        path: Path,
        plan: Plan,
        n_heads: int,
        n_classes: int,
        n_features: int,
        provenance: dict[str, Any],
    ) -> RunWriter:
        """Create an empty run; it appears under ``path`` only when it is whole.

        Raises
        ------
        RunError
            If it cannot be written.
        """
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        rows_cols, shard = plan.tissue.shape, plan.shard
        sizes = {"logits": (n_heads, n_classes), "features": (n_features,)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            group = zarr.open_group(partial, mode="w")
            for name, size in sizes.items():
                group.create_array(
                    name, shape=(*rows_cols, *size), chunks=(*shard, *size), dtype="float32",
                    fill_value=np.nan,
                )  # fmt: skip
            group.create_array("tissue", data=plan.tissue)
            group.create_array("done", shape=rows_cols, chunks=shard, dtype="bool")
            group.attrs[ATTRIBUTE] = {
                "format_version": FORMAT_VERSION,
                "grid": plan.grid.to_dict(),
                "shard": list(shard),
                **provenance,
            }
            partial.rename(path)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise disk_error(path, error) from error
        return cls(path, zarr.open_group(path, mode="r+"))

    @classmethod
    def resume(cls, path: Path) -> RunWriter:
        """Open an existing run for writing."""
        _open_group(path)
        try:
            return cls(path, zarr.open_group(path, mode="r+"))
        except OSError as error:
            raise disk_error(path, error) from error

    def write(
        self,
        shard: Shard,
        index: NDArray[np.int64],
        logits: NDArray[np.float32],
        features: NDArray[np.float32],
    ) -> None:
        """Store a shard's tiles ([n, 2] row and column), then mark them done.

        Raises
        ------
        RunError
            If the disk is full or not writable.
        """
        cell = tuple((index - shard.origin).T)
        try:
            for array, values in ((self._logits, logits), (self._features, features)):
                block = np.full((*shard.shape, *values.shape[1:]), np.nan, np.float32)
                block[cell] = values
                self._store(array, shard, block)
            done = np.zeros(shard.shape, bool)
            done[cell] = True
            self._store(self._done, shard, done)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def _store(self, array: zarr.Array[Any], shard: Shard, block: NDArray[Any]) -> None:
        array[shard.slices] = block

    def add_session(self, session: dict[str, Any]) -> None:
        """Append what a session did (times, device, speed) to the provenance."""
        attributes: dict[str, Any] = dict(self._group.attrs[ATTRIBUTE])  # type: ignore[arg-type]
        attributes["sessions"] = [*attributes["sessions"], session]
        try:
            self._group.attrs[ATTRIBUTE] = attributes
        except OSError as error:
            raise disk_error(self.path, error) from error


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
    """

    def __init__(self, path: str | Path, bundle: Bundle | None = None) -> None:
        self.path = Path(path)
        self._group = _open_group(self.path)
        self.provenance: dict[str, Any] = dict(self._group.attrs[ATTRIBUTE])  # type: ignore[arg-type]
        self.grid = TileGrid.from_dict(self.provenance["grid"])
        self._shard: tuple[int, int] = tuple(self.provenance["shard"])
        self.tissue = np.asarray(_array(self._group, "tissue")[:], bool)
        self.done = np.asarray(_array(self._group, "done")[:], bool)
        self._bundle = bundle
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
        return self._gather("logits")

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Features, the bundle's blocks side by side; [N, D] float32."""
        return self._gather("features")

    @cached_property
    def card(self) -> Card:
        """The bundle's card as it was when the run was made."""
        from napari_ood.models import Card

        return Card.from_config(self.provenance["bundle"]["card"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, C."""
        return self.card.classes

    def bundle(self) -> Bundle:
        """Return the bundle that made this run, checked against the hashes it had then.

        Raises
        ------
        RunError
            If it is not at hand or has changed since.
        """
        if self._bundle is None:
            self._bundle = _find_bundle(self.path, self.provenance["bundle"])
        return self._bundle

    def score_name(self, name: str) -> str:
        """Resolve ``uncertainty`` and ``ood`` to the bundle's default scores."""
        return str(self.card.scores[name]) if name in DEFAULT_SCORES else name

    def score(self, name: str) -> NDArray[np.float32]:
        """Score of each tile; [N] float32, higher = more uncertain or more foreign.

        Parameters
        ----------
        name : str
            ``entropy``, ``msp``, ``disagreement``, ``mahalanobis[@block]`` …, or ``uncertainty``
            and ``ood`` for the bundle's defaults.

        Raises
        ------
        ValueError
            For an unknown score.
        RunError, BundleError
            If the score needs the bundle's reference and that is not at hand, or there is none.
        """
        name = self.score_name(name)
        if name not in self._scores:
            self._scores[name] = self._compute(name)
        return self._scores[name]

    def _compute(self, name: str) -> NDArray[np.float32]:
        from napari_ood.scores import HEAD_SCORES

        spec = parse_score(name)
        if not spec.needs_features:
            return HEAD_SCORES[spec.method](self.logits, self.card.temperature)
        return self.bundle().require_reference().score(name, self.logits, self.features)

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

    def _gather(self, name: str) -> NDArray[np.float32]:
        array = _array(self._group, name)
        out = np.empty((self.n_tiles, *array.shape[2:]), np.float32)
        position = np.cumsum(self.done.ravel()).reshape(self.done.shape) - 1
        for shard in shards(self.done.shape, self._shard):
            done = self.done[shard.slices]
            if done.any():
                out[position[shard.slices][done]] = np.asarray(array[shard.slices])[done]
        return out


def open_run(path: str | Path) -> Run:
    """Open a stored run.

    Raises
    ------
    RunError
        If there is none, or it was written by a version that this one cannot read.
    """
    return Run(path)


def _open_group(path: Path) -> zarr.Group:
    if not (path / "zarr.json").is_file():
        what = "is not a run" if path.exists() else "does not exist"
        raise RunError(f"{path} {what}; runs are folders that end in {SUFFIX}")
    try:
        group = zarr.open_group(path, mode="r")
        attributes = group.attrs[ATTRIBUTE]
        version = attributes["format_version"]  # type: ignore[index, call-overload]
        missing = {"logits", "features", "tissue", "done"} - set(group.array_keys())
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise RunError(f"{path} is a zarr folder but no run of napari-ood") from error
    if version != FORMAT_VERSION:
        raise RunError(f"{path} has run format {version}, this napari-ood reads {FORMAT_VERSION}")
    if missing:
        raise RunError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}; run it again")
    return group


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)  # _open_group and create saw to it
    return array


def _find_bundle(path: Path, record: dict[str, Any]) -> Bundle:
    from napari_ood.errors import BundleError
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
