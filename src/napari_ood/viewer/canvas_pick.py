"""Clicks and arrow keys on the canvas, while they are bound. No Qt: works on ``ViewerModel``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from napari.utils.key_bindings import coerce_keybinding

if TYPE_CHECKING:
    from napari.components import ViewerModel

CLICK_PX = 4.0
"""The mouse may move so far between press and release of a click; further is a drag."""
STEPS = {"Up": (-1, 0), "Down": (1, 0), "Left": (0, -1), "Right": (0, 1)}
"""Arrow key → rows down, columns right."""


class CanvasPick:
    """Tells of clicked points and arrow keys; leaves them alone while a layer is being edited.

    Parameters
    ----------
    viewer : ViewerModel
    picked : called with the world point (…, y, x) of a click
    stepped : called with rows down and columns right of an arrow key
    """

    def __init__(
        self,
        viewer: ViewerModel,
        picked: Callable[[Any], None],
        stepped: Callable[[int, int], None],
    ) -> None:
        self._viewer = ref(viewer)
        self._picked, self._stepped = picked, stepped
        self._replaced: dict[str, Callable[..., Any] | None] = {}
        self._bound = False

    @property
    def bound(self) -> bool:
        """Whether clicks and keys are listened to."""
        return self._bound

    def bind(self) -> None:
        """Listen. May be called more than once."""
        viewer = self._viewer()
        if viewer is None or self._bound:
            return
        self._bound = True
        viewer.mouse_drag_callbacks.append(self._on_press)
        for key, step in STEPS.items():
            self._replaced[key] = viewer.bind_key(key, self._at_key(key, *step), overwrite=True)

    def unbind(self) -> None:
        """Give clicks and keys back. May be called more than once."""
        viewer = self._viewer()
        if viewer is None or not self._bound:
            return
        self._bound = False
        if self._on_press in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(self._on_press)
        for key, before in self._replaced.items():
            viewer.bind_key(key, before, overwrite=True)
        self._replaced.clear()

    def _on_press(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        start = np.asarray(event.pos, float)
        if event.button != 1 or event.modifiers or is_editing(viewer):
            return
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos, float) - start).max() <= CLICK_PX:
            self._picked(event.position)

    def _at_key(self, key: str, down: int, right: int) -> Callable[[ViewerModel], None]:
        """What a key does; a function, as napari asks bindings for their names."""

        def step_to_tile(viewer: ViewerModel) -> None:
            if viewer.dims.ndim == 2 and not is_editing(viewer):
                self._stepped(down, right)
                return
            before = self._replaced.get(key) or _own_binding(viewer, key)
            if before is not None:
                before(viewer)

        return step_to_tile


def is_editing(viewer: ViewerModel) -> bool:
    """Whether the mouse belongs to the active layer: a shape is drawn, say, or labels painted."""
    mode = getattr(viewer.layers.selection.active, "mode", "pan_zoom")
    return str(mode) != "pan_zoom"


def _own_binding(viewer: ViewerModel, key: str) -> Callable[..., Any] | None:
    """What napari itself does at a key, such as stepping through the slices of a stack."""
    wanted = coerce_keybinding(key)
    for kind in type(viewer).__mro__:
        found: Callable[..., Any] | None = getattr(kind, "class_keymap", {}).get(wanted)
        if found is not None:
            return found
    return None
