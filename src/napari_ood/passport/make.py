"""Make the passport of a slide, before or after a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_ood.errors import BundleError, RunError
from napari_ood.passport.check import Check, Light, Passport
from napari_ood.passport.facts import facts_of
from napari_ood.passport.file_checks import (
    check_objective,
    check_profile,
    check_scale,
    check_scanner,
)
from napari_ood.passport.look_checks import (
    check_focus,
    check_fold,
    check_pen,
    check_stain,
    check_tissue,
)
from napari_ood.passport.run_checks import check_foreign, check_run
from napari_ood.passport.sample import MOST_SECONDS, sample_tiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_ood.inference import Run
    from napari_ood.models import Bundle, Card
    from napari_ood.slides import Slide

_LOOKS = {
    "tissue": "Tissue",
    "stain": "Stain",
    "focus": "Focus",
    "pen": "Pen marks",
    "fold": "Folds",
}


def make_passport(
    slide: Slide | None,
    bundle: Bundle | None = None,
    run: Run | None = None,
    *,
    seconds: float = MOST_SECONDS,
    cancel: Callable[[], bool] | None = None,
) -> Passport:
    """Say in words and lights whether a slide fits a bundle.

    What tiles look like is measured on a sample of tissue tiles that are read from the slide; it
    takes about ``seconds``, plus the coarsest level for the tissue. It never runs the network.

    Parameters
    ----------
    slide
        None where only a run is at hand: then what needs pixels is grey.
    bundle
        The bundle to compare with; the run's own by default, where it is at hand.
    run
        A finished or unfinished run on this slide, for how much of it is foreign.
    cancel
        Polled while tiles are read; the passport is then of those that were.

    Raises
    ------
    ValueError
        Without slide and without run.
    SlideError
        If the slide cannot be read.
    """
    facts = facts_of(slide, run)
    if bundle is None and run is not None:
        bundle = _own_bundle(run)
    card = bundle.card if bundle is not None else run.card if run is not None else None
    checks = [check_scale(facts, card), check_scanner(facts, card)]
    checks += [check_objective(facts), check_profile(facts)]
    checks += _looks(slide, bundle, card, seconds, cancel)
    if run is not None:
        checks += [check_run(run, slide), *check_foreign(run, bundle)]
    return Passport(facts.name, None if card is None else card.name, tuple(checks))


def _looks(
    slide: Slide | None,
    bundle: Bundle | None,
    card: Card | None,
    seconds: float,
    cancel: Callable[[], bool] | None,
) -> list[Check]:
    if slide is None:
        words = "The slide is not at hand: open it to look at its pixels."
        return [Check(key, title, Light.GREY, "not known", words) for key, title in _LOOKS.items()]
    sample = sample_tiles(slide, bundle, seconds=seconds, cancel=cancel)
    reference = _reference_statistics(bundle)
    checks = [check_tissue(sample), check_stain(sample, reference, card)]
    checks.append(check_focus(sample, reference))
    if sample.whole_image:  # colours of skin, hair and rulers are those of ink
        return checks
    return [*checks, check_pen(sample), check_fold(sample)]


def _reference_statistics(bundle: Bundle | None) -> NDArray[np.float32] | None:
    if bundle is None:
        return None
    try:
        reference = bundle.reference
    except BundleError:  # altered on disk: the run itself will say so
        return None
    return None if reference is None else getattr(reference, "statistics", None)


def _own_bundle(run: Run) -> Bundle | None:
    try:
        return run.bundle()
    except (RunError, BundleError):
        return None
