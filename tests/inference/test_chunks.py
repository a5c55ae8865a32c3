"""Chunks written past zarr's event loop are zarr's own, byte for byte."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_ood.inference.chunks import ChunkWriter


def _create(folder: Path, dtype: str, **options: Any) -> zarr.Array[Any]:
    group = zarr.open_group(folder, mode="a")
    fill = np.nan if np.dtype(dtype).kind == "f" else False
    return group.create_array(
        "values", shape=(7, 9, 3), chunks=(4, 4, 3), dtype=dtype, fill_value=fill, **options
    )


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float32", {}),
        ("float16", {}),
        ("bool", {}),
        ("float32", {"compressors": None}),
        ("float32", {"chunk_key_encoding": {"name": "default", "separator": "."}}),
        ("float32", {"compressors": [zarr.codecs.GzipCodec(level=1)]}),  # not ours: zarr's job
        (">f4", {}),
    ],
)
def test_files_are_those_that_zarr_writes(
    tmp_path: Path, dtype: str, options: dict[str, Any]
) -> None:
    values = (np.random.default_rng(0).normal(size=(7, 9, 3)) > 0).astype(dtype)
    theirs = _create(tmp_path / "theirs", dtype, **options)
    ours = _create(tmp_path / "ours", dtype, **options)
    theirs[:] = values
    writer = ChunkWriter(ours, tmp_path / "ours")
    for y in (0, 4):
        for x in (0, 4, 8):
            writer.write((y, x), values[y : y + 4, x : x + 4])
    assert _files(tmp_path / "ours") == _files(tmp_path / "theirs")
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "ours")["values"][:], values)


def test_threads_write_neighbours_without_loss(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    array = group.create_array("values", shape=(64, 64), chunks=(4, 4), dtype="int64")
    writer = ChunkWriter(array, tmp_path)
    values = np.arange(64 * 64).reshape(64, 64)

    def write(first: int) -> None:
        for k in range(first, 256, 4):
            y, x = k // 16 * 4, k % 16 * 4
            writer.write((y, x), values[y : y + 4, x : x + 4])

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(array[:], values)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_chunk_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = _create(tmp_path, "float32")
    writer = ChunkWriter(array, tmp_path)
    writer.write((0, 0), np.zeros((4, 4, 3), np.float32))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            writer.write((0, 0), np.ones((4, 4, 3), np.float32))
    assert (array[:4, :4] == 0).all()
    assert not list(tmp_path.rglob("*.partial"))
