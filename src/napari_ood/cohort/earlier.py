"""What earlier calls left in a cohort's folder: it grows, week by week, and forgets nothing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from napari_ood.cohort.manifest import FAILED, MANIFEST, NOT_BEGUN, read_manifest
from napari_ood.errors import RunError
from napari_ood.naming import run_name


def read_earlier(folder: Path, hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Records of the slides of earlier calls; [] where there were none.

    Raises
    ------
    RunError
        If the manifest cannot be read, or its runs are of another bundle than that of the hashes.
    """
    if not (folder / MANIFEST).exists():
        return []
    manifest = read_manifest(folder)
    records = all_records(manifest)
    bundle = manifest.get("bundle", {})
    if bundle.get("hashes", hashes) != hashes and any(record.get("n_tiles") for record in records):
        raise RunError(
            f"{folder} holds the runs of another bundle, {bundle.get('name')}: choose another "
            "output folder"
        )
    return records


def all_records(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Records of a manifest: its call's slides, then those that only earlier ones had."""
    return [*manifest.get("slides", []), *manifest.get("earlier", [])]


def names_of(records: Iterable[Mapping[str, Any]]) -> dict[Path, str]:
    """What the runs of slides are called."""
    return {Path(record["slide"]): run_name(record["run"]) for record in records}


def of_these(records: Iterable[dict[str, Any]], slides: Container[str]) -> list[dict[str, Any]]:
    """Records of just these slides."""
    return [record for record in records if record["slide"] in slides]


def with_earlier(
    records: Iterable[dict[str, Any]], earlier: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A call's records; where it did not begin a slide, what an earlier call did holds on."""
    before = {record["slide"]: record for record in earlier}
    return [
        _held_on(record, before.get(record["slide"])) if record["outcome"] == NOT_BEGUN else record
        for record in records
    ]


def _held_on(record: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    if before is None:
        return record
    if before["outcome"] != FAILED and not Path(record["run"]).exists():
        return record  # somebody has removed the run
    this_call = ("run", "listed", "n_new", "worker_seconds", "tasks", "retries", "workers")
    return {**before, **{name: record[name] for name in this_call if name in record}}


def of_others(records: Iterable[dict[str, Any]], slides: Iterable[str]) -> list[dict[str, Any]]:
    """Records of other slides than these, but for those of which there is neither slide nor run."""
    these = set(slides)
    return [
        record for record in records
        if record["slide"] not in these
        and any(Path(record[what]).exists() for what in ("run", "slide"))
    ]  # fmt: skip
