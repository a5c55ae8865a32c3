"""What a map finer than a tile means, and how far it is, in words. No Qt, no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_ood.viewer.fine_map_work import FineRequest
    from napari_ood.viewer.fine_maps import FineState

STOPPING = "Stopping after this part…"
CLEAR = "Clear: nothing, glass, or not mapped yet."
OWN_MAPS = {
    "heatmap": "Yellow: differs from the nearest tissue that the bundle knows, as its decoder "
    "learned from made-up artefacts. A hundredth of the places of familiar tissue reach the "
    "middle of the scale.",
    "locations": "Yellow: far from every place of the tissue that the bundle knows. A hundredth "
    "of the places of familiar tissue reach the middle of the scale.",
}


def meaning(request: FineRequest, unit: str) -> str:
    """What the colours say, for whom to beware of what."""
    target = request.target
    if target is None:
        return f"{OWN_MAPS[request.kind]} {CLEAR}"
    words = target.words(request.bundle.card)
    what = {
        "class": f"Cyan: speaks for “{words}”, also in tiles where another class is predicted. It "
        "says where the model looks for that class, not how probable the class is.",
        "uncertainty": "Cyan: makes the model less sure of its class. Tiles that it is sure of "
        "have such places as well.",
    }.get(
        target.kind,
        f"Cyan: raises the {words}, also in tiles below its threshold. It says what makes a tile "
        "foreign, not how foreign it is.",
    )
    return (
        f"{what} {CLEAR} One scale for the slide, in {unit}: a hundredth of the values in sample "
        "tiles lie beyond its end."
    )


def progress_words(state: FineState) -> str:
    """How far the map is; empty when there is none."""
    if state.stopping:
        return STOPPING
    if state.running and not state.n_tiles:
        return state.stage
    if state.made is None or state.made.mosaic is None:
        return ""
    done = f"{state.n_done:,} of {state.n_tiles:,} tiles"
    if not state.running:
        return done if state.n_done < state.n_tiles else f"Done: {state.n_tiles:,} tiles"
    left = state.seconds_left
    return done if left is None else f"{done} · {duration(left)} left"


def duration(seconds: float) -> str:
    """Seconds as ``7 s``, ``12 min`` or ``1 h 2 min``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
