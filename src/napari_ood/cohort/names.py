"""What runs of a cohort are called, where slides share a name: told apart by their folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from napari_ood.slides.slide import slide_name

JOINT = "__"


def run_names(slides: Sequence[Path], before: Mapping[Path, str]) -> dict[Path, str]:
    """Names of runs without suffix, no two alike even where case does not count.

    A slide's own name, where no other has it. Else with the names of as many folders above as it
    takes, ``centre-a__case-1``; with its suffix, where slides of one folder differ in nothing else.
    The names depend on the set of slides and not on its order, and a slide that was in the cohort
    before keeps its name whatever is added.

    Parameters
    ----------
    slides : absolute paths, each once
    before : names that slides had in earlier calls
    """
    names = {slide: before[slide] for slide in slides if slide in before}
    taken = {name.casefold() for name in before.values()}
    groups: dict[str, list[Path]] = {}
    for slide in slides:
        if slide not in before:
            groups.setdefault(slide_name(slide).casefold(), []).append(slide)
    # Names that are nobody else's first, so that no made-up one takes them.
    for key in sorted(groups, key=lambda key: (len(groups[key]), key)):
        group = sorted(groups[key])
        for slide, name in _told_apart(group, key in taken).items():
            if name.casefold() in taken:
                name = f"{name}-{blake2b(str(slide).encode(), digest_size=4).hexdigest()}"
            taken.add(name.casefold())
            names[slide] = name
    return {slide: names[slide] for slide in slides}


def _told_apart(group: Sequence[Path], occupied: bool) -> dict[Path, str]:
    """Names of slides that are called alike; with folders from the start where the name is gone."""
    if len(group) == 1 and not occupied:
        return {group[0]: slide_name(group[0])}
    deepest = max(len(slide.parts) for slide in group)
    for with_suffix in (False, True):
        for n_folders in range(1, deepest):
            names = {slide: _name(slide, n_folders, with_suffix) for slide in group}
            if len({name.casefold() for name in names.values()}) == len(group):
                return names
    return {slide: _name(slide, 1, True) for slide in group}


def _name(slide: Path, n_folders: int, with_suffix: bool) -> str:
    own = slide.name if with_suffix else slide_name(slide)
    folders = [re.sub(r'[\\/:*?"<>|]+', "", part) for part in slide.parts[:-1]]
    return JOINT.join([*filter(None, folders[-n_folders:]), own])
