"""The engine on a real file and a small trained-shape network: same numbers, whatever happens."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from napari_ood import (
    Bundle,
    DeviceError,
    Progress,
    Run,
    RunError,
    Slide,
    SlideError,
    open_run,
    open_slide,
    run_slide,
)
from napari_ood.inference.blocks import Block, ReadyBlocks
from napari_ood.inference.network import Network
from napari_ood.inference.pipeline import Session
from napari_ood.inference.precedence import PRECEDENCE, SWITCH_S
from napari_ood.inference.store import RunWriter
from napari_ood.slides import SlideView

pytestmark = pytest.mark.usefixtures("small_shards", "two_lanes")


def _same(a: Run, b: Run) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("logits", "features", "boxes", "done", "tissue")
    )


def _rested() -> bool:
    """Rest, or a fast machine is through before what is to stop it has been told."""
    time.sleep(0.05)
    return True


def test_each_tile_gets_the_networks_answer_to_its_own_pixels(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    run = run_slide(slide, tiny_bundle, tmp_path / "a.ood.zarr", device="cpu")
    assert run.complete and 40 < run.n_tiles < run.done.size
    grid = run.grid
    view = SlideView(slide, grid.step)
    tiles = np.stack([view.read(r * 32, c * 32, 32, 32) for r, c in run.index])
    with torch.inference_mode():
        logits, features = tiny_bundle.network("cpu")(torch.from_numpy(tiles))
    np.testing.assert_allclose(run.logits, logits.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run.features, features.numpy(), rtol=1e-4, atol=1e-5)
    # At 0.5 µm/px a 32-px tile at 1 µm/px is 64 px wide, and row 0, column 1 starts at x = 64.
    assert grid.boxes([(0, 1)]).tolist() == [[0, 64, 64, 64]]


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_cancelled_and_resumed_equals_undisturbed(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, stop_after: int
) -> None:
    whole = run_slide(slide, tiny_bundle, tmp_path / "whole.ood.zarr", device="cpu")
    seen: list[Progress] = []
    out = tmp_path / "part.ood.zarr"
    part = run_slide(
        slide, tiny_bundle, out, device="cpu", batch_size=32, on_progress=seen.append,
        cancel=lambda: _rested() and len(seen) >= stop_after,
    )  # fmt: skip
    assert not part.complete and part.n_tiles < whole.n_tiles
    before, seen = part.n_tiles, []
    resumed = run_slide(slide, tiny_bundle, out, device="cpu", on_progress=seen.append)
    assert _same(resumed, whole)
    assert seen[-1].n_done == seen[-1].n_total == whole.n_tiles
    assert sum(len(p.index) for p in seen) == whole.n_tiles - before
    assert len(resumed.provenance["sessions"]) == 2


def test_an_event_cancels_too(slide: Slide, tiny_bundle: Bundle, tmp_path: Path) -> None:
    event = threading.Event()
    event.set()
    run = run_slide(slide, tiny_bundle, tmp_path / "a", device="cpu", cancel=event)
    assert run.n_tiles == 0 and not run.complete


def test_killed_and_resumed_equals_undisturbed(
    slide: Slide, slide_path: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "killed.ood.zarr"
    code = f"""
        import os, signal
        from napari_ood import open_slide, load_bundle, run_slide
        from napari_ood.inference import plan
        plan.BLOCK_PX, plan.SHARD_TILES = 256, (2, 32)
        def die(progress):
            if progress.n_done > 20: os.kill(os.getpid(), signal.SIGKILL)
        run_slide(open_slide({str(slide_path)!r}), load_bundle({str(tiny_bundle.path)!r}),
                  {str(out)!r}, device="cpu", on_progress=die)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert open_run(out).n_tiles > 20 and not open_run(out).complete
    resumed = run_slide(slide, tiny_bundle, out, device="cpu")
    assert _same(resumed, run_slide(slide, tiny_bundle, tmp_path / "whole.ood.zarr", device="cpu"))


def test_a_finished_run_is_not_computed_again(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.ood.zarr"
    first = run_slide(slide, tiny_bundle, out, device="cpu")
    monkeypatch.setattr(Bundle, "network", lambda *_: pytest.fail("the network was built"))
    assert _same(run_slide(slide, tiny_bundle, out, device="cpu"), first)


def test_another_request_on_the_same_output_is_refused_and_harms_nothing(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "a.ood.zarr"
    first = run_slide(slide, tiny_bundle, out, device="cpu")
    with pytest.raises(RunError, match=r"region or resolution.*another output"):
        run_slide(slide, tiny_bundle, out, device="cpu", region=(0, 0, 300, 300))
    with pytest.raises(RunError, match="tissue"):
        run_slide(slide, tiny_bundle, out, device="cpu", tissue=False)
    assert _same(open_run(out), first)


@pytest.mark.parametrize("made", ["folder", "file"])
def test_an_output_that_is_no_run_is_left_alone(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, made: str
) -> None:
    out = tmp_path / "thesis"
    if made == "folder":
        out.mkdir()
        (out / "chapter.txt").write_text("mine")
    else:
        out.write_text("mine")
    with pytest.raises(RunError, match="not a run"):
        run_slide(slide, tiny_bundle, out, device="cpu")
    assert (out / "chapter.txt" if made == "folder" else out).read_text() == "mine"


def test_a_full_disk_keeps_what_is_written(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write, count = tmp_path / "a.ood.zarr", RunWriter._store, []

    def full_after_two_shards(self: RunWriter, *args: object) -> None:
        count.append(1)
        if len(count) > 7:  # three arrays a shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "_store", full_after_two_shards)
        with pytest.raises(RunError, match=r"disk is full.*run again"):
            run_slide(slide, tiny_bundle, out, device="cpu")
    assert open_run(out).n_tiles > 0
    resumed = run_slide(slide, tiny_bundle, out, device="cpu")
    assert _same(resumed, run_slide(slide, tiny_bundle, tmp_path / "b.ood.zarr", device="cpu"))


def test_a_slide_that_cannot_be_read_further_keeps_what_is_written(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, count = Slide.read, []

    def broken(self: Slide, *args: int) -> np.ndarray:
        count.append(1)
        if len(count) > 4:
            raise SlideError("tile 77 is damaged")
        return read(self, *args)

    out = tmp_path / "a.ood.zarr"
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr("napari_ood.inference.engine.plan_run", _planned(slide, tiny_bundle))
        patch.setattr(Slide, "read", broken)
        with pytest.raises(SlideError, match="tile 77"):
            run_slide(slide, tiny_bundle, out, device="cpu")
    left = set(threading.enumerate()) - before
    assert not any(thread.name.startswith("ood-") for thread in left)
    assert not open_run(out).complete
    assert run_slide(slide, tiny_bundle, out, device="cpu").complete


def test_threads_end_by_themselves_when_a_second_ctrl_c_strikes_the_shutdown(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def struck(self: Session, writing: threading.Thread) -> None:
        self._stop.set()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "_shut_down", struck)
        with pytest.raises(KeyboardInterrupt):
            run_slide(slide, tiny_bundle, tmp_path / "a.ood.zarr", device="cpu")
    for thread in threading.enumerate():
        if thread.name.startswith("ood-"):
            thread.join(timeout=10)
            assert not thread.is_alive()


def _planned(slide: Slide, bundle: Bundle):  # type: ignore[no-untyped-def]
    from napari_ood.inference import plan_run

    plan = plan_run(slide, bundle)
    return lambda *_: plan


def test_an_error_in_the_listener_stops_the_run_and_keeps_it(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    def listener(progress: Progress) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "a.ood.zarr"
    with pytest.raises(KeyboardInterrupt):
        run_slide(slide, tiny_bundle, out, device="cpu", on_progress=listener)
    assert open_run(out).n_tiles > 0
    assert not any(t.name.startswith("ood-") for t in threading.enumerate())


def test_a_second_interrupt_while_the_network_ends_loses_no_record(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    close = Network.close
    monkeypatch.setattr(Network, "close", lambda network: (close(network), interrupted()))
    with pytest.raises(KeyboardInterrupt):
        run_slide(slide, tiny_bundle, tmp_path / "a", device="cpu", on_progress=interrupted)
    run = open_run(tmp_path / "a")
    assert len(run.provenance["sessions"]) == 1


def test_what_is_on_screen_comes_first_and_changes_nothing(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    corner = (500.0, 700.0, 100.0, 100.0)
    seen: list[Progress] = []
    run = run_slide(
        slide, tiny_bundle, tmp_path / "a.ood.zarr", device="cpu", on_progress=seen.append,
        view=lambda: corner,
    )  # fmt: skip
    in_view = run.grid.tiles_in(corner)
    first = [bool(in_view[tuple(p.index.T)].any()) for p in seen]
    assert first[0] and first == sorted(first, reverse=True) and not first[-1]
    assert _same(run, run_slide(slide, tiny_bundle, tmp_path / "b.ood.zarr", device="cpu"))


def test_what_is_computed_where_the_view_moves_to_is_shown_at_once(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ood.inference.pipeline.STORE_EVERY_S", 1e9)
    grid = run_slide(slide, tiny_bundle, tmp_path / "a.ood.zarr", device="cpu").grid
    chosen: list[tuple[Block, int]] = []
    next_batch = ReadyBlocks.next_batch

    def watched(self: ReadyBlocks) -> tuple[Block, int, bool] | None:
        found = next_batch(self)
        if found:
            chosen.append(found[:2])
        return found

    def view() -> tuple[float, float, float, float] | None:
        if len(chosen) < 5:
            return None
        block, k = chosen[1]  # the first batch of all is stored at once, the second one is not
        y, x, h, w = grid.boxes(block.piece.batches[k][:1])[0]
        return (y + h / 2, x + w / 2, 1.0, 1.0)

    monkeypatch.setattr(ReadyBlocks, "next_batch", watched)
    seen: list[Progress] = []
    run_slide(
        slide, tiny_bundle, tmp_path / "b.ood.zarr", device="cpu", batch_size=2, view=view,
        on_progress=seen.append,
    )  # fmt: skip
    block, k = chosen[1]
    tile, last = block.piece.batches[k][0].tolist(), block.piece.batches[-1][-1].tolist()
    assert len(block.piece.batches) > 5, "or there is nothing to wait for"
    (with_tile,) = (p.index.tolist() for p in seen if tile in p.index.tolist())
    assert last not in with_tile, "it did not wait until its block was through"


@pytest.mark.parametrize("batch_size", [3, 32])
def test_a_camera_that_moves_and_a_stop_in_between_change_nothing(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, batch_size: int
) -> None:
    whole = run_slide(
        slide, tiny_bundle, tmp_path / "whole.ood.zarr", device="cpu", batch_size=batch_size
    )
    # Views smaller than a shard: parts of shards are stored before the rest of them.
    views = [
        (500.0, 700.0, 20.0, 20.0),
        [(100.0, 500.0, 9.0, 9.0), (290.0, 900.0, 90.0, 9.0)],
        None,
    ]
    seen: list[Progress] = []
    out = tmp_path / "part.ood.zarr"
    for stop in (3, 12, 10_000):
        run_slide(
            slide, tiny_bundle, out, device="cpu", batch_size=batch_size, on_progress=seen.append,
            view=lambda: views[len(seen) % 3],
            cancel=lambda stop=stop: _rested() and len(seen) >= stop,
        )  # fmt: skip
    run = open_run(out)
    assert _same(run, whole)
    assert sum(len(p.index) for p in seen) == whole.n_tiles
    assert len(run.provenance["sessions"]) > 1
    n = len(seen)
    # Half-stored shards go on in batches of another size, too; bits may differ then.
    run_slide(
        slide, tiny_bundle, tmp_path / "c", device="cpu", batch_size=batch_size,
        view=lambda: views[0], on_progress=seen.append,
        cancel=lambda: _rested() and len(seen) > n,
    )  # fmt: skip
    other = run_slide(slide, tiny_bundle, tmp_path / "c", device="cpu", batch_size=5)
    assert other.complete
    np.testing.assert_allclose(other.logits, whole.logits, rtol=1e-4, atol=1e-5)


def test_the_progress_adds_up(slide: Slide, tiny_bundle: Bundle, tmp_path: Path) -> None:
    seen: list[Progress] = []
    run = run_slide(slide, tiny_bundle, tmp_path / "a", device="cpu", on_progress=seen.append)
    order = np.concatenate([p.index for p in seen])
    by_row = np.lexsort(order.T[::-1])
    assert np.array_equal(order[by_row], run.index)
    assert np.array_equal(np.concatenate([p.logits for p in seen])[by_row], run.logits)
    assert np.array_equal(np.concatenate([p.features for p in seen])[by_row], run.features)
    last = seen[-1]
    assert last.n_done == last.n_total == run.n_tiles and last.seconds_left == 0
    assert set(last.stage_seconds) == {"read", "forward", "write"}
    assert all(s > 0 for s in last.stage_seconds.values())


def test_regions_overlap_and_edges(slide: Slide, tiny_bundle: Bundle, tmp_path: Path) -> None:
    region = (400.0, 600.0, 1000.0, 1000.0)  # clipped to the slide's lower right corner
    run = run_slide(
        slide, tiny_bundle, tmp_path / "a", device="cpu", region=region, stride=16, tissue=False
    )
    assert run.grid.region == (400, 600, 360, 400) and run.done.all()
    ends = run.boxes[:, :2] + run.boxes[:, 2:]
    assert np.array_equal(run.partial, (ends > (760, 1000)).any(axis=1)) and run.partial.any()
    assert (ends.max(axis=0) >= (760, 1000)).all()


def test_a_slide_without_tissue_gives_an_empty_run(tiny_bundle: Bundle, tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "glass.tif", np.full((300, 300, 3), 243, np.uint8))
    run = run_slide(open_slide(tmp_path / "glass.tif", mpp=1.0), tiny_bundle, tmp_path / "a")
    assert run.complete and run.n_tiles == 0 and run.logits.shape == (0, 3, 3)
    assert np.isnan(run.map("ood")).all() and (run.prediction_map() == -1).all()


def test_what_cannot_be_run_is_refused_before_anything_is_written(
    slide: Slide,
    slide_path: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "a.ood.zarr"
    import tifffile

    tifffile.imwrite(tmp_path / "nompp.tif", tifffile.imread(slide_path))
    with pytest.raises(SlideError, match="--mpp"):
        run_slide(open_slide(tmp_path / "nompp.tif"), tiny_bundle, out)
    with pytest.raises(SlideError, match="pixel wide"):
        run_slide(open_slide(slide_path, mpp=40.0), tiny_bundle, out)
    with pytest.raises(SlideError, match="outside the slide"):
        run_slide(slide, tiny_bundle, out, region=(5000, 0, 10, 10))
    with pytest.raises(SlideError, match="stride"):
        run_slide(slide, tiny_bundle, out, stride=0)
    # A tile of 32 µm at 1 nm/px is 32,000 px wide: 3 GB, and the mpp is surely wrong.
    with pytest.raises(SlideError, match="mpp"):
        run_slide(open_slide(slide_path, mpp=0.001), tiny_bundle, out, tissue=False)
    monkeypatch.setattr("napari_ood.inference.plan.MOST_TILES", 1000)
    with pytest.raises(SlideError, match="too many"):
        run_slide(slide, tiny_bundle, out, stride=1)
    with pytest.raises(RunError, match="batch size"):
        run_slide(slide, tiny_bundle, out, batch_size=0)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError):
            run_slide(slide, tiny_bundle, out, device="cuda")
    assert not out.exists()


def test_what_a_run_asks_of_the_process_ends_with_it(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    before, during = (sys.getswitchinterval(), _blas_threads()), []

    def listener(progress: object) -> None:
        during.append((sys.getswitchinterval(), _blas_threads()))
        raise ValueError("the listener fails")

    with pytest.raises(ValueError, match="listener fails"):
        run_slide(slide, tiny_bundle, tmp_path / "a.ood.zarr", device="cpu", on_progress=listener)
    assert during == [(pytest.approx(SWITCH_S), {1})]
    assert (sys.getswitchinterval(), _blas_threads()) == before


def test_of_runs_that_overlap_the_last_one_sets_the_process_back() -> None:
    before = sys.getswitchinterval(), _blas_threads()
    first, second = PRECEDENCE.taken(), PRECEDENCE.taken()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (sys.getswitchinterval(), _blas_threads()) == (pytest.approx(SWITCH_S), {1})
    second.__exit__(None, None, None)
    assert (sys.getswitchinterval(), _blas_threads()) == before


def _blas_threads() -> set[int]:
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
