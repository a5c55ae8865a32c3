"""GeoJSON (RFC 7946) as QuPath reads it: annotations in level-0 pixels from the top left, x first.

Three files: flagged regions, predicted classes, verdicts. QuPath crops slides that OpenSlide reads
to the scanned part, so coordinates are counted from there; the file says from where, as the foreign
member ``napari_ood`` (section 6.1), which QuPath passes over.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_ood.export import classes
from napari_ood.export.files import Step, new_file, unwatched
from napari_ood.export.outline import DECIMALS, Lattice, outlines

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.export.results import Results
    from napari_ood.review.verdicts import Verdict

NAMESPACE = uuid.UUID("6f9d4c1e-53a1-5d8e-9f0b-0d0b3a5c7e21")
"""Of the ids: the same object of the same run has the same id in every export."""

BATCH = 500
"""Features between two looks at whether the export was cancelled."""


def write_regions(results: Results, path: Path, step: Step = unwatched) -> Path:
    """Write the flagged regions of every role that has a threshold.

    Raises
    ------
    ExportError
        If the file cannot be written, or the export was cancelled.
    """
    n = sum(len(regions) for regions in results.regions.values())
    return _write(results, path, _regions(results), n, step)


def write_prediction(results: Results, path: Path, step: Step = unwatched) -> Path:
    """Write where each class is predicted: one annotation per class that occurs.

    Raises
    ------
    ExportError
        As :func:`write_regions`.
    """
    return _write(results, path, _prediction(results), len(results.scored.classes), step)


def write_verdicts(results: Results, path: Path, step: Step = unwatched) -> Path:
    """Write the verdicts of every reviewer, classified as what the reviewer said it is.

    Raises
    ------
    ExportError
        As :func:`write_regions`.
    """
    n = sum(map(len, results.verdicts.values()))
    return _write(results, path, _verdicts(results), n, step)


def _write(
    results: Results, path: Path, features: Iterable[str], n_features: int, step: Step
) -> Path:
    """Write features one by one, so that a million of them take no memory."""
    with new_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        about = json.dumps(results.provenance(), ensure_ascii=False, allow_nan=False)
        file.write(f'{{"type": "FeatureCollection", "napari_ood": {about}, "features": [')
        for i, feature in enumerate(features):
            if i % BATCH == 0:
                step(i, n_features)
            file.write(("," if i else "") + "\n" + feature)
        file.write("\n]}\n")
    step(n_features, n_features)
    return path


def feature(
    geometry: str,
    name: str,
    classification: Mapping[str, Any] | None,
    measurements: Mapping[str, float | None],
    metadata: Mapping[str, str],
    identity: Sequence[str],
) -> str:
    """One annotation as QuPath 0.5 writes it.

    Parameters
    ----------
    geometry : GeoJSON text
    measurements : name → number; what is not known or not finite is left out, JSON has no NaN
    metadata : texts that QuPath shows and keeps with the object
    identity : what makes the object's id, a UUID
    """
    known = {k: float(v) for k, v in measurements.items() if v is not None and math.isfinite(v)}
    properties: dict[str, Any] = {"objectType": "annotation", "name": name}
    if classification is not None:
        properties["classification"] = dict(classification)
    properties |= {"measurements": known, "metadata": dict(metadata)}
    number = uuid.uuid5(NAMESPACE, "\0".join(identity))
    text = json.dumps(properties, ensure_ascii=False, allow_nan=False)
    return f'{{"type": "Feature", "id": "{number}", "geometry": {geometry}, "properties": {text}}}'


def shifted(lattice: Lattice, origin: tuple[int, int]) -> Lattice:
    """The lattice counted from another point, to the hundredth of a pixel."""
    return Lattice(
        np.round(lattice.y - origin[0], DECIMALS), np.round(lattice.x - origin[1], DECIMALS)
    )


def outline_of(cells: NDArray[np.int64], lattice: Lattice) -> str:
    """GeoJSON geometry of a set of cells, [K, 2] row and column."""
    first, last = cells.min(axis=0), cells.max(axis=0)
    mask = np.zeros(last - first + 1, bool)
    mask[tuple((cells - first).T)] = True
    part = Lattice(lattice.y[first[0] : last[0] + 2], lattice.x[first[1] : last[1] + 2])
    polygons, _ = outlines(mask, part)
    # QuPath and others want a MultiPolygon to have several parts.
    joined = polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
    return str(shapely.to_geojson(joined))


def _outlines_of_regions(
    regions: Sequence[Region], shape: tuple[int, int], lattice: Lattice
) -> NDArray[np.object_]:
    """GeoJSON geometries of regions, which never share a cell, drawn all at once; [R] str."""
    number = np.zeros(shape, np.int64)
    for i, region in enumerate(regions, start=1):
        number[tuple(region.cells.T)] = i
    polygons, cells = outlines(number > 0, lattice)
    of_region = number[tuple(cells.T)] - 1
    order = np.argsort(of_region, kind="stable")
    polygons, of_region = polygons[order], of_region[order]
    geometries = polygons[np.searchsorted(of_region, np.arange(len(regions)))]
    several = np.flatnonzero(np.bincount(of_region, minlength=len(regions)) > 1)
    if len(several):
        parts = np.isin(of_region, several)
        geometries[several] = shapely.multipolygons(
            polygons[parts], indices=np.searchsorted(several, of_region[parts])
        )
    return np.asarray(shapely.to_geojson(geometries))


def _regions(results: Results) -> Iterator[str]:
    lattice = shifted(results.lattice, results.origin)
    run = _run_id(results)
    words = _verdicts_by_region(results)
    for role, regions in results.regions.items():
        if not regions:
            continue
        threshold = results.thresholds[role]
        shape = results.lattice.shape
        for region, geometry in zip(
            regions, _outlines_of_regions(regions, shape, lattice), strict=True
        ):
            yield feature(
                geometry,
                f"{': '.join(classes.ROLES.get(role, ((role,),))[0])} {region.number}",
                classes.of_role(role),
                {
                    f"{role} peak": region.peak,
                    f"{role} mean": region.mean,
                    f"{role} threshold": threshold.value,
                    "Tiles": region.n_tiles,
                    "Area mm^2": region.area_mm2,
                    "Predicted class share": region.label_share,
                },
                {
                    "napari-ood": "region",
                    "role": role,
                    "score": threshold.score,
                    "threshold": threshold.words(),
                    "region": region.key,
                    "predicted class": region.label,
                    **words.get((role, region.key), {}),
                },
                (run, "region", role, region.key),
            )


def _verdicts_by_region(results: Results) -> dict[tuple[str, str], dict[str, str]]:
    """What each reviewer says of each region, in words, as metadata of the region."""
    from napari_ood.review.matching import match_verdicts

    found: dict[tuple[str, str], dict[str, str]] = {}
    for reviewer, verdicts in results.verdicts.items():
        for role, regions in results.regions.items():
            for key, matches in match_verdicts(regions, verdicts).by_key.items():
                best = matches[0].verdict
                said = best.category + (f" ({best.comment})" if best.comment else "")
                found.setdefault((role, key), {})[f"verdict of {reviewer}"] = said
    return found


def _prediction(results: Results) -> Iterator[str]:
    scored = results.scored
    lattice = shifted(results.lattice, results.origin)
    prediction, probability = results.prediction, scored.probabilities()
    for number, label in enumerate(scored.classes):
        tiles = np.flatnonzero(prediction == number)
        if not len(tiles):
            continue
        area = scored.mm2_per_tile
        yield feature(
            outline_of(scored.index[tiles], lattice),
            f"Predicted {label}",
            classes.of_class(scored.card, label),
            {
                "Tiles": len(tiles),
                "Area mm^2": None if area is None else area * len(tiles),
                "Share of tiles": len(tiles) / len(prediction),
                "Mean probability": float(probability[tiles, number].mean(dtype=np.float64)),
            },
            {"napari-ood": "prediction", "bundle": scored.card.name},
            (_run_id(results), "prediction", label),
        )


def _verdicts(results: Results) -> Iterator[str]:
    lattice = shifted(results.lattice, results.origin)
    run, area = _run_id(results), results.scored.mm2_per_tile
    for reviewer, verdicts in results.verdicts.items():
        for verdict in verdicts:
            if not verdict.tiles:
                continue
            yield feature(
                outline_of(verdict.cells, lattice),
                f"{verdict.category} ({reviewer})",
                classes.of_verdict(results.scored.card, verdict),
                {
                    "Tiles": len(verdict.tiles),
                    "Area mm^2": None if area is None else area * len(verdict.tiles),
                },
                _told(verdict),
                (run, "verdict", reviewer, verdict.region_key),
            )


def _told(verdict: Verdict) -> dict[str, str]:
    """All of a verdict but its tiles and box, which the outline tells; texts, as QuPath keeps."""
    told = {"napari-ood": "verdict", "region": verdict.region_key, "verdict": verdict.category}
    optional = {
        classes.DESCRIPTION: verdict.comment,
        "reviewer": verdict.reviewer,
        "time": verdict.time,
        "score": verdict.score,
        "threshold value": None if verdict.threshold is None else repr(float(verdict.threshold)),
        "predicted class": verdict.prediction,
    }
    return told | {key: value for key, value in optional.items() if value}


def _run_id(results: Results) -> str:
    from napari_ood.review import run_identity

    return run_identity(results.scored.run)
