"""Tiles of a region as a sequence of (row, column) that stays small at a million tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Cell = tuple[int, int]


class Cells(Sequence[Cell]):
    """Distinct tiles, row by row: equal to, and used as, a tuple of (row, column).

    A tuple of a million tuples takes seconds to make; this wraps an array.

    Attributes
    ----------
    array : [K, 2] int64, read-only
    """

    __slots__ = ("array",)

    def __init__(self, cells: ArrayLike) -> None:
        """Take rows and columns [K, 2] int, in any order; ValueError for anything else."""
        array = np.array(cells)
        if array.size == 0:
            array = np.zeros((0, 2), np.int64)
        if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
            raise ValueError("tiles are pairs of whole numbers, row and column")
        array = array.astype(np.int64)
        row, col = array.T
        step = np.diff(row)
        if not ((step > 0) | ((step == 0) & (np.diff(col) > 0))).all():
            array = np.unique(array, axis=0)
        array.flags.writeable = False
        self.array = array

    @classmethod
    def from_runs(cls, runs: ArrayLike) -> Self:
        """Inverse of :meth:`runs`; ValueError if these are no runs."""
        array = np.array(runs, np.int64).reshape(-1, 3)
        row, col, length = array.T
        if (length < 1).any():
            raise ValueError("a run of tiles has at least one")
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return cls(np.stack([np.repeat(row, length), np.repeat(col, length) + within], axis=1))

    def runs(self) -> list[list[int]]:
        """Tiles that follow each other in a row, as [row, first column, how many]."""
        row, col = self.array.T
        follows = (np.diff(row) == 0) & (np.diff(col) == 1)
        first = np.flatnonzero(np.r_[len(row) > 0, ~follows][: len(row)])
        length = np.diff(np.r_[first, len(row)])
        runs: list[list[int]] = np.stack([row[first], col[first], length], axis=1).tolist()
        return runs

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, item: int) -> Cell: ...
    @overload
    def __getitem__(self, item: slice) -> Cells: ...
    def __getitem__(self, item: int | slice) -> Cell | Cells:
        if isinstance(item, slice):
            return Cells(self.array[item])
        row, col = self.array[item].tolist()
        return row, col

    def __iter__(self) -> Iterator[Cell]:
        return map(tuple, self.array.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype, copy=copy)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Cells):
            return np.array_equal(self.array, other.array)
        return isinstance(other, tuple) and tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))  # as that of the tuple that it is equal to

    def __repr__(self) -> str:
        return f"Cells({len(self)} tiles)"
