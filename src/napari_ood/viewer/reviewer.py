"""Who reviews: a name that is remembered from one session to the next. No Qt, no napari."""

from __future__ import annotations

import getpass
from pathlib import Path

from platformdirs import user_config_path

from napari_ood.errors import ReviewError

FILE = "reviewer.txt"
UNKNOWN = "reviewer"
"""Name where the system does not know who is logged in, as in some containers."""


def config_folder() -> Path:
    """The user's folder for settings of this program."""
    return user_config_path("napari-ood", appauthor=False)


def remembered_reviewer() -> str:
    """The name that was entered last; else the login name."""
    try:
        name = (config_folder() / FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return name or _login_name()


def remember_reviewer(name: str) -> None:
    """Keep the name for the next session.

    Raises
    ------
    ReviewError
        If it cannot be written; it then holds for this session only.
    """
    path = config_folder() / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name.strip()}\n", encoding="utf-8")
    except OSError as error:
        raise ReviewError(
            f"{path} cannot be written ({error.strerror or error}): your name holds until the "
            "window is closed; make that folder writable to have it remembered"
        ) from error


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        return UNKNOWN
