from __future__ import annotations

from pathlib import Path

import pytest

from napari_ood.errors import ReviewError
from napari_ood.passport import Check, Light, Passport, PassportOverrides


def passport(stain: Light = Light.YELLOW) -> Passport:
    return Passport(
        "slide",
        "bundle",
        (
            Check("stain", "Stain", stain, "1.4 spreads", "Another stain."),
            Check("mpp", "Scale", Light.GREEN, "0.5", "Fine."),
        ),
    )


def test_an_override_is_kept_and_clears_the_light(tmp_path: Path) -> None:
    folder = tmp_path / "run.review"
    PassportOverrides(folder).add(passport(), "stain", "our own laboratory", "ada")
    held = PassportOverrides(folder).in_force(passport())
    assert [(o.reason, o.reviewer, o.light, o.value) for o in held.values()] == [
        ("our own laboratory", "ada", "yellow", "1.4 spreads")
    ]
    assert passport().light() is Light.YELLOW and passport().light(held) is Light.GREEN
    assert [p.name for p in folder.iterdir()] == ["passport.json"]


def test_an_override_does_not_cover_what_became_worse(tmp_path: Path) -> None:
    overrides = PassportOverrides(tmp_path)
    overrides.add(passport(), "stain", "fine", "ada")
    assert overrides.in_force(passport(Light.RED)) == {}
    assert set(overrides.in_force(passport(Light.GREEN))) == {"stain"}


def test_withdrawn_but_not_forgotten(tmp_path: Path) -> None:
    overrides = PassportOverrides(tmp_path)
    overrides.add(passport(), "stain", "fine", "ada")
    overrides.withdraw("stain", "bob")
    assert overrides.latest() == {}
    assert [(o.reviewer, o.withdrawn) for o in overrides.history()] == [
        ("ada", False),
        ("bob", True),
    ]
    with pytest.raises(ReviewError, match="no override"):
        overrides.withdraw("stain", "bob")


@pytest.mark.parametrize(
    ("key", "reason", "reviewer"),
    [("stain", "  ", "ada"), ("stain", "fine", ""), ("colour", "fine", "ada")],
)
def test_an_override_says_what_why_and_who(
    tmp_path: Path, key: str, reason: str, reviewer: str
) -> None:
    with pytest.raises(ReviewError):
        PassportOverrides(tmp_path).add(passport(), key, reason, reviewer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"format_version": 1, "overrides": [{"key": 1}]}'])
def test_a_damaged_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    file = tmp_path / "passport.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ReviewError, match="damaged"):
        PassportOverrides(tmp_path).add(passport(), "stain", "fine", "ada")
    assert file.read_text("utf-8") == text


def test_a_newer_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "passport.json").write_text('{"format_version": 99, "overrides": []}', "utf-8")
    with pytest.raises(ReviewError, match="newer"):
        PassportOverrides(tmp_path).latest()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", "utf-8")
    with pytest.raises(ReviewError, match="cannot"):
        PassportOverrides(blocked / "review").add(passport(), "stain", "fine", "ada")
