"""What a passport is made of: checks with a light, a value, and words that say what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Number = float | str


class Light(StrEnum):
    """Traffic light of a check; grey: not known, which is neither good nor bad."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    GREY = "grey"

    @property
    def words(self) -> str:
        """The light without its colour, for readers who don't see it and for print."""
        return _WORDS[self]


_WORDS = {
    Light.GREEN: "fits",
    Light.YELLOW: "look at it",
    Light.RED: "does not fit",
    Light.GREY: "not known",
}


def percent(share: float, decimals: int = 0) -> str:
    """A share as people write it: ``12 %``."""
    return f"{100 * share:.{decimals}f} %"


_WORST_FIRST = (Light.RED, Light.YELLOW, Light.GREEN)


@dataclass(frozen=True)
class Check:
    """One line of a passport.

    Attributes
    ----------
    key : stable name, e.g. ``mpp``
    title : its name for people
    light : Light
    value : what was found, short: ``0.499 µm/px``
    words : what it means and what to do, one or two sentences
    numbers : what the light was decided by, and what was measured besides
    """

    key: str
    title: str
    light: Light
    value: str
    words: str
    numbers: Mapping[str, Number] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "key": self.key,
            "title": self.title,
            "light": str(self.light),
            "value": self.value,
            "words": self.words,
            "numbers": dict(self.numbers),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Check:
        """Inverse of `as_dict`."""
        return cls(**{**data, "light": Light(data["light"])})


@dataclass(frozen=True)
class Passport:
    """What is known about a slide before the model's answers are believed.

    Attributes
    ----------
    slide : name of the slide
    bundle : name of the bundle that it is compared with, or None
    checks : in the order in which they are read
    """

    slide: str
    bundle: str | None
    checks: tuple[Check, ...]

    def check(self, key: str) -> Check | None:
        """Return the check of that key, None where the passport has none."""
        return next((check for check in self.checks if check.key == key), None)

    def light(self, overridden: Collection[str] = ()) -> Light:
        """Return the worst light of the checks that nobody overrode; grey when none is known.

        Parameters
        ----------
        overridden : keys of checks that a reviewer judged acceptable; see `PassportOverrides`
        """
        lights = {check.light for check in self.checks if check.key not in overridden}
        known = [light for light in _WORST_FIRST if light in lights]
        if known:
            return known[0]
        return Light.GREEN if overridden else Light.GREY

    def words(self, overridden: Collection[str] = ()) -> str:
        """One line that sums the passport up."""
        told = [c.title.lower() for c in self._of(self.light(overridden), overridden)]
        match self.light(overridden):
            case Light.RED:
                return f"Does not fit: {_listed(told)}. Do not trust predictions before it is clear"
            case Light.YELLOW:
                return f"Look at: {_listed(told)}"
            case Light.GREEN:
                unknown = [c.title.lower() for c in self.checks if c.light is Light.GREY]
                rest = f"; not known: {_listed(unknown)}" if unknown else ""
                return f"Nothing was found that speaks against it{rest}"
        return "Nothing is known"

    def _of(self, light: Light, overridden: Collection[str]) -> list[Check]:
        return [c for c in self.checks if c.light is light and c.key not in overridden]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        checks = [check.as_dict() for check in self.checks]
        return {"slide": self.slide, "bundle": self.bundle, "checks": checks}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Passport:
        """Inverse of `as_dict`."""
        checks = tuple(Check.from_dict(check) for check in data["checks"])
        return cls(data["slide"], data["bundle"], checks)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
