"""``napari-ood info``: what a slide is, or a run."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from napari_ood.cli.report import print_json, print_table
from napari_ood.naming import RUN_SUFFIX

if TYPE_CHECKING:
    from napari_ood.slides import Slide


def info(args: Namespace) -> int:
    """Print size, levels, mpp, vendor, tissue and warnings of a slide; of a run how it was made."""
    from napari_ood import open_slide

    of_run = args.slide.name.lower().endswith(RUN_SUFFIX)
    if of_run:
        from napari_ood.cli.run_facts import describe_run, run_rows

        facts = describe_run(args.slide)
    else:
        with open_slide(args.slide, mpp=args.mpp) as slide:
            facts = describe(slide)
    if args.json:
        print_json(facts)
    else:
        print_table(run_rows(facts) if of_run else _rows(facts))
    return 0


def describe(slide: Slide) -> dict[str, Any]:
    """Return what ``info --json`` prints; pairs in (y, x) order, sizes in pixels."""
    from napari_ood.slides import tissue_mask

    height, width = slide.levels[0].shape[:2]
    return {
        "path": str(slide.path),
        "name": slide.name,
        "height": height,
        "width": width,
        "mpp": list(slide.mpp) if slide.mpp else None,
        "vendor": slide.vendor,
        "objective": slide.objective,
        "levels": [
            {
                "height": level.shape[0],
                "width": level.shape[1],
                "downsample": list(downsample),
                "stored": index < slide.n_native,
            }
            for index, (level, downsample) in enumerate(
                zip(slide.levels, slide.downsamples, strict=True)
            )
        ],
        "tissue_mm2": tissue_mask(slide).area_mm2(slide.mpp) if slide.mpp else None,
        "associated": sorted(slide.associated),
        "warnings": list(slide.warnings),
    }


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    mpp, objective, tissue = facts["mpp"], facts["objective"], facts["tissue_mm2"]
    size = f"{facts['width']:,} × {facts['height']:,} px"
    if mpp:
        width_mm, height_mm = (
            facts[k] * m / 1e3 for k, m in (("width", mpp[1]), ("height", mpp[0]))
        )
        size += f" = {width_mm:.2f} × {height_mm:.2f} mm"
    rows = [
        ("slide", facts["path"]),
        ("vendor", facts["vendor"] + (f", {objective:g}x objective" if objective else "")),
        ("size", size),
        ("mpp", _mpp_text(mpp)),
        ("tissue", "unknown without mpp" if tissue is None else f"{tissue:.2f} mm²"),
    ]
    rows += [("levels" if i == 0 else "", _level(row)) for i, row in enumerate(facts["levels"])]
    # Labels carry patient data: their names are told, their pixels are not read.
    rows.append(("associated", ", ".join(facts["associated"]) or "none"))
    rows += [("warning", text) for text in facts["warnings"]]
    return rows


def _mpp_text(mpp: list[float] | None) -> str:
    if mpp is None:
        return "not stored in the file: give --mpp (µm per level-0 pixel)"
    y, x = mpp
    return f"{x:.4g} µm/px" if abs(x - y) < 1e-3 * x else f"x {x:.4g}, y {y:.4g} µm/px"


def _level(level: dict[str, Any]) -> str:
    kind = "" if level["stored"] else "  (made for display)"
    factor = max(level["downsample"])
    return f"{level['width']:>8,} × {level['height']:<8,} 1/{factor:.6g}{kind}"
