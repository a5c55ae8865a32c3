"""What ``napari.yaml`` names: readers, samples, the dock. Imports nothing heavy itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_ood.errors import OodError
from napari_ood.naming import RUN_SUFFIX

if TYPE_CHECKING:
    from napari.types import LayerData

    from napari_ood.slides import Slide
    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.restore import Found

OUTLINE_SUFFIXES = (".geojson", ".geojson.gz", ".geojson.zip")
MAP_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.zarr")
NOTHING: list[LayerData] = [(None,)]
"""napari's way to say that a file was taken but gives no layer."""

T = TypeVar("T")
PathOrPaths = str | Sequence[str]
Reader = Callable[[PathOrPaths], "list[LayerData]"]


def get_reader(path: PathOrPaths) -> Reader | None:
    """Reader for a slide or a run; None for what this plugin leaves to others.

    A stack of several files is left to others: a slide is one file or one folder.
    """
    if not isinstance(path, str):
        if len(path) != 1:
            return None
        path = path[0]
    if path.lower().endswith(RUN_SUFFIX):
        return read_run
    if _is_maps(path):
        return read_maps
    if path.lower().endswith(OUTLINE_SUFFIXES):
        return read_outlines
    folder = Path(path)
    if folder.is_dir() and not _is_slide_folder(folder):
        return None
    return read_slide


def _is_maps(path: str) -> bool:
    from napari_ood.export.maps_import import is_maps

    return path.lower().endswith(MAP_SUFFIXES) and is_maps(path)


def _is_slide_folder(folder: Path) -> bool:
    """Whether a folder is an OME-Zarr or holds DICOM files; looks at few names, decodes nothing."""
    if folder.suffix.lower() == ".zarr" or any((folder / n).is_file() for n in ZARR_FILES):
        return True
    return any(is_dicom(file) for file in sorted(folder.iterdir())[:N_LOOKED_AT])


ZARR_FILES = ("zarr.json", ".zattrs", ".zgroup")
N_LOOKED_AT = 8


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark that DICOM files carry at byte 128."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_slide(path: PathOrPaths) -> list[LayerData]:
    """Layer of a slide; what cannot be opened is told in one notification."""
    from napari_ood.viewer.layers import slide_layer_data

    def work() -> Slide:
        from napari_ood.slides import open_slide  # loads readers of many formats

        return open_slide(_one(path))

    try:
        return [slide_layer_data(_in_thread("Opening the slide…", work))]
    except OodError as error:
        return _refused(error)


def read_outlines(path: PathOrPaths) -> list[LayerData]:
    """Outlines of a GeoJSON file as shapes on the chosen slide."""
    from napari_ood.viewer.outline_file import outline_layer_data

    bridge = _follow_current_viewer()
    slide = bridge.session.state.slide if bridge is not None else None
    try:
        return [outline_layer_data(Path(_one(path)), slide)]
    except OodError as error:
        return _refused(error)


def read_maps(path: PathOrPaths) -> list[LayerData]:
    """Layers of maps that were exported, where they belong on the slide."""
    from napari_ood.viewer.map_files import maps_layer_data

    _follow_current_viewer()
    try:
        return maps_layer_data(_one(path))
    except OodError as error:
        return _refused(error)


def read_run(path: PathOrPaths) -> list[LayerData]:
    """Layers of a stored run: its slide where that is found, and the overlays on it."""
    bridge = _follow_current_viewer()
    opened = bridge.session.state.slides if bridge is not None else ()

    def work() -> Found:
        from napari_ood.viewer.restore import read

        return read(Path(_one(path)), opened)

    try:
        found = _in_thread("Reading the run…", work)
    except OodError as error:
        return _refused(error)
    found.tell_missing()
    layers = found.layer_data()
    return (bridge.staged(layers) or NOTHING) if bridge is not None else layers


def sample_synthetic_he() -> list[LayerData]:
    """The procedural H&E slide, with the truth about its foreign regions as a hidden layer."""
    from napari_ood.samples import synthetic_slide
    from napari_ood.viewer.layers import slide_layer_data
    from napari_ood.viewer.restore import truth_of

    slide = _sample("Drawing the sample slide (only once)…", synthetic_slide)
    return [slide_layer_data(slide), *truth_of(slide)]


def sample_ihc_colon() -> list[LayerData]:
    """scikit-image's IHC image of colon."""
    from napari_ood.samples import ihc_slide
    from napari_ood.viewer.layers import slide_layer_data

    return [slide_layer_data(_sample("Fetching the IHC image…", lambda tell: ihc_slide()))]


def sample_cmu1_small() -> list[LayerData]:
    """A real slide, downloaded on first use and checked."""
    from napari_ood.samples import fetch_sample
    from napari_ood.viewer.layers import slide_layer_data

    def fetch(tell: Callable[[float], None]) -> Path:
        return fetch_sample("cmu-1-small-region", lambda done, total: tell(done / total))

    return [slide_layer_data(_sample("Downloading CMU-1 small region…", fetch))]


def _sample(title: str, make: Callable[[Callable[[float], None]], Path]) -> Slide:
    from napari_ood.slides import open_slide
    from napari_ood.viewer.waiting import with_progress

    _follow_current_viewer()
    return open_slide(with_progress(title, make))


def _in_thread(title: str, work: Callable[[], T]) -> T:
    """Do slow work while the window goes on drawing; afterwards layers can be made quickly."""
    from napari_ood.viewer.waiting import with_progress

    bridge = _follow_current_viewer()

    def both(tell: Callable[[float], None]) -> T:
        if bridge is not None:
            bridge.warm()
        return work()

    return with_progress(title, both)


def _one(path: PathOrPaths) -> str:
    return path if isinstance(path, str) else path[0]


def _refused(error: OodError) -> list[LayerData]:
    from napari.utils.notifications import show_error

    show_error(str(error))
    return NOTHING


def _follow_current_viewer() -> Bridge | None:
    """Tie a session to the viewer that a file is opened in: it turns the scale bar on, say."""
    import napari

    from napari_ood.viewer.bridge import bridge_of

    viewer = napari.current_viewer()
    return bridge_of(viewer) if viewer is not None else None
