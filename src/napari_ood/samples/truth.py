"""The truth of a procedural slide: what was planted where, and which tissue lies where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import SlideError

SUFFIX = ".truth.ome.tif"


@dataclass(frozen=True)
class Truth:
    """Labels of a procedural slide at low resolution.

    Attributes
    ----------
    foreign : numpy.ndarray
        ``(y, x)`` uint8: 0 = nothing planted, else a key of ``kinds``. Ink counts on glass too,
        everything else only on tissue.
    tissue : numpy.ndarray
        ``(y, x)`` uint8: 0 = glass or a tissue of no class, else a key of ``classes``.
    mpp : float
        Micrometres per px of both.
    downsample : float
        Level-0 px of the slide per px of both.
    kinds, classes : dict of int to str
        Names of the labels.
    """

    foreign: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    mpp: float
    downsample: float
    kinds: dict[int, str]
    classes: dict[int, str]

    def foreign_share(self, boxes: ArrayLike) -> dict[str, NDArray[np.float32]]:
        """Share of each level-0 box (y, x, h, w) that each kind covers; ``[N, 4]`` → ``[N]``."""
        return {name: self._share(self.foreign == k, boxes) for k, name in self.kinds.items()}

    def tissue_share(self, boxes: ArrayLike) -> dict[str, NDArray[np.float32]]:
        """Share of each level-0 box (y, x, h, w) that each class covers; ``[N, 4]`` → ``[N]``."""
        return {name: self._share(self.tissue == k, boxes) for k, name in self.classes.items()}

    def _share(self, mask: NDArray[np.bool_], boxes: ArrayLike) -> NDArray[np.float32]:
        integral = np.zeros(np.add(mask.shape, 1))
        integral[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
        box = np.asarray(boxes, np.float64).reshape(-1, 4) / self.downsample
        start = np.floor(box[:, :2] + 1e-6)
        stop = np.maximum(np.ceil(box[:, :2] + box[:, 2:] - 1e-6), start + 1)
        area = (stop - start).prod(axis=1)
        (y0, x0), (y1, x1) = (
            np.clip(corner, 0, mask.shape).astype(int).T for corner in (start, stop)
        )
        inside = integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]
        return np.asarray(inside / area, np.float32)


def truth_path(slide: str | Path) -> Path:
    """Path of the truth that lies beside a procedural slide."""
    path = Path(slide)
    return path.with_name(path.name.removesuffix(".tif").removesuffix(".ome") + SUFFIX)


def save_truth(path: Path, truth: Truth) -> None:
    """Write a truth as an OME-TIFF with the channels ``foreign`` and ``tissue``."""
    names = {"kinds": truth.kinds, "classes": truth.classes, "downsample": truth.downsample}
    tifffile.imwrite(
        path,
        np.stack([truth.foreign, truth.tissue]),
        ome=True,
        photometric="minisblack",
        compression="zlib",
        metadata={
            "axes": "CYX",
            "Channel": {"Name": ["foreign", "tissue"]},
            "PhysicalSizeX": truth.mpp,
            "PhysicalSizeY": truth.mpp,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
            "Description": json.dumps(names),
        },
    )


def load_truth(path: str | Path) -> Truth:
    """Read the truth of a procedural slide.

    Parameters
    ----------
    path : str or Path
        The slide, or the truth file beside it.

    Raises
    ------
    SlideError
        If there is none, or it is damaged.
    """
    file = Path(path)
    file = file if file.name.endswith(SUFFIX) else truth_path(file)
    try:
        with tifffile.TiffFile(file) as tif:
            labels = tif.asarray()
            image = tifffile.xml2dict(tif.ome_metadata or "")["OME"]["Image"]
        names = json.loads(image["Description"])
        return Truth(
            foreign=labels[0],
            tissue=labels[1],
            mpp=float(image["Pixels"]["PhysicalSizeX"]),
            downsample=float(names["downsample"]),
            kinds={int(k): str(v) for k, v in names["kinds"].items()},
            classes={int(k): str(v) for k, v in names["classes"].items()},
        )
    except FileNotFoundError as error:
        raise SlideError(f"{path} has no truth beside it ({file.name} is missing)") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError, SyntaxError) as error:
        raise SlideError(
            f"{file} is no truth of a procedural slide, or is damaged: delete it and its slide, "
            "they are drawn again"
        ) from error
