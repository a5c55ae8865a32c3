"""Splitting images at random: evenly over the classes, never through a group (numpy only)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError

TRIES = 20
"""Orders to try until every class is on both sides."""


def random_split(
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    held_out: float,
    seed: int,
    class_name: Callable[[int], str] = str,
) -> NDArray[np.bool_]:
    """Draw the images to hold out.

    Groups are taken in random order, each if that brings the counts of held-out images per class
    closer to the wanted share; then a class that is absent gets its smallest possible group.

    Parameters
    ----------
    labels : [N] int
    groups : [N] str
        "" is a group of its own.
    held_out : share of each class to hold out, above 0 and below 1
    seed : of the order
    class_name : callable
        For errors.

    Returns
    -------
    [N] bool

    Raises
    ------
    OodError
        If a class has fewer than two groups, so that it can't be on both sides.
    """
    if not 0 < held_out < 1:
        raise OodError(f"the held-out share must be between 0 and 1, not {held_out:g}")
    unit, counts = _units(labels, groups)
    _check_possible(np.unique(labels), counts, bool((groups != "").any()), class_name)
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        chosen = _choose(counts, held_out, rng.permutation(len(counts)))
        if _on_both_sides(counts, chosen):
            return chosen[unit]
    raise OodError(
        "the groups cannot be split so that every class is on both sides: add a column split with "
        "train and valid, or more groups"
    )


def check_splits(splits: NDArray[np.str_], source: str) -> None:
    """Raise OodError if some images have a split and others none: they would go unused, unnoticed.

    Whoever means that can name a split that is neither train, valid nor test.
    """
    blank = int((splits == "").sum())
    if 0 < blank < len(splits):
        raise OodError(
            f"{source}: {blank:,} of {len(splits):,} rows have no split, the others do: write "
            "train, valid or test, or another name, such as unused, to leave them out"
        )


def check_groups(groups: NDArray[np.str_], splits: NDArray[np.str_], source: str) -> None:
    """Raise OodError if a group is in two splits: what is learnt of it would be tested with it."""
    home: dict[str, str] = {}
    for group, split in zip(groups.tolist(), splits.tolist(), strict=True):
        if group and split and home.setdefault(group, split) != split:
            raise OodError(
                f"{source}: group {group!r} is in the splits {home[group]!r} and {split!r}: a "
                "slide or patient must be in one only"
            )


def _units(
    labels: NDArray[np.int64], groups: NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Unit of each image ``[N]`` and images per unit and class ``[U, C]``."""
    _, unit = np.unique(groups, return_inverse=True)
    alone = groups == ""
    unit = unit.astype(np.int64)
    unit[alone] = unit.max(initial=0) + 1 + np.arange(alone.sum())
    _, unit = np.unique(unit, return_inverse=True)
    found, column = np.unique(labels, return_inverse=True)
    counts = np.zeros((unit.max(initial=-1) + 1, len(found)), np.int64)
    np.add.at(counts, (unit, column), 1)
    return unit, counts


def _check_possible(
    found: NDArray[np.int64],
    counts: NDArray[np.int64],
    grouped: bool,
    class_name: Callable[[int], str],
) -> None:
    for label, units in zip(found.tolist(), (counts > 0).sum(axis=0).tolist(), strict=True):
        if units < 2:
            what = "group (slide or patient)" if grouped else "image"
            raise OodError(
                f"class {class_name(label)!r} has one {what} only, which cannot be trained on and "
                "held out: add more, or remove the class"
            )


def _choose(
    counts: NDArray[np.int64], held_out: float, order: NDArray[np.int64]
) -> NDArray[np.bool_]:
    total = counts.sum(axis=0)
    wanted = total * held_out
    held = np.zeros(counts.shape[1], np.int64)
    chosen = np.zeros(len(counts), bool)
    for i in order:
        # relative to the class, so that a small one counts as much as a large one
        gain = (np.abs(wanted - held) - np.abs(wanted - held - counts[i])) / wanted
        if gain.sum() > 0 and (held + counts[i] < total).all():
            chosen[i] = True
            held += counts[i]
    for column in np.flatnonzero(held == 0):
        left = counts[~chosen].sum(axis=0)
        # units that hold the class, are not chosen yet, and take no class away from training
        possible = (counts[:, column] > 0) & ~chosen & (counts < left).all(axis=1)
        if possible.any() and not counts[chosen, column].any():
            size = np.where(possible, counts.sum(axis=1), np.iinfo(np.int64).max)
            chosen[size.argmin()] = True
    return chosen


def _on_both_sides(counts: NDArray[np.int64], chosen: NDArray[np.bool_]) -> bool:
    return bool(counts[chosen].any(axis=0).all() and counts[~chosen].any(axis=0).all())
