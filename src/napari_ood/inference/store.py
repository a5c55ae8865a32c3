"""The run on disk: one zarr group per slide and bundle, one cell per tile.

Arrays are (rows, cols, …) over the tile grid, chunked by shard, so that glass takes no space and
each shard is written once. A shard's ``done`` chunk is written last, after its logits and features:
what ``done`` names is whole, whatever happened since.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_ood.errors import RunError
from napari_ood.inference.chunks import ChunkWriter
from napari_ood.models.precision import Arithmetic
from napari_ood.naming import FLOAT32, NO_FEATURES, RUN_SUFFIX

if TYPE_CHECKING:
    from napari_ood.inference.plan import Plan

ATTRIBUTE = "napari_ood_run"
FORMAT_VERSION = 1


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


def disk_error(path: Path, error: OSError, begun: bool = True) -> RunError:
    """Say what to do about a failed write; what was written before is kept."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        state = f"{path} is incomplete but kept" if begun else f"{path} could not be begun"
        return RunError(f"the disk is full, {state}: free space and run again")
    return RunError(f"cannot write {path}: {error.strerror or error}; choose another output folder")


class RunWriter:
    """Creates or resumes a run and writes its shards.

    Processes may write different shards of one run at the same time: chunks are shards, so none
    shares a file with another. Sessions are all in one file: only one of them may add any.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._logits = grid_array(group, "logits")
        self._features = grid_array(group, "features") if "features" in group else None
        self._done = grid_array(group, "done")
        self._chunks: dict[str, ChunkWriter] = {}

    @classmethod
    def create(
        cls,
        path: Path,
        plan: Plan,
        n_heads: int,
        n_classes: int,
        n_features: int,
        provenance: dict[str, Any],
        features: str = FLOAT32,
    ) -> RunWriter:
        """Create an empty run; it appears under ``path`` only when it is whole.

        ``features`` is one of ``naming.FEATURES``.

        Raises
        ------
        RunError
            If it cannot be written.
        """
        # Several machines may begin a run in one shared folder.
        partial = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial")
        rows_cols, shard = plan.tissue.shape, plan.shard
        arrays: dict[str, tuple[tuple[int, ...], str]] = {"logits": ((n_heads, n_classes), FLOAT32)}
        if features != NO_FEATURES:
            arrays["features"] = ((n_features,), features)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            group = zarr.open_group(partial, mode="w")
            for name, (size, dtype) in arrays.items():
                group.create_array(
                    name, shape=(*rows_cols, *size), chunks=(*shard, *size), dtype=dtype,
                    fill_value=np.nan,
                )  # fmt: skip
            group.create_array("tissue", data=plan.tissue)
            group.create_array("done", shape=rows_cols, chunks=shard, dtype="bool")
            group.attrs[ATTRIBUTE] = {
                "format_version": FORMAT_VERSION,
                "grid": plan.grid.to_dict(),
                "shard": list(shard),
                "features": features,
                **provenance,
            }
            partial.rename(path)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise disk_error(path, error, begun=False) from error
        return cls(path, zarr.open_group(path, mode="r+"))

    @classmethod
    def resume(cls, path: Path) -> RunWriter:
        """Open an existing run for writing."""
        open_group(path)
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
        *,
        beside: bool = False,
    ) -> None:
        """Store tiles of a shard ([n, 2] row and column), then mark them done.

        Features are dropped where the run stores none. ``beside``: other tiles of the shard are
        stored and stay.

        Raises
        ------
        RunError
            If the disk is full or not writable, or features are too large for a run that stores
            them as float16; nothing of the shard is stored then.
        """
        cell = tuple((index - shard.origin).T)
        pairs: list[tuple[zarr.Array[Any], NDArray[Any]]] = [(self._logits, logits)]
        if self._features is not None:
            stored = self._features.dtype
            pairs.append((self._features, _converted(features, np.dtype(stored), self.path)))
        try:
            for array, values in pairs:
                if beside:
                    block = np.array(read_cells(self.path, array, shard.slices))
                else:
                    block = np.full((*shard.shape, *values.shape[1:]), np.nan, values.dtype)
                block[cell] = values
                self._store(array, shard, block)
            done = self.done(shard).copy() if beside else np.zeros(shard.shape, bool)
            done[cell] = True
            self._store(self._done, shard, done)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def _store(self, array: zarr.Array[Any], shard: Shard, block: NDArray[Any]) -> None:
        # Chunks are shards: each is written whole, and no other writer shares it.
        if array.path not in self._chunks:
            self._chunks[array.path] = ChunkWriter(array, self.path)
        self._chunks[array.path].write((shard.top, shard.left), block)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the run records of itself: slide, bundle, grid, arithmetic …"""
        return dict(self._group.attrs[ATTRIBUTE])  # type: ignore[arg-type]

    @property
    def arithmetic(self) -> Arithmetic:
        """Precision and memory layout of all the run's numbers."""
        return Arithmetic.from_dict(self.attributes.get("arithmetic"))

    def done(self, shard: Shard) -> NDArray[np.bool_]:
        """Which tiles of a shard are done, whoever wrote them; its shape, bool."""
        return np.asarray(read_cells(self.path, self._done, shard.slices), bool)

    def add_session(self, session: dict[str, Any]) -> None:
        """Append what a session did (times, device, speed) to the provenance."""
        attributes = self.attributes
        attributes["sessions"] = [*attributes["sessions"], session]
        try:
            self._group.attrs[ATTRIBUTE] = attributes
        except OSError as error:
            raise disk_error(self.path, error) from error


def open_group(path: Path) -> zarr.Group:
    """Open a run's group for reading; RunError where there is none that this version reads."""
    if not (path / "zarr.json").is_file():
        what = "is not a run" if path.exists() else "does not exist"
        raise RunError(f"{path} {what}; runs are folders that end in {RUN_SUFFIX}")
    try:
        group = zarr.open_group(path, mode="r")
        attributes = group.attrs[ATTRIBUTE]
        version = attributes["format_version"]  # type: ignore[index, call-overload]
        # Runs of before there was a choice do not say that they store features.
        featureless = attributes.get("features") == NO_FEATURES  # type: ignore[union-attr]
        wanted = {"logits", "tissue", "done"} | (set() if featureless else {"features"})
        missing = wanted - set(group.array_keys())
        missing |= {"identity", "grid", "shard", "slide", "bundle", "sessions"} - set(attributes)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise RunError(f"{path} is a zarr folder but no run of napari-ood") from error
    if version != FORMAT_VERSION:
        raise RunError(f"{path} has run format {version}, this napari-ood reads {FORMAT_VERSION}")
    if missing:
        raise RunError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}; run it again")
    return group


def read_cells(path: Path, array: zarr.Array[Any], cells: Any) -> NDArray[Any]:
    """Read part of one of a run's arrays; RunError where its files are damaged."""
    try:
        return np.asarray(array[cells])
    except Exception as error:  # codecs raise their own types; the user gets one line
        raise RunError(
            f"{path} is damaged: its {array.basename} cannot be read ({error}); delete it and run "
            "the slide again"
        ) from error


def _converted(values: NDArray[np.float32], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """Features as they are stored; RunError where finite ones would become infinite."""
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    if stored.dtype != values.dtype and (np.isinf(stored) & np.isfinite(values)).any():
        raise RunError(
            f"{path}: features up to {np.abs(values[np.isfinite(values)]).max():.4g} do not fit "
            "into float16: run the slide again with --features float32, into another output"
        )
    return stored


def grid_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return one of a run's arrays over the grid."""
    array = group[name]
    assert isinstance(array, zarr.Array)  # _open_group and create saw to it
    return array
