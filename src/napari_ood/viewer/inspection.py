"""The passport of the chosen slide, made in a thread. No Qt, no napari: docks come and go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_ood.errors import OodError
from napari_ood.passport import Passport, PassportOverride, PassportOverrides, make_passport
from napari_ood.review import review_folder
from napari_ood.viewer.state import Phase
from napari_ood.viewer.task import Task

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide
    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.session import Session
    from napari_ood.viewer.state import State


@dataclass(frozen=True)
class Subject:
    """What a passport is about; ``folder`` is where overrides are kept, None where nowhere yet."""

    slide: Slide | None
    bundle: Bundle | None
    run: Run | None
    folder: Path | None

    def same_as(self, other: Subject | None) -> bool:
        """Whether a passport of the other one is a passport of this one."""
        return other is not None and (
            self.slide is other.slide and self.bundle is other.bundle and self.run is other.run
        )


@dataclass(frozen=True)
class Findings:
    """One snapshot: the passport at hand and what was decided about it."""

    subject: Subject | None = None
    passport: Passport | None = None
    overrides: Mapping[str, PassportOverride] = field(default_factory=lambda: MappingProxyType({}))
    busy: bool = False
    error: str = ""


class Inspection:
    """State and commands of the dock *OOD slide passport*; lives as long as its viewer.

    Signals
    -------
    changed(findings) : after every change
    """

    changed = Signal(object)

    def __init__(self) -> None:
        self.findings = Findings()
        self._task: Task[Passport] | None = None

    def _update(self, **changes: Any) -> None:
        self.findings = replace(self.findings, **changes)
        self.changed.emit(self.findings)

    def look_at(self, subject: Subject | None, again: bool = False) -> None:
        """Make the passport of a subject, unless it is at hand; None forgets the one that is."""
        known = subject is not None and subject.same_as(self.findings.subject)
        if known and not again:
            before = self.findings.subject
            if subject is not None and before is not None and subject.folder != before.folder:
                self._update(subject=subject, **self._overrides(subject, self.findings.passport))
            return
        if self._task is not None:
            self._task.cancel()  # its outcome is dropped: it is not this inspection's any more
        self._task = None if subject is None else Task(lambda task: _make(subject, task))
        self._update(
            subject=subject, passport=None, overrides={}, busy=subject is not None, error=""
        )

    def poll(self) -> bool:
        """Take over what the thread has done; whether it is still working."""
        task = self._task
        if task is None or task.alive:
            return task is not None
        self._task = None
        kept = self._overrides(self.findings.subject, task.result)
        self._update(**{"busy": False, "passport": task.result, **kept, **_error(task.error)})
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the thread has ended; whether it has. For scripts and tests."""
        return self._task is None or self._task.wait(timeout)

    def override(self, key: str, reason: str, reviewer: str) -> bool:
        """Record that a check may be passed over, and why; whether that was saved."""
        f = self.findings
        if f.passport is None or f.subject is None or f.subject.folder is None:
            return False
        passport, store = f.passport, PassportOverrides(f.subject.folder)
        return self._save(lambda: store.add(passport, key, reason, reviewer))

    def withdraw(self, key: str, reviewer: str) -> bool:
        """Take an override back; whether that was saved."""
        f = self.findings
        if f.subject is None or f.subject.folder is None:
            return False
        store = PassportOverrides(f.subject.folder)
        return self._save(lambda: store.withdraw(key, reviewer))

    def _save(self, change: Any) -> bool:
        try:
            change()
        except OodError as error:
            self._update(error=str(error))
            return False
        f = self.findings
        self._update(**{"error": "", **self._overrides(f.subject, f.passport)})
        return True

    def _overrides(self, subject: Subject | None, passport: Passport | None) -> dict[str, Any]:
        if subject is None or subject.folder is None or passport is None:
            return {"overrides": {}}
        try:
            return {"overrides": PassportOverrides(subject.folder).in_force(passport)}
        except OodError as error:
            return {"overrides": {}, "error": str(error)}


def _error(text: str | None) -> dict[str, str]:
    return {"error": text} if text else {}


def _make(subject: Subject, task: Task[Passport]) -> Passport:
    return make_passport(subject.slide, subject.bundle, subject.run, cancel=lambda: task.cancelled)


def subject_of(session: Session) -> Subject | None:
    """What the passport is about now; None without a slide and without a run.

    A run counts once it has ended, and as long as its bundle is the chosen one: with another bundle
    the question is whether that one would fit.
    """
    state = session.state
    run = _run_of(session, state)
    if run is not None and _other_bundle(state, run):
        run = None
    if state.slide is None and run is None:
        return None
    bundle = state.bundle if run is None else None
    return Subject(state.slide, bundle, run, _folder(state, run))


def _run_of(session: Session, state: State) -> Run | None:
    if state.phase is not Phase.IDLE:
        return None
    scored = session.scored(state.maps)
    return None if scored is None else scored.run


def _other_bundle(state: State, run: Run) -> bool:
    chosen = state.bundle
    return chosen is not None and chosen.hashes != run.provenance["bundle"]["hashes"]


def _folder(state: State, run: Run | None) -> Path | None:
    """The review folder of the run, or of the one that would be made next."""
    if run is not None:
        return review_folder(run.path)
    return review_folder(state.output.path) if state.output is not None else None


_INSPECTIONS: WeakKeyDictionary[Bridge, Inspection] = WeakKeyDictionary()


def inspection_of(bridge: Bridge) -> Inspection:
    """The inspection of a viewer, made on first use; it lives as long as the viewer."""
    return _INSPECTIONS.setdefault(bridge, Inspection())
