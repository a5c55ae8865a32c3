"""Where the runs of several slides go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_ood.errors import RunError
from napari_ood.naming import RUN_SUFFIX
from napari_ood.slides.slide import slide_name


def output_paths(slides: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return slide → ``folder/<slide name>.ood.zarr``.

    Raises
    ------
    RunError
        When two slides share a name: nothing says which of them an earlier run there was of.
    """
    outputs: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for slide in slides:
        name = slide_name(slide.absolute())
        # Windows and macOS do not tell upper from lower case in file names.
        other = taken.setdefault(name.casefold(), slide)
        if other is not slide:
            raise RunError(
                f"{other} and {slide} would both be written to {folder / name}{RUN_SUFFIX}: "
                "run them with different --out folders"
            )
        outputs[slide] = folder / f"{name}{RUN_SUFFIX}"
    return outputs
