"""The report as one HTML file: pictures are inside it, nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_ood.export.report_content import NOT_FOR_DIAGNOSIS, QUESTIONS
from napari_ood.export.report_figures import (
    REPORT_STYLE,
    draw_histogram,
    draw_overview,
    draw_risk,
    new_figure,
    overview_panels,
    watch,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_ood.export.files import Pieces
    from napari_ood.export.report_content import Content
    from napari_ood.export.report_figures import Overview
    from napari_ood.export.results import Results

TEMPLATE = "report.html.j2"
JPEG_QUALITY = 88
OVERVIEW_DPI = 170
PANEL_INCHES = 4.6


def render_html(content: Content, results: Results, overview: Overview, pieces: Pieces) -> str:
    """Fill the template; what comes from the user or a file is escaped.

    ``pieces`` is told of the overview and of each chart.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    source = files("napari_ood.export").joinpath("templates", TEMPLATE).read_text("utf-8")
    return environment.from_string(source).render(
        c=content,
        overview=_overview(results, overview, pieces),
        histograms=list(_histograms(results, pieces)),
        risks=list(_risks(results, pieces)),
        regions=[(card, _jpeg(card.picture)) for card in content.regions],
        questions=QUESTIONS,
        disclaimer=NOT_FOR_DIAGNOSIS,
    )


def _overview(results: Results, overview: Overview, pieces: Pieces) -> str | None:
    panels = overview_panels(results)
    if overview.pixels is None and panels == ("slide",):
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width = PANEL_INCHES * columns
    height = rows * (PANEL_INCHES * min(max(overview.aspect, 0.3), 2.0) + 0.75)
    from matplotlib import rc_context

    with rc_context(REPORT_STYLE):
        figure = new_figure(width, height)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            pieces.look()
            draw_overview(axes, results, overview, panel)
            watch(axes, pieces.look)
        buffer = io.BytesIO()
        options = {"quality": JPEG_QUALITY}
        figure.savefig(buffer, format="jpg", dpi=OVERVIEW_DPI, pil_kwargs=options)
    pieces.finished()
    return _data_uri("image/jpeg", buffer.getvalue())


def _histograms(results: Results, pieces: Pieces) -> Iterator[str]:
    if not results.scored.run.n_tiles or results.scored.card.whole_image:
        return
    for role, threshold in results.thresholds.items():
        yield _chart(draw_histogram, results, role, threshold)
        pieces.finished()


def _risks(results: Results, pieces: Pieces) -> Iterator[str]:
    for role, threshold in results.thresholds.items():
        if results.scored.risk_curve(threshold.score) is not None:
            yield _chart(draw_risk, results, role, threshold)
            pieces.finished()


def _chart(draw: Callable[..., Any], *arguments: Any) -> str:
    from matplotlib import rc_context

    with rc_context(REPORT_STYLE):
        figure = new_figure(5.4, 3.0)
        axes: Axes = figure.subplots()
        draw(axes, *arguments)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _data_uri("image/svg+xml", buffer.getvalue())


def _jpeg(pixels: NDArray[np.uint8] | None) -> str | None:
    if pixels is None:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return _data_uri("image/jpeg", buffer.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
