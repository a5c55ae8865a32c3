"""A wish for a saliency map, made into what a thread can work out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari_ood.viewer.inspector_work import NO_BUNDLE, NO_SLIDE, Explained, Subject, explain
from napari_ood.viewer.saliency_choices import CAMS, kind_of

if TYPE_CHECKING:
    from napari_ood.explain.explainer import Explainer
    from napari_ood.explain.methods import Method
    from napari_ood.explain.target import Target
    from napari_ood.viewer.inspector_state import Inspected, Wish
    from napari_ood.viewer.why import Why

MOST_SLOW_TILES = 4
"""Tiles that are explained at once with a slow method."""


class Requests:
    """Says what of a wish is possible, and holds the network that answers.

    Parameters
    ----------
    why : Why
    """

    def __init__(self, why: Why) -> None:
        self._why = why
        self._explainer: tuple[tuple[object, ...], Explainer] | None = None

    def methods(self) -> dict[str, Method]:
        """Saliency methods by name."""
        return dict(self._why.methods())

    def possible(self, wish: Wish) -> Wish:
        """Without a layer that the method does not read, or a target that it does not explain."""
        explained = kind_of(wish.target) in self.methods()[wish.method].targets
        return replace(
            wish,
            target=wish.target if explained else None,
            layer=wish.layer if wish.method in CAMS else None,
        )

    def why_not(self, state: Inspected, subject: Subject) -> str:
        """Why the map cannot be made, in words; empty where it can."""
        method = self.methods()[state.wish.method]
        if subject.maps.bundle is None:
            return NO_BUNDLE
        if subject.slide is None:
            return NO_SLIDE
        if method.slow and len(state.cells) > MOST_SLOW_TILES:
            return (
                f"{method.title} is slow: it explains at most {MOST_SLOW_TILES} tiles at once, and "
                f"{len(state.cells)} are chosen. Click one tile, or choose a fast method."
            )
        return ""

    def target_of(self, state: Inspected) -> Target:
        """What is explained: the target that was chosen, or the class that is predicted."""
        from napari_ood.explain.target import Target

        assert state.maps is not None and state.cell is not None
        predicted = int(state.maps.prediction[state.cell]) - 1
        return state.wish.target or Target.of_class(predicted)

    def work(
        self, state: Inspected, subject: Subject, device: str, limit: float | None
    ) -> partial[Explained]:
        """What a thread is to do; ``limit`` is the end of the colour scale where it is known."""
        assert subject.maps.bundle is not None
        target = self.target_of(state)
        method = self.methods()[state.wish.method]
        title = f"{method.title} of {target.words(subject.maps.bundle.card)}"
        explainer = self.explainer(subject, device, state.temperature)
        return partial(explain, subject, state.cells, state.wish, target, title, explainer, limit)

    def explainer(self, subject: Subject, device: str, temperature: float | None) -> Explainer:
        """The network of a run's bundle; the last one that was asked for is kept."""
        assert subject.maps.bundle is not None
        wanted = (subject.maps.bundle, device, temperature)
        if self._explainer is None or self._explainer[0] != wanted:
            self._explainer = wanted, self._why.explainer(*wanted)
        return self._explainer[1]

    def free(self) -> None:
        """Let the network go."""
        self._explainer = None
