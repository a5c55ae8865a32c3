"""Parts of the review that stand alone: outline, flight, thumbnails, the reviewer's name."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_ood import Slide, open_slide
from napari_ood.errors import ReviewError, SlideError
from napari_ood.slides.grid import TileGrid
from napari_ood.viewer import reviewer, thumbnails
from napari_ood.viewer.flight import (
    FILLED,
    SLOW_FRAME_S,
    Flight,
    View,
    between,
    view_now,
    view_of,
)
from napari_ood.viewer.outline import (
    COLORS,
    MAX_DASHES,
    GridOnSlide,
    Outline,
    dashes,
    edges_around,
)
from napari_ood.viewer.thumbnails import Thumbnails, field_of, read_field

from .conftest import INKS, PATCHES, TILE_PX, write_patches

cells = st.sets(st.tuples(st.integers(-3, 6), st.integers(0, 9)), min_size=1)


@given(cells)
def test_an_outline_has_every_side_between_inside_and_outside(inside: set[tuple[int, int]]) -> None:
    edges = edges_around(sorted(inside))
    sides = set()
    for (y0, x0), (y1, x1) in edges:
        assert (y0 == y1) != (x0 == x1), "straight, and of some length"
        n = round(abs(y1 - y0) + abs(x1 - x0))
        step = np.array([y1 - y0, x1 - x0]) / n
        for i in range(n):
            middle = np.array([y0, x0]) + step * (i + 0.5)
            side = (*middle.tolist(), bool(step[0]))
            assert side not in sides, "no side is drawn twice"
            sides.add(side)
    expected = {
        (r + dr / 2, c + dc / 2, bool(dc))
        for r, c in inside
        for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1))
        if (r + dr, c + dc) not in inside
    }
    assert sides == expected


@given(cells, st.floats(0.01, 5))
def test_dashes_cover_the_outline(inside: set[tuple[int, int]], length: float) -> None:
    edges = edges_around(sorted(inside))
    pieces, color = dashes(edges, length)
    perimeter = np.abs(edges[:, 1] - edges[:, 0]).sum()
    assert np.abs(pieces[:, 1]).sum() == pytest.approx(perimeter)
    assert (np.bincount(color) == len(pieces) / 2).all(), "as much black as white"
    assert len(COLORS[color]) <= MAX_DASHES + 2 * len(edges)


def test_a_hidden_outline_is_drawn_anew_when_it_is_shown() -> None:
    viewer = ViewerModel()
    grid = TileGrid((640, 960), (0, 0, 640, 960), 64, 64, (1.0, 1.0))
    outline, on = Outline(viewer), GridOnSlide(grid, (0.5, 0.5))
    wide = np.stack(np.mgrid[:4, :5], -1).reshape(-1, 2)
    outline.show(wide, on, 1.0)
    (layer,) = viewer.layers
    n = len(layer.data)
    # Colours are looked up whenever they change: those of a hidden layer must not be stale.
    layer.events.edge_color.connect(lambda: layer._view_face_color)
    outline.hide()
    outline.show(wide[:1], on, 1.0)
    assert layer.visible and 4 <= len(layer.data) < n
    layer.visible = False  # by its eye
    viewer.scene.camera.zoom = 0.01
    viewer.scene.camera.zoom = 1e3
    layer.visible = True
    assert len(layer._view_data) == len(layer.data)


boxes = st.tuples(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(1, 1e4), st.floats(1, 1e4))


@given(boxes, st.floats(0.1, 2), st.tuples(st.integers(50, 2000), st.integers(50, 2000)))
def test_a_flight_ends_with_the_region_in_the_middle(
    box: tuple[float, float, float, float], mpp: float, canvas: tuple[int, int]
) -> None:
    goal = view_of(box, (mpp, mpp), canvas, least=100.0)
    on_screen = np.array(box[2:]) * mpp * goal.zoom
    assert (on_screen <= np.array(canvas) * FILLED * (1 + 1e-9)).all()
    assert min(np.array(canvas) / goal.zoom / mpp) >= 100 * (1 - 1e-9)
    middle = (np.array(box[:2]) + np.array(box[2:]) / 2 - 0.5) * mpp
    np.testing.assert_allclose(goal.centre, middle)
    assert between(View((3.0, 4.0), 0.7), goal, 1.0) == goal


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in flight, which only the test moves on."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("napari_ood.viewer.flight.time", clock)
    return now


def test_a_camera_flies_near_and_jumps_far(now: list[float]) -> None:
    viewer = ViewerModel()
    viewer.canvas.size = (600, 800)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, 0.0, 0.0), 1.0
    flight = Flight(viewer)
    near, far = View((200.0, 100.0), 2.0), View((9000.0, 0.0), 4.0)
    assert flight.begin(near)
    frames = 0
    while flight.step():
        frames += 1
        now[0] += 0.01
        zoom = view_now(viewer).zoom
        assert 1 <= zoom < 2
    assert frames > 3
    assert view_now(viewer) == near
    assert not flight.begin(far)
    assert view_now(viewer) == far


def test_a_slow_flight_ends_at_once(now: list[float]) -> None:
    viewer = ViewerModel()
    flight, goal = Flight(viewer), View((2.0, 1.0), 1.5)
    assert flight.begin(goal)
    now[0] += 1.01 * SLOW_FRAME_S
    assert not flight.step()
    assert view_now(viewer) == goal


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    return open_slide(write_patches(tmp_path / "patches.tif"))


def test_a_thumbnail_shows_what_lies_in_its_field(slide: Slide) -> None:
    rows, cols = PATCHES["large"]
    y, x = rows.start * TILE_PX, cols.start * TILE_PX
    picture = read_field(slide, (y, x, 4 * TILE_PX, 4 * TILE_PX), 64)
    exact = slide.read(0, y, x, 4 * TILE_PX, 4 * TILE_PX).reshape(64, 4, 64, 4, 3).mean((1, 3))
    np.testing.assert_allclose(picture, exact, atol=1)
    np.testing.assert_allclose(picture.mean((0, 1)), INKS["large"], atol=10)
    corner = read_field(slide, (-64, -64, 128, 128), 60)
    assert (corner[:29, :29] == 255).all(), "white outside the slide"
    assert (corner[32:, 32:] < 255).any()


def test_a_field_is_square_around_the_region() -> None:
    y, x, h, w = field_of((100, 200, 40, 80), margin=0.25, least=10)
    assert (h, w) == (120, 120)
    assert (y + h / 2, x + w / 2) == (120, 240)
    assert field_of((0, 0, 1, 1), 0.25, least=50)[2:] == (50, 50)


def test_thumbnails_come_from_a_thread_the_latest_first(
    slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, order = threading.Event(), []

    def slowly(slide: Slide, field: tuple[float, ...], px: int) -> np.ndarray:
        assert threading.current_thread() is not threading.main_thread()
        assert go.wait(60)
        order.append(field[0])
        if field[0] == 2:
            raise SlideError("cannot be decoded")
        return np.zeros((px, px, 3), np.uint8)

    monkeypatch.setattr(thumbnails, "read_field", slowly)
    pictures = Thumbnails(slide, px=8)
    for i in range(5):
        assert pictures.get(str(i), (i, 0, 1, 1)) is None
        while i == 0 and pictures._waiting:
            time.sleep(0.001)  # the thread is at the first one
    go.set()
    new: list[str] = []
    while pictures.busy:
        new += pictures.take_new()
    assert order == [0, 4, 3, 2, 1]
    assert new == ["0", "4", "3", "2", "1"]
    assert pictures.get("2", (2, 0, 1, 1)).pixels is None
    assert pictures.get("3", (3, 0, 1, 1)).pixels.shape == (8, 8, 3)
    assert pictures.get("3", (9, 0, 1, 1)) is None, "another field is another picture"
    pictures.close()
    assert pictures.get("7", (7, 0, 1, 1)) is None
    while pictures.busy:  # with the picture it was at, which nobody gets any more
        time.sleep(0.001)
    assert 7 not in order


def test_the_reviewer_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewer, "config_folder", lambda: tmp_path / "new" / "folder")
    assert reviewer.remembered_reviewer(), "the login name at first"
    reviewer.remember_reviewer(" Ada Lovelace ")
    assert reviewer.remembered_reviewer() == "Ada Lovelace"
    (tmp_path / "file").touch()
    monkeypatch.setattr(reviewer, "config_folder", lambda: tmp_path / "file")
    with pytest.raises(ReviewError, match="holds until the window is closed"):
        reviewer.remember_reviewer("Grace")
