"""The inspector's state and commands, without Qt: choosing tiles, answers, maps on the slide."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_ood import Bundle, Slide, TileGrid
from napari_ood.explain.methods import METHODS
from napari_ood.explain.target import Target
from napari_ood.models import load_bundle
from napari_ood.slides.tiles import read_tiles
from napari_ood.viewer import layers as ood_layers
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.inspector import NOT_A_NUMBER, Inspector, inspector_of
from napari_ood.viewer.inspector_request import MOST_SLOW_TILES
from napari_ood.viewer.inspector_state import Tab
from napari_ood.viewer.inspector_work import NO_BUNDLE, NO_SLIDE, NOT_STORED, RUNNING
from napari_ood.viewer.latest import Latest
from napari_ood.viewer.maps import Maps
from napari_ood.viewer.saliency_choices import CAMS, target_choices
from napari_ood.viewer.saliency_layer import SALIENCY_KEY, limits_of, saliency_layer, show_saliency
from napari_ood.viewer.state import Phase
from napari_ood.viewer.task import Task
from napari_ood.viewer.tile_pixels import cells_in, stitch, stitched_placement

WAIT_S = 60.0
Finish = Callable[[Bridge], None]


@pytest.fixture
def bridge(slide: Slide, finished: Finish) -> Bridge:
    """A viewer with a finished run of the tiny bundle: 10 x 15 tiles."""
    viewer = ViewerModel()
    made = bridge_of(viewer)
    viewer.add_layer(ood_layers.make_layer(ood_layers.slide_layer_data(slide)))
    finished(made)
    made.keep = viewer  # type: ignore[attr-defined]  # the bridge holds its viewer weakly
    return made


@pytest.fixture
def inspector(bridge: Bridge) -> Inspector:
    made = inspector_of(bridge)
    made.follow(bridge.session.state)
    return made


def maps_of(inspector: Inspector) -> Maps:
    assert inspector.state.maps is not None
    return inspector.state.maps


# ------------------------------------------------------------------------------------ geometry

STEPS = st.floats(0.3, 5.0)


@settings(max_examples=60, deadline=None)
@given(
    step=st.tuples(STEPS, STEPS),
    tile=st.integers(2, 9),
    stride=st.integers(1, 12),
    mpp=st.none() | st.tuples(st.floats(0.1, 2), st.floats(0.1, 2)),
    cells=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6),
    origin=st.tuples(st.floats(0, 30), st.floats(0, 30)),
)
def test_each_pixel_of_a_stitched_map_lies_where_its_tile_has_it(
    step: tuple[float, float],
    tile: int,
    stride: int,
    mpp: tuple[float, float] | None,
    cells: list[tuple[int, int]],
    origin: tuple[float, float],
) -> None:
    grid = TileGrid((500, 500), (*origin, 400.0, 400.0), tile, stride, step)
    cells = list(dict.fromkeys(cells))
    index = np.array(cells)
    # Every pixel's value is its own place in model pixels: overlapping tiles then agree.
    k = np.arange(tile)
    values = np.stack(
        [1000.0 * (r * stride + k)[:, None] + (c * stride + k)[None] for r, c in cells]
    ).astype(np.float32)
    whole = stitch(values, index, grid)
    place = stitched_placement(index, grid, mpp)
    known = np.argwhere(~np.isnan(whole))
    assert len(known) == len(
        {(r * stride + a, c * stride + b) for r, c in cells for a in k for b in k}
    )
    world = known * place.scale + place.translate
    base = np.array(mpp or (1.0, 1.0))
    level0 = world / base + 0.5  # centres of pixels, counted from the slide's edge
    for at, (i, j) in zip(level0, known, strict=True):
        wanted = np.array(divmod(float(whole[i, j]), 1000.0))
        np.testing.assert_allclose((at - origin) / step - 0.5, wanted, atol=1e-6 * 500)


def test_overlapping_tiles_are_averaged_and_gaps_stay_empty() -> None:
    grid = TileGrid((100, 100), (0.0, 0.0, 100.0, 100.0), 4, 2, (1.0, 1.0))
    values = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 3.0)]).astype(np.float32)
    whole = stitch(values, [(0, 0), (0, 1)], grid)
    np.testing.assert_array_equal(whole[0], [1, 1, 2, 2, 3, 3])
    apart = stitch(values, [(0, 0), (0, 5)], grid)
    assert np.isnan(apart[:, 4:10]).all() and not np.isnan(apart[:, 10:]).any()


def test_tiles_are_read_as_the_run_read_them(bridge: Bridge, inspector: Inspector) -> None:
    maps = maps_of(inspector)
    scored = bridge.session.scored(maps)
    assert scored is not None and inspector.state.slide is not None and maps.bundle is not None
    rows = [0, 22, 149]
    import torch

    tiles = read_tiles(inspector.state.slide, maps.grid, scored.index[rows])
    with torch.inference_mode():
        logits, features = maps.bundle.network()(torch.from_numpy(tiles))
    np.testing.assert_allclose(logits.numpy(), scored.run.logits[rows], atol=1e-4)
    np.testing.assert_allclose(features.numpy(), scored.run.features[rows], atol=1e-4)
    stored = scored.run.tile(*(int(i) for i in scored.index[22]))
    np.testing.assert_array_equal(stored[0], scored.run.logits[22])
    np.testing.assert_array_equal(stored[1], scored.run.features[22])


def test_a_box_means_the_tiles_whose_middle_it_holds(inspector: Inspector) -> None:
    maps = maps_of(inspector)  # tiles of 64 level-0 pixels
    assert cells_in(maps, (60.0, 60.0, 70.0, 140.0)).tolist() == [[1, 1], [1, 2]]
    assert cells_in(maps, (2.0, 2.0, 5.0, 5.0)).tolist() == [[0, 0]], "what it touches"
    assert len(cells_in(maps, (5000.0, 0.0, 5.0, 5.0))) == 0


# ------------------------------------------------------------------------------------ latest


def test_of_many_wishes_only_the_first_begins_and_only_the_last_is_answered() -> None:
    latest: Latest[int] = Latest()
    begun: list[int] = []
    go = threading.Event()

    def work(i: int, task: Task[int]) -> int:
        begun.append(i)
        go.wait(WAIT_S)
        return i

    for i in range(10):
        latest.ask(lambda task, i=i: work(i, task))  # type: ignore[misc]
    assert latest.busy
    go.set()
    assert latest.wait(WAIT_S)
    task = latest.take()
    assert task is not None and task.result == 9
    assert set(begun) <= {0, 9}
    assert not latest.busy and not latest.working


def test_dropped_work_is_cancelled_and_never_answered() -> None:
    latest: Latest[int] = Latest()
    stopped = threading.Event()

    def work(task: Task[int]) -> int:
        while not task.cancelled:
            time.sleep(0.002)
        stopped.set()
        return 1

    latest.ask(work)
    latest.drop()
    assert not latest.busy and stopped.wait(WAIT_S) and latest.wait(WAIT_S)
    assert latest.take() is None and not latest.working


# ------------------------------------------------------------------------------------ answers


def test_a_chosen_tile_is_read_and_answered(bridge: Bridge, inspector: Inspector) -> None:
    assert inspector.state.cell is None and inspector.state.maps is bridge.session.state.maps
    assert inspector.select((2, 11))
    assert inspector.state.looking
    assert inspector.wait(WAIT_S)
    look, maps = inspector.state.look, maps_of(inspector)
    assert look is not None and not inspector.state.looking
    assert look.pixels.value is not None
    assert look.pixels.value.shape == (32, 32, 3)
    # TIFF's lossless ink, flat: as in the fixture.
    np.testing.assert_array_equal(
        np.unique(look.pixels.value.reshape(-1, 3), axis=0), [[20, 60, 200]]
    )
    heads = look.heads.value
    assert heads is not None and heads.prediction == maps.prediction[2, 11] - 1
    assert float(heads.mean.max()) == pytest.approx(float(maps.probability[2, 11]), abs=1e-5)
    found = look.prototypes.value
    assert found is not None and len(found.tiles) == 8
    distances = [p.distance for p in found.tiles]
    assert distances == sorted(distances) and found.tiles[0].percentile == 100
    assert look.cause.value is not None and look.cause.value.evidence


def test_the_temperature_that_is_set_holds_for_heads(bridge: Bridge, inspector: Inspector) -> None:
    inspector.select((2, 2))
    assert inspector.wait(WAIT_S)
    before = inspector.state.look
    bridge.session.set_temperature(8.0)
    while bridge.session.follow():
        time.sleep(0.01)
    inspector.follow(bridge.session.state)
    assert inspector.wait(WAIT_S)
    after = inspector.state.look
    assert before is not None and before.heads.value is not None
    assert after is not None and after.heads.value is not None and after.cell == (2, 2)
    assert after.heads.value.entropy > before.heads.value.entropy


def test_steps_go_over_gaps_and_stop_at_the_edge(inspector: Inspector) -> None:
    maps = maps_of(inspector)
    maps.prediction[3, 5:8] = 0
    assert inspector.select((3, 4)) and inspector.step(0, 1)
    assert inspector.state.cell == (3, 8)
    assert inspector.step(-1, 0) and inspector.state.cell == (2, 8)
    assert inspector.select((0, 0)) and not inspector.step(-1, 0)
    assert inspector.state.cell == (0, 0)
    # It was run, and yet has no class.
    assert not inspector.select((3, 6)) and inspector.state.note == NOT_A_NUMBER
    assert not inspector.select(None)
    assert inspector.state.cell == (0, 0), "what was chosen stays"


def test_without_a_tile_the_first_step_goes_to_the_most_foreign_one(inspector: Inspector) -> None:
    maps = maps_of(inspector)
    scores = next(iter(s for o, s in maps.scores.items() if o == "ood"))
    assert inspector.step(0, 1)
    assert scores[inspector.state.cells[0]] == np.nanmax(scores)


def test_boxes_that_are_empty_or_too_large_are_refused_in_words(inspector: Inspector) -> None:
    assert not inspector.select_box((9000.0, 0.0, 5.0, 5.0))
    assert "no tile in that box" in inspector.state.note
    assert not inspector.select_box((0.0, 0.0, 640.0, 960.0))
    assert "150 tiles" in inspector.state.note and "64" in inspector.state.note
    assert inspector.state.cells == ()
    assert inspector.select_box((0.0, 0.0, 192.0, 192.0))
    assert len(inspector.state.cells) == 9 and inspector.state.cell == (1, 1)
    inspector.wish(method="rise")
    assert not inspector.explain()
    assert f"at most {MOST_SLOW_TILES}" in inspector.state.problem


@pytest.mark.parametrize("what", ["no slide", "no bundle", "gone", "running"])
def test_what_is_missing_is_said_and_the_rest_is_answered(
    what: str, bridge: Bridge, inspector: Inspector, slide: Slide, tmp_path: Path
) -> None:
    maps, state = maps_of(inspector), bridge.session.state
    words: dict[str, str] = {}
    if what == "no slide":
        state = replace(state, slide=None, results=(replace(state.results[0], slide=None),))
        words = {"pixels": NO_SLIDE, "cause": NO_SLIDE}
    elif what == "no bundle":
        maps.bundle = None
        words = {"prototypes": NO_BUNDLE, "cause": NO_BUNDLE}
    elif what == "gone":
        inspector.session = SimpleNamespace(  # type: ignore[assignment]
            scored=lambda maps: None, state=state
        )
        words = {"heads": NOT_STORED, "prototypes": NOT_STORED}
    else:
        state = replace(state, phase=Phase.RUNNING)
        words = {"heads": RUNNING, "prototypes": RUNNING}
    inspector.follow(state)
    inspector.select((1, 1))
    assert inspector.wait(WAIT_S)
    look = inspector.state.look
    assert look is not None
    for part in ("pixels", "heads", "cause", "prototypes"):
        answer = getattr(look, part)
        assert answer.words == words.get(part, ""), part
        assert (answer.value is None) == (part in words), part
    inspector.show_tab(Tab.SALIENCY)
    expected = {"no slide": NO_SLIDE, "no bundle": NO_BUNDLE}.get(what, "")
    assert inspector.state.problem == expected
    if expected:
        assert not inspector.state.explaining
    inspector.stop()


def test_a_bundle_without_a_reference(slide: Slide, tiny_bundle: Bundle, tmp_path: Path) -> None:
    from napari_ood.models import save_bundle

    from .conftest import finish

    bare = save_bundle(tmp_path / "bare", tiny_bundle.trained_network(), tiny_bundle.card)
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    viewer.add_layer(ood_layers.make_layer(ood_layers.slide_layer_data(slide)))
    bridge.session.use_bundle(bare)
    assert bridge.run()
    finish(bridge)
    inspector = inspector_of(bridge)
    inspector.follow(bridge.session.state)
    assert inspector.select_most_foreign(), "by uncertainty, as there is no OOD score"
    assert inspector.wait(WAIT_S)
    look = inspector.state.look
    assert look is not None and look.heads.value is not None
    assert "has no reference" in look.prototypes.words
    inspector.wish(target=Target.of_score("ood"))
    inspector.explain()
    assert inspector.wait(WAIT_S)
    assert "has no reference" in inspector.state.problem and inspector.state.shown is None


def test_an_image_as_a_whole_is_one_tile(slide: Slide, image_bundle: Bundle) -> None:
    from .conftest import finish

    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    viewer.add_layer(ood_layers.make_layer(ood_layers.slide_layer_data(slide)))
    bridge.session.use_bundle(image_bundle)
    assert bridge.run()
    finish(bridge)
    inspector = inspector_of(bridge)
    inspector.follow(bridge.session.state)
    assert inspector.select_most_foreign() and inspector.state.cell == (0, 0)
    inspector.show_tab(Tab.SALIENCY)
    assert inspector.wait(WAIT_S)
    shown = inspector.state.shown
    assert shown is not None and shown.values.shape == (32, 32)
    # 640 x 960 px at 0.5 µm/px are squeezed to 32 x 32.
    np.testing.assert_allclose(shown.place.scale, (10.0, 15.0))
    np.testing.assert_allclose(shown.place.translate, (4.75, 7.25))


# ------------------------------------------------------------------------------------ saliency


def test_maps_have_one_scale_and_come_back_at_once(inspector: Inspector) -> None:
    inspector.show_tab(Tab.SALIENCY)
    assert not inspector.state.explaining, "no tile is chosen"
    inspector.select((2, 2))
    assert inspector.state.explaining, "fast methods follow the chosen tile"
    assert inspector.wait(WAIT_S)
    first = inspector.state.shown
    assert first is not None and first.cells == ((2, 2),)
    maps = maps_of(inspector)
    predicted = maps.classes[maps.prediction[2, 2] - 1]
    assert first.title == f"Grad-CAM of {predicted}"
    assert inspector.state.layers
    target = first.target
    inspector.wish(target=target)
    assert inspector.wait(WAIT_S)
    inspector.select((7, 3))
    assert inspector.state.shown is None, "another tile's map is not left standing"
    assert inspector.wait(WAIT_S)
    second = inspector.state.shown
    assert second is not None and second.target == target
    assert second.limit == first.limit, "the same colour means the same on every tile"
    inspector.select((2, 2))
    assert inspector.state.shown is not None and not inspector.state.explaining
    np.testing.assert_array_equal(inspector.state.shown.values, first.values)


def test_each_layer_has_a_scale_of_its_own_and_other_methods_have_no_layer(
    inspector: Inspector,
) -> None:
    inspector.show_tab(Tab.SALIENCY)
    inspector.select((2, 2))
    assert inspector.wait(WAIT_S)
    last = inspector.state.shown
    inspector.wish(layer=inspector.state.layers[0])
    assert inspector.wait(WAIT_S)
    finest = inspector.state.shown
    assert last is not None and finest is not None, inspector.state.problem
    assert finest.saliency.layer == inspector.state.layers[0] != last.saliency.layer
    assert finest.limit != last.limit
    inspector.wish(method="gradient")
    assert inspector.state.wish.layer is None
    assert inspector.wait(WAIT_S)
    assert inspector.state.shown is not None and inspector.state.problem == ""


def test_a_box_is_one_layer_on_the_slide(bridge: Bridge, inspector: Inspector) -> None:
    viewer = bridge.viewer
    assert viewer is not None
    inspector.wish(method="gradient", target=Target.uncertainty())
    assert inspector.select_box((64.0, 64.0, 128.0, 128.0))
    inspector.explain()
    assert inspector.wait(WAIT_S)
    shown = inspector.state.shown
    assert shown is not None and len(shown.cells) == 4 and shown.values.shape == (64, 64)
    before = set(viewer.layers.selection)
    show_saliency(viewer, shown, None)
    layer = saliency_layer(viewer)
    assert layer is not None and layer.name == "saliency: Gradient of uncertainty"
    assert set(viewer.layers.selection) == before
    assert tuple(layer.contrast_limits) == pytest.approx((0.0, shown.limit))
    # The tiles cover 32 to 96 µm; the centres of their outermost pixels of 1 µm lie 0.5 µm inside,
    # and the slide's own first pixel of 0.5 µm has its centre, not its edge, at 0.
    np.testing.assert_allclose(layer.extent.world, [[32.25, 32.25], [95.25, 95.25]])
    zero = layer.colormap.map(np.array([0.0, np.nan]))
    assert zero[0, 3] == 0 and zero[1, 3] == 0, "nothing is seen where there is nothing"
    inspector.wish(method="integrated_gradients")
    inspector.select((1, 1))
    inspector.explain()
    assert inspector.wait(WAIT_S)
    signed = inspector.state.shown
    assert signed is not None and limits_of(signed) == (-signed.limit, signed.limit)
    show_saliency(viewer, signed, None)
    assert saliency_layer(viewer) is layer, "one layer, replaced"
    assert layer.metadata[SALIENCY_KEY] is signed
    middle = layer.colormap.map(np.array([0.5]))
    assert middle[0, 3] < 0.01
    show_saliency(viewer, None, None)
    assert not layer.visible


def test_quick_choices_cancel_each_other_and_the_last_is_shown(inspector: Inspector) -> None:
    inspector.show_tab(Tab.SALIENCY)
    seen: list[Any] = []
    inspector.changed.connect(lambda new, old: seen.append(new.shown))
    for i in range(10):
        inspector.select((i, i))
        inspector.poll()
    assert inspector.wait(WAIT_S)
    state = inspector.state
    assert state.cell == (9, 9) and state.shown is not None and state.shown.cells == ((9, 9),)
    assert state.look is not None and state.look.cell == (9, 9) and not state.looking
    assert {s.cells for s in seen if s is not None} <= {((i, i),) for i in range(10)}
    assert all(s is None or s.cells == ((9, 9),) for s in seen[-1:])


@pytest.mark.parametrize("method", ["rise", "occlusion", "perturbation"])
@pytest.mark.parametrize("target", [None, Target.of_head(1, 2)], ids=["class", "head"])
def test_slow_maps_tell_how_far_they_are_and_stop(
    inspector: Inspector, method: str, target: Target | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Task.tell

    def tell_and_rest(task: Task[Any], share: float | None, stage: str = "") -> None:
        """However fast the machine, the map is not finished before it is cancelled."""
        tell(task, share, stage)
        until = time.monotonic() + WAIT_S
        while share and not task.cancelled:
            assert time.monotonic() < until, "nobody cancelled it"
            time.sleep(0.002)

    monkeypatch.setattr(Task, "tell", tell_and_rest)
    inspector.show_tab(Tab.SALIENCY)
    inspector.wish(method=method, target=target)
    assert inspector.state.wish.target == target
    inspector.select((2, 2))
    assert not inspector.state.explaining, "slow methods wait to be asked"
    assert inspector.explain()
    deadline = time.monotonic() + WAIT_S
    while not inspector.state.share and time.monotonic() < deadline:
        inspector.poll()
        time.sleep(0.002)
    assert inspector.state.share is not None and 0 < inspector.state.share <= 1
    inspector.cancel()
    assert not inspector.state.explaining and inspector.wait(WAIT_S)
    assert inspector.state.shown is None and inspector.state.problem == ""


def test_the_map_is_tested_against_random_weights_and_by_deletion(inspector: Inspector) -> None:
    assert not inspector.randomise(), "there is no map yet"
    inspector.wish(method="gradient")
    inspector.select((2, 2))
    inspector.explain()
    assert inspector.wait(WAIT_S)
    shown = inspector.state.shown
    assert shown is not None
    assert inspector.randomise() and inspector.wait(WAIT_S)
    found = inspector.state.randomised
    assert found is not None and "on what the model learned" in found.words
    np.testing.assert_allclose(found.original, shown.saliency.values[0], rtol=1e-4, atol=1e-7)
    assert not np.allclose(found.randomised, found.original)
    assert inspector.test() and inspector.wait(WAIT_S)
    tested = inspector.state.tested
    assert tested is not None and inspector.state.randomised is found
    curves = tested.curves
    assert curves.fractions[0] == 0 and curves.fractions[-1] == 1
    # Nothing deleted is the tile; all inserted is the tile as well.
    assert curves.deletion[0] == pytest.approx(curves.insertion[-1], abs=1e-4)
    inspector.select((3, 3))
    assert inspector.state.randomised is None and inspector.state.tested is None


def test_choices_are_those_that_the_method_explains(tiny_bundle: Bundle) -> None:
    card = tiny_bundle.card
    for method in METHODS.values():
        choices = target_choices(card, method)
        for words, target in choices:
            assert words
            kind = "class" if target is None else target.kind
            assert kind in method.targets
        if "head" in method.targets:
            assert sum(t is not None and t.kind == "head" for _, t in choices) == 9
    assert set(CAMS) <= set(METHODS)


def test_closing_and_opening_again_shows_the_same(bridge: Bridge, inspector: Inspector) -> None:
    inspector.select((4, 4))
    assert inspector.wait(WAIT_S)
    look = inspector.state.look
    inspector.stop()
    inspector.follow(bridge.session.state)
    assert inspector_of(bridge).state.look is look and inspector.state.cell == (4, 4)


def test_a_run_that_was_left_half_looked_at_is_looked_at_when_opened_again(
    bridge: Bridge, inspector: Inspector
) -> None:
    inspector.select((4, 4))
    inspector.stop()
    assert inspector.state.look is not None and not inspector.state.looking
    inspector.follow(bridge.session.state)
    inspector.resume()
    assert inspector.wait(WAIT_S)
    assert inspector.state.look.heads.value is not None


def test_shipped_bundles_answer_too() -> None:
    card = load_bundle("synthetic-he").card
    words = [w for w, _ in target_choices(card, METHODS["gradient"])]
    assert words[0] == "predicted class" and "uncertainty" in words and "OOD score" in words
