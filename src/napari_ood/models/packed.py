"""A JSON object as an array, so that a file of arrays says by itself what its arrays mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import BundleError

Arrays = Mapping[str, NDArray[np.generic]]
CONFIG_ARRAY = "config"


def pack_config(config: Mapping[str, Any]) -> NDArray[np.uint8]:
    """UTF-8 JSON of an object; [n] uint8."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return np.frombuffer(text.encode(), np.uint8).copy()


def unpack_config(arrays: Arrays, source: str, version: int) -> dict[str, Any]:
    """Read ``arrays["config"]``.

    Parameters
    ----------
    arrays : of an extra of a bundle
    source : names it in errors
    version : that this program reads

    Raises
    ------
    BundleError
        If there is none, it is no JSON object, or of another version.
    """
    try:
        config = json.loads(np.asarray(arrays[CONFIG_ARRAY], np.uint8).tobytes().decode())
        found = config["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{source} does not say what it holds ({error}): make it anew") from error
    if found != version:
        raise BundleError(
            f"{source} is of version {found!r}, this napari-ood reads {version}: update it, or "
            "make the file anew"
        )
    return dict(config)
