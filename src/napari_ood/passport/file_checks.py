"""Checks of what the file says: scale, scanner, objective, colour profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood.errors import SlideError
from napari_ood.inference.plan import SHARP_ENOUGH, check_mpp
from napari_ood.passport.check import Check, Light
from napari_ood.slides.resample import STEP_TOLERANCE

if TYPE_CHECKING:
    from napari_ood.models import Card
    from napari_ood.passport.facts import SlideFacts

MPP_TIMES_OBJECTIVE = 10.0
"""µm per px times magnification of usual scanners: 0.5 at 20×, 0.25 at 40×."""
PLAUSIBLE = 1.6
"""Factor from it that cameras and adapters account for; beyond it the two contradict each other."""
SQUARE = 1.02
"""Pixels whose sides differ more than this are unusual."""


def check_scale(facts: SlideFacts, card: Card | None) -> Check:
    """Compare µm per px with the bundle's."""
    key, title = "mpp", "Scale"
    if card is not None and card.mpp is None:
        return Check(
            key, title, Light.GREEN, "not needed", "The bundle sees images without a fixed scale."
        )
    if facts.mpp is None:
        light = Light.GREY if card is None else Light.RED
        need = "" if card is None else f" The bundle needs {card.mpp:g} µm/px."
        words = f"The file does not say its µm per pixel.{need} State it when opening the slide."
        return Check(key, title, light, "not known", words)
    y, x = facts.mpp
    value = f"{x:.4g} µm/px" if max(y / x, x / y) < SQUARE else f"{x:.4g} × {y:.4g} µm/px"
    numbers = {"mpp_y": y, "mpp_x": x}
    if card is None or card.mpp is None:
        return Check(key, title, Light.GREY, value, "Choose a bundle to compare it with.", numbers)
    numbers |= {"bundle_mpp": card.mpp, "ratio": max(facts.mpp) / card.mpp}
    try:
        warning = check_mpp(facts.mpp, card, "the slide")
    except SlideError as error:
        return Check(key, title, Light.RED, value, _sentence(str(error)), numbers)
    if warning is not None:
        coarse = max(facts.mpp) > card.mpp * SHARP_ENOUGH
        light = Light.RED if coarse else Light.YELLOW
        return Check(key, title, light, value, _sentence(warning), numbers)
    same = abs(max(facts.mpp) / card.mpp - 1) <= STEP_TOLERANCE
    how = "the bundle's own" if same else f"finer than the bundle's {card.mpp:g}; it is scaled down"
    return Check(key, title, Light.GREEN, value, f"The scale is {how}.", numbers)


def check_scanner(facts: SlideFacts, card: Card | None) -> Check:
    """Say who made the scanner, and whether the card names it."""
    key, title = "scanner", "Scanner"
    if facts.scanner is None:
        words = "The file does not name the scanner. See the stain for what it looks like."
        return Check(key, title, Light.GREY, "not known", words)
    if card is not None:
        told = f"{card.training_data} {card.description} {' '.join(card.limitations)}".lower()
        if facts.scanner.split()[0].lower() in told:
            words = "The bundle's card names this maker among its training data."
            return Check(key, title, Light.GREEN, facts.scanner, words)
    words = "The bundle's card does not say whether it has seen this scanner; see the stain."
    if card is None:
        words = "Choose a bundle to compare it with."
    return Check(key, title, Light.GREY, facts.scanner, words)


def check_objective(facts: SlideFacts) -> Check:
    """Whether magnification and µm per px can both be true."""
    key, title = "objective", "Objective"
    if facts.objective is None:
        return Check(key, title, Light.GREY, "not known", "The file does not name the objective.")
    value = f"{facts.objective:g}×"
    if facts.mpp is None:
        usual = MPP_TIMES_OBJECTIVE / facts.objective
        words = f"Scanners give about {usual:.2g} µm/px with it; the file does not say."
        return Check(key, title, Light.GREY, value, words)
    ratio = facts.objective * max(facts.mpp) / MPP_TIMES_OBJECTIVE
    numbers = {"objective": facts.objective, "ratio_to_usual": ratio}
    if 1 / PLAUSIBLE <= ratio <= PLAUSIBLE:
        return Check(key, title, Light.GREEN, value, "It agrees with the scale.", numbers)
    words = (
        f"With {value} one expects about {MPP_TIMES_OBJECTIVE / facts.objective:.2g} µm/px, the "
        f"file says {max(facts.mpp):.3g}: one of the two is wrong. Measure something of known size."
    )
    return Check(key, title, Light.YELLOW, value, words, numbers)


def check_profile(facts: SlideFacts) -> Check:
    """Which colour profile the file has. It is never applied, in training neither."""
    key, title = "icc", "Colour profile"
    if facts.icc is None:
        return Check(key, title, Light.GREY, "not known", "The format does not tell.")
    if not facts.icc:
        words = "The file has none: its colours are the scanner's own. See the stain."
        return Check(key, title, Light.GREY, "none", words)
    if "srgb" in facts.icc.lower():
        return Check(key, title, Light.GREEN, facts.icc, "Colours are standard ones.")
    words = "It is not applied: the model sees colours as stored. See the stain."
    return Check(key, title, Light.GREY, facts.icc, words)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
