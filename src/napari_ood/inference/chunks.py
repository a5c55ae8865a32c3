"""Whole chunks of a zarr array, written as zarr writes them but without its event loop.

``array[...] = block`` hands each chunk to an event loop and that to further threads: a few
milliseconds of waiting per chunk while other threads compute, and twenty times the processor time
of compressing and writing it. A fast network waits for that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray


class ChunkWriter:
    """Writes whole chunks of an array that lies in a folder, byte for byte as zarr does.

    Arrays that are stored in another way than ours (bytes, perhaps compressed by zstd) are written
    by zarr itself. Different chunks may be written at the same time, by threads or processes.

    Parameters
    ----------
    array : zarr.Array
    folder : Path
        The group's folder.
    """

    def __init__(self, array: zarr.Array[Any], folder: Path) -> None:
        self._array = array
        stored: Any = array.metadata.to_dict()
        self._folder = folder / array.path
        self._shape: tuple[int, ...] = array.chunks
        self._compress = _compressor(stored["codecs"])
        encoding = stored["chunk_key_encoding"]
        self._is_ours = (
            self._compress is not None
            and not stored.get("storage_transformers")
            and encoding["name"] == "default"
            and encoding.get("configuration", {}).get("separator", "/") == "/"
        )

    def write(self, origin: tuple[int, ...], block: NDArray[Any]) -> None:
        """Write the chunk that begins at ``origin``, whole; it appears in one go.

        Parameters
        ----------
        origin : cells along the first axes, multiples of the chunk's shape; 0 along the others
        block : what the array holds there; smaller than a chunk at the array's far edges

        Raises
        ------
        OSError
            If it cannot be written; what was there is still there then.
        """
        start = (*origin, *(0,) * (block.ndim - len(origin)))
        if not self._is_ours or self._compress is None:
            self._array[tuple(slice(s, s + n) for s, n in zip(start, block.shape, strict=True))] = (
                block
            )
            return
        whole = block
        if block.shape != self._shape:
            whole = np.full(self._shape, self._array.fill_value, block.dtype)
            whole[tuple(slice(n) for n in block.shape)] = block
        dtype = self._array.dtype.newbyteorder("<")
        data = self._compress(np.ascontiguousarray(whole, dtype))
        key = (str(s // n) for s, n in zip(start, self._shape, strict=True))
        _replace(self._folder.joinpath("c", *key), data)


def _compressor(codecs: list[dict[str, Any]]) -> Any:
    """Return the function from a little-endian array to the chunk's bytes; None if not ours."""
    first, *others = codecs
    little = first.get("configuration", {}).get("endian") in (None, "little")
    if first["name"] != "bytes" or not little:
        return None
    if not others:
        return bytes
    if len(others) > 1 or others[0]["name"] != "zstd":
        return None
    options = others[0].get("configuration", {})
    return Zstd(options.get("level", 0), options.get("checksum", False)).encode


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.urandom(8).hex()}.partial")
    try:
        try:
            file = partial.open("wb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = partial.open("wb")
        with file:
            file.write(data)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
