"""Overrides: a reviewer judged that a check may be passed over, and said why."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from napari_ood.errors import ReviewError
from napari_ood.passport.check import Light, Passport

FILE = "passport.json"
FORMAT_VERSION = 1
WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class PassportOverride:
    """One decision about one check.

    Attributes
    ----------
    key : of the check
    reason : in the reviewer's words
    reviewer : name
    time : ISO 8601, UTC
    light, value : what the check said then; an override of a yellow light does not cover a red one
    withdrawn : it takes the earlier override of this check back
    """

    key: str
    reason: str
    reviewer: str
    time: str
    light: str
    value: str
    withdrawn: bool = False


class PassportOverrides:
    """Overrides of a run, in ``passport.json`` of its review folder.

    Every decision is kept, also those that were withdrawn. The file is replaced at once, so a
    crash leaves the old or the new one.

    Parameters
    ----------
    folder : Path
        The review folder; made when the first override is recorded.

    Raises
    ------
    ReviewError
        From any method, if the file is damaged or cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / FILE

    def history(self) -> tuple[PassportOverride, ...]:
        """Every decision, the oldest first."""
        try:
            data = json.loads(self.path.read_text("utf-8"))
            if data["format_version"] > FORMAT_VERSION:
                raise ReviewError(f"{self.path} was written by a newer napari-ood: update it")
            return tuple(PassportOverride(**entry) for entry in data["overrides"])
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ReviewError(f"cannot read {self.path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ReviewError(
                f"{self.path} is damaged: repair it, or move it away to start anew"
            ) from error

    def latest(self) -> dict[str, PassportOverride]:
        """The override in force per check's key, without those that were withdrawn."""
        last = {override.key: override for override in self.history()}
        return {key: override for key, override in last.items() if not override.withdrawn}

    def in_force(self, passport: Passport) -> dict[str, PassportOverride]:
        """Overrides that still hold: the check's light is the one that was judged, or better."""
        return {
            key: override
            for key, override in self.latest().items()
            if (check := passport.check(key)) is not None
            and _SEVERITY[check.light] <= _SEVERITY[Light(override.light)]
        }

    def add(self, passport: Passport, key: str, reason: str, reviewer: str) -> PassportOverride:
        """Record that a reviewer passes over a check; ReviewError without a reason or reviewer."""
        check = passport.check(key)
        if check is None:
            raise ReviewError(f"the passport has no check {key!r}")
        if not reason.strip() or not reviewer.strip():
            raise ReviewError("an override needs a reason and the reviewer's name")
        override = PassportOverride(
            key, reason.strip(), reviewer.strip(), _now(), str(check.light), check.value
        )
        self._append(override)
        return override

    def withdraw(self, key: str, reviewer: str) -> None:
        """Take the override of a check back; ReviewError if there is none."""
        last = self.latest().get(key)
        if last is None:
            raise ReviewError(f"there is no override of {key!r} to withdraw")
        self._append(
            PassportOverride(key, WITHDRAWN, reviewer, _now(), last.light, last.value, True)
        )

    def _append(self, override: PassportOverride) -> None:
        entries = [asdict(entry) for entry in (*self.history(), override)]
        text = json.dumps(
            {"format_version": FORMAT_VERSION, "overrides": entries}, indent=2, ensure_ascii=False
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self.path, text + "\n")
        except OSError as error:
            raise ReviewError(
                f"cannot save {self.path} ({error.strerror}): make the folder writable"
            ) from error


_SEVERITY: Mapping[Light, int] = {Light.GREEN: 0, Light.GREY: 1, Light.YELLOW: 2, Light.RED: 3}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
