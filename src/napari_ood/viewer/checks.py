"""What to say about a slide and a bundle before a run. No Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ood.errors import SlideError

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

PLAUSIBLE_MPP = (0.05, 20.0)
"""µm per pixel; beyond it a typing error or a wrong unit is likelier than a microscope."""

CHOOSE_ANOTHER = "Choose another precision or device."


@dataclass(frozen=True)
class Check:
    """One sentence for the user; ``blocking`` when the run cannot start."""

    text: str
    blocking: bool = False


def check_run(slide: Slide | None, bundle: Bundle | None, lacks: str = "") -> Check | None:
    """The one thing to know before a run; None when all is well.

    ``lacks`` says what was asked for and the device does not have, as a sentence.
    """
    if slide is None:
        return Check("Open a slide first.", blocking=True)
    if bundle is None:
        return Check("Choose a bundle first.", blocking=True)
    if slide.mpp is None and bundle.card.mpp is not None:
        return Check("Enter the slide's µm per pixel above: the bundle needs it.", blocking=True)
    if lacks:
        return Check(f"{lacks} {CHOOSE_ANOTHER}", blocking=True)
    whole = bundle.card.whole_image
    from napari_ood.inference import check_slide

    try:
        warning = check_slide(slide, bundle.card, "The image" if whole else "The slide")
    except SlideError as error:
        return Check(f"{error}.", blocking=True)
    return Check(f"{warning}.") if warning else None


def parse_mpp(text: str) -> float:
    """µm per pixel from what a user typed.

    Raises
    ------
    ValueError
        With a sentence for the user.
    """
    low, high = PLAUSIBLE_MPP
    try:
        mpp = float(text.strip().replace(",", "."))
    except ValueError:
        raise ValueError(
            "Enter µm per pixel as a number, such as 0.25 (40×) or 0.5 (20×)."
        ) from None
    if not low <= mpp <= high:
        raise ValueError(f"{mpp:g} µm/px is not plausible: slides lie between {low} and {high}.")
    return mpp
