from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.errors import BundleError
from napari_ood.models import Bundle, Card, read_card

Edit = Callable[[dict[str, Any]], object]

BAD: dict[str, tuple[Edit, str]] = {
    "no object of ours": (lambda c: c.pop("napari_ood"), "not a napari-ood bundle"),
    "newer version": (lambda c: c["napari_ood"].update(format_version=7), r"version 7.*reads .*1"),
    "no classes": (lambda c: c.update(class_names=[]), "class_names"),
    "class count": (lambda c: c.update(num_classes=4), "differ in number"),
    "huge tile": (lambda c: c.update(patch_size_pixels=10**9), "patch_size_pixels"),
    "negative mpp": (lambda c: c.update(spacing_um_px=-1), "spacing_um_px"),
    "mpp as text": (lambda c: c.update(spacing_um_px="1.0"), "spacing_um_px"),
    "huge heads": (lambda c: c["napari_ood"].update(n_heads=10**12), "n_heads"),
    "heads beyond memory": (
        lambda c: c["napari_ood"].update(n_heads=256, head_depth=8, head_width=8192),
        "memory",
    ),
    "true is no number": (lambda c: c["napari_ood"].update(n_heads=True), "n_heads"),
    "code as architecture": (lambda c: c.update(architecture="os.system('x')"), "architecture"),
    "hub as architecture": (lambda c: c.update(architecture="hf-hub:a/b"), "architecture"),
    "zero std": (
        lambda c: c["transform"][2]["arguments"].update(std=[0, 1, 1]),
        "positive 'std'",
    ),
    "two sizes": (lambda c: c["transform"][0]["arguments"].update(size=[224, 96]), "Resize"),
    "huge size": (lambda c: c["transform"][0]["arguments"].update(size=1 << 20), "Resize"),
    "unknown transform": (lambda c: c["transform"].append({"name": "Exec"}), "transform"),
    "gap in columns": (lambda c: c["napari_ood"]["blocks"][1].update(start=65), "gap"),
    "unknown score": (lambda c: c["napari_ood"]["scores"].update(ood="magic"), "unknown score"),
    "score of no block": (
        lambda c: c["napari_ood"]["scores"].update(ood="mahalanobis@nowhere"),
        "not stored",
    ),
    "max of a block that is not stored": (
        lambda c: c["napari_ood"]["scores"].update(tissue="max(entropy,max(msp,knn@nowhere))"),
        "not stored",
    ),
    "half a max": (
        lambda c: c["napari_ood"]["scores"].update(appearance="max(entropy)"),
        "appearance score.*two scores",
    ),
    "code as score": (
        lambda c: c["napari_ood"]["scores"].update(ood="max(entropy,__import__('os'))"),
        r"scores\.ood",
    ),
    "unknown field": (lambda c: c["napari_ood"].update(field="cell"), "field"),
    "whole images with a scale": (
        lambda c: c["napari_ood"].update(field="image"),
        "spacing_um_px must be null",
    ),
    "unknown kind of score": (
        lambda c: c["napari_ood"]["scores"].update(mood="entropy"),
        "mood",
    ),
    "no weights": (lambda c: c["napari_ood"]["files"].pop("model.safetensors"), "model"),
    "short hash": (
        lambda c: c["napari_ood"]["files"]["model.safetensors"].update(sha256="00"),
        "sha256",
    ),
}


@pytest.fixture
def config(tiny_bundle: Bundle) -> dict[str, Any]:
    return copy.deepcopy(tiny_bundle.card.to_config())


@pytest.mark.parametrize("case", BAD)
def test_a_bad_card_is_refused_in_one_line(config: dict[str, Any], case: str):
    edit, message = BAD[case]
    edit(config)
    with pytest.raises(BundleError, match=message) as caught:
        Card.from_config(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/b.safetensors", "..", "C:\\x.bin", "x\n.bin"]
)
def test_file_names_cannot_leave_the_folder(config: dict[str, Any], name: str):
    config["napari_ood"]["files"][name] = {"sha256": "0" * 64, "size": 1}
    with pytest.raises(BundleError, match="files"):
        Card.from_config(config)


def test_a_card_may_tell_two_kinds_of_foreign_apart(config: dict[str, Any]):
    block = config["napari_ood"]["blocks"][0]["name"]
    scores = {
        "uncertainty": "entropy",
        "ood": f"max(mahalanobis@{block},invariant@{block})",
        "appearance": f"mahalanobis@{block}",
        "tissue": f"invariant@{block}",
    }
    config["napari_ood"]["scores"] = scores
    card = Card.from_config(config)
    assert card.scores == scores and not card.warnings
    assert card.to_config()["napari_ood"]["scores"] == scores


def test_unknown_keys_are_reported_and_ignored(config: dict[str, Any]):
    config["from_the_future"] = 1
    config["napari_ood"]["colour_of_the_box"] = "red"
    card = Card.from_config(config)
    assert len(card.warnings) == 2
    assert "from_the_future" in card.warnings[0]
    assert "napari_ood.colour_of_the_box" in card.warnings[1]


def test_a_bundle_without_physical_scale_has_no_mpp(config: dict[str, Any]):
    config["spacing_um_px"] = None
    assert Card.from_config(config).mpp is None


def test_a_bundle_says_whether_it_judges_whole_images(config: dict[str, Any]):
    assert not Card.from_config(config).whole_image
    del config["napari_ood"]["field"]  # a card that older versions wrote
    assert Card.from_config(config).field == "tile"
    config["napari_ood"]["field"] = "image"
    config["spacing_um_px"] = None
    card = Card.from_config(config)
    assert card.whole_image
    assert Card.from_config(card.to_config()).whole_image


@pytest.mark.parametrize("text", ["{", "[]", "null", "NaN", '{"napari_ood": []}', "[" * 100_000])
def test_text_that_is_no_card_is_refused(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BundleError):
        read_card(tmp_path)


def test_infinite_numbers_are_refused(config: dict[str, Any], tmp_path: Path):
    config["napari_ood"]["temperature"] = 5.0
    text = json.dumps(config)
    for number in ("1e999", "Infinity", "NaN"):
        (tmp_path / "config.json").write_text(text.replace(": 5.0", f": {number}"))
        with pytest.raises(BundleError):
            read_card(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else []
    if isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_gives_a_card_or_a_bundle_error(tiny_bundle: Bundle, data: Any):
    config = copy.deepcopy(tiny_bundle.card.to_config())
    *way, last = data.draw(st.sampled_from(paths(config)))
    target: Any = config
    for key in way:
        target = target[key]
    target[last] = data.draw(JSON)
    try:
        card = Card.from_config(config)
    except BundleError:
        return
    assert Card.from_config(card.to_config()).classes == card.classes
