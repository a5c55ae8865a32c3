"""scikit-image's IHC image as a slide."""

from __future__ import annotations

from pathlib import Path

from napari_ood.errors import DownloadError
from napari_ood.samples.cache import appearing, cache_folder


def ihc_slide() -> Path:
    """Path of a real IHC image of colon (DAB and haematoxylin), 512 × 512 px, as PNG.

    It comes from scikit-image (``skimage.data.immunohistochemistry``: acquired at the Center for
    Microscopy And Molecular Imaging, no known copyright restrictions). Its resolution is not
    recorded, so it opens without mpp; from the size of its nuclei it is about 0.5 µm/px.

    Raises
    ------
    DownloadError
        If this scikit-image does not hold the image and it cannot be downloaded.
    OodError
        If the cache cannot be written.
    """
    path = cache_folder() / "ihc-colon.png"
    if path.is_file():
        return path
    from PIL import Image
    from skimage import data

    try:
        pixels = data.immunohistochemistry()
    except (ImportError, OSError) as error:
        raise DownloadError(
            "this scikit-image comes without its IHC image: connect to the internet and "
            "pip install pooch, then open the sample again"
        ) from error
    with appearing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
    return path
