"""What ``napari_ood.explain`` answers, imported when it is first asked. No Qt, no napari.

Everything here is called in a thread: it reads files, and saliency loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.viewer.inspector_state import Neighbours

if TYPE_CHECKING:
    from napari_ood.explain.causes import Cause
    from napari_ood.explain.explainer import Explainer
    from napari_ood.explain.heads import HeadsAtTile
    from napari_ood.explain.methods import Method
    from napari_ood.explain.sanity import Curves, Sanity
    from napari_ood.explain.target import Target
    from napari_ood.models import Bundle

RGB = NDArray[np.uint8]
Floats = NDArray[np.float32]
OnProgress = Callable[[float], None]
Cancel = Callable[[], bool]

N_PROTOTYPES = 8
N_STEPS = 24
"""Points of the deletion and insertion curves."""


class Why:
    """The questions that the inspector puts; a test may answer them itself."""

    def methods(self) -> Mapping[str, Method]:
        """Saliency methods by name."""
        from napari_ood.explain.methods import METHODS

        return METHODS

    def heads(self, logits: Floats, temperature: float) -> HeadsAtTile:
        """What each head says of a tile; ``logits`` [M, C]."""
        from napari_ood.explain.heads import look_at_heads

        return look_at_heads(logits, temperature)

    def prototypes(self, bundle: Bundle, features: Floats) -> Neighbours:
        """The reference tiles that are most like a tile; ``features`` [D]."""
        from napari_ood.explain.prototypes import prototypes_of

        known = prototypes_of(bundle)
        return Neighbours(known.space, known.nearest(features, N_PROTOTYPES))

    def cause(
        self, bundle: Bundle, tile: RGB, logits: Floats | None, features: Floats | None
    ) -> Cause:
        """Why a tile [t, t, 3] may be foreign; logits [M, C], features [D] where they are known."""
        from napari_ood.explain.causes import cause_at

        if logits is None or features is None:  # a run for prediction only has no features
            return cause_at(bundle, tile)
        return cause_at(bundle, tile, logits[None], features[None])

    def explainer(self, bundle: Bundle, device: str, temperature: float | None) -> Explainer:
        """What makes saliency maps; loads nothing yet."""
        from napari_ood.explain.explainer import Explainer

        return Explainer(bundle, device, temperature)

    def randomise(
        self,
        explainer: Explainer,
        tile: RGB,
        method: str,
        target: Target,
        layer: str | None,
        on_progress: OnProgress,
        cancel: Cancel,
    ) -> Sanity:
        """The map of a tile [t, t, 3], and the one that random weights give."""
        from napari_ood.explain.sanity import randomisation_check

        return randomisation_check(
            explainer, tile[None], method, target,
            layer=layer, on_progress=on_progress, cancel=cancel,
        )  # fmt: skip

    def curves(
        self,
        explainer: Explainer,
        tile: RGB,
        values: Floats,
        target: Target,
        on_progress: OnProgress,
        cancel: Cancel,
    ) -> Curves:
        """How the target changes while the most salient pixels are deleted, or inserted."""
        from napari_ood.explain.sanity import perturbation_curves

        return perturbation_curves(
            explainer, tile, values, target, N_STEPS, on_progress=on_progress, cancel=cancel
        )
