"""An evaluation's scores: what several of them share is computed once, with the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ood import Bundle
from napari_ood.evaluation.outputs import Outputs
from napari_ood.evaluation.scoring import Scorer
from napari_ood.models.reference import Reference
from napari_ood.scores import ScoreSpec

NAMES = ["mahalanobis@layer1", "place", "max(mahalanobis@layer1,residual@penultimate)", "entropy"]


def test_shared_parts_are_computed_once(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = tiny_bundle.require_reference()
    features = np.asarray(reference.validation_features[:50], np.float32)
    logits = np.asarray(reference.validation_logits[:50], np.float32)
    expected = {name: reference.score(name, logits, features) for name in NAMES if name != "place"}
    computed: list[str] = []
    compute = Reference._compute

    def counted(self: Reference, spec: ScoreSpec, *rest: object) -> object:
        computed.append(str(spec))
        return compute(self, spec, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Reference, "_compute", counted)
    pixels = np.arange(50, dtype=np.float32)
    monkeypatch.setattr("napari_ood.evaluation.scoring.PIXEL_SCORES", ("place",))
    found = Scorer(tiny_bundle).scores(NAMES, Outputs(logits, features, {"place": pixels}))
    assert list(found) == NAMES
    assert sorted(computed) == sorted([NAMES[0], "residual@penultimate", NAMES[2], "entropy"])
    for name, scores in expected.items():
        assert found[name].tobytes() == scores.tobytes()
    assert found["place"] is pixels


def test_without_a_reference_there_are_the_scores_of_the_logits(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = tiny_bundle.require_reference()
    logits = np.asarray(reference.validation_logits[:20], np.float32)
    outputs = Outputs(logits, np.zeros((20, 1), np.float32))
    expected = reference.score("msp", logits, None)
    monkeypatch.setattr(Bundle, "reference", None)
    found = Scorer(tiny_bundle).scores(["msp"], outputs)
    assert found["msp"].tobytes() == expected.tobytes()
