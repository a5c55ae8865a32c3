"""A4 pages that text, tables and figures flow onto, from top to bottom (matplotlib)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from napari_ood.export.report_figures import new_figure, watch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 210.0, 297.0
MARGIN, FOOT = 16.0, 14.0
"""Of an A4 page, in mm, as are all lengths here."""
MM_PER_INCH, MM_PER_POINT = 25.4, 25.4 / 72
LEADING = 1.32
BODY, SMALL, HEADING, TITLE = 9.0, 7.5, 13.0, 20.0
"""Sizes of type, in points."""
RULE, QUIET, INK = "#c4c9cf", "#5a6068", "#1f2328"
CELL_PAD = 1.2
INNER = WIDTH - 2 * MARGIN


@lru_cache(maxsize=20_000)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text in mm."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    prop = FontProperties(size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, prop, ismath=False)
    return float(width) * MM_PER_POINT


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Break text into lines of at most ``width`` mm; words longer than that are cut."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if text_width(joined, size, weight) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            *whole, line = _pieces(word, width, size, weight)
            lines += whole
        lines.append(line)
    return lines


def _pieces(word: str, width: float, size: float, weight: str) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        stop = start + 1
        while stop < len(word) and text_width(word[start : stop + 1], size, weight) <= width:
            stop += 1
        pieces.append(word[start:stop])
        start = stop
    return pieces or [""]


def line_height(size: float) -> float:
    """Distance of two lines in mm."""
    return size * MM_PER_POINT * LEADING


class Pages:
    """Writes pages into a PDF; ``y`` is how far down the current page is filled, in mm.

    ``look`` is called for each page and picture; what it raises ends the work.
    """

    def __init__(self, pdf: PdfPages, foot: str, look: Callable[[], None]) -> None:
        self._pdf, self._foot, self._look = pdf, foot, look
        self._n = 0
        self._figure: Figure | None = None
        self.y = 0.0

    @property
    def figure(self) -> Figure:
        """The current page."""
        if self._figure is None:
            self._begin()
        assert self._figure is not None
        return self._figure

    def _begin(self) -> None:
        self._n += 1
        self._figure = new_figure(WIDTH / MM_PER_INCH, HEIGHT / MM_PER_INCH)
        # The pages are laid out by hand.
        self._figure.set_layout_engine("none")
        self.y = MARGIN
        self._put(MARGIN, HEIGHT - 9, self._foot, 7, color=QUIET)
        self._put(WIDTH - MARGIN, HEIGHT - 9, str(self._n), 7, color=QUIET, align="right")

    def end(self) -> None:
        """Write the current page."""
        if self._figure is not None:
            self._look()
            self._pdf.savefig(self._figure)  # type: ignore[no-untyped-call]
            self._figure = None

    def room(self, height: float) -> None:
        """Begin a new page where less than ``height`` mm is left."""
        fresh = self._figure is None
        _ = self.figure
        if not fresh and self.y + height > HEIGHT - MARGIN - FOOT + 4:
            self.end()
            self._begin()

    def space(self, height: float) -> None:
        """Leave a gap."""
        self.y += height

    def title(self, kicker: str, text: str) -> None:
        """Head of the first page."""
        self.room(30)
        self._lines([kicker], MARGIN, BODY, color=QUIET)
        self._lines(wrapped(text, INNER, TITLE, "bold"), MARGIN, TITLE, weight="bold")
        self.space(2)

    def heading(self, text: str, keep: float = 30.0) -> None:
        """A heading, with ``keep`` mm of what follows on the same page."""
        self.room(12 + keep)
        self.space(4)
        self._lines([text], MARGIN, HEADING, weight="bold")
        self._rule(self.y, INK, 1.0)
        self.space(2.5)

    def paragraph(self, text: str, size: float = BODY, color: str = INK) -> None:
        """Text over the whole width."""
        lines = wrapped(text, INNER, size)
        self.room(min(len(lines), 4) * line_height(size))
        for line in lines:
            self.room(line_height(size))
            self._lines([line], MARGIN, size, color=color)
        self.space(1.5)

    def banner(self, text: str, color: str) -> None:
        """A sentence with a coloured edge."""
        from matplotlib.patches import Rectangle

        lines = wrapped(text, INNER - 8, 10, "bold")
        height = len(lines) * line_height(10) + 4
        self.room(height)
        for x, w, face in ((MARGIN, INNER, "#f5f6f8"), (MARGIN, 1.6, color)):
            box = (x / WIDTH, 1 - (self.y + height) / HEIGHT)
            patch = Rectangle(
                box, w / WIDTH, height / HEIGHT, facecolor=face, transform=self.figure.transFigure
            )
            self.figure.add_artist(patch)
        self.space(2)
        self._lines(lines, MARGIN + 5, 10, weight="bold")
        self.space(5)

    def table(
        self,
        rows: Sequence[Sequence[str]],
        widths: Sequence[float],
        head: Sequence[str] | None = None,
        lights: Sequence[str] | None = None,
        size: float = SMALL + 0.5,
    ) -> None:
        """Rows of cells; ``widths`` are shares. The first cell is bold; ``lights`` are lamps
        before the second cell."""
        columns = [width * INNER / sum(widths) for width in widths]
        if head is not None:
            self.room(3 * line_height(size) + 6)
            self._row(head, columns, SMALL, color=QUIET)
            self._rule(self.y, "#9aa1a9", 0.8)
        for i, row in enumerate(rows):
            self._row(row, columns, size, lamp=lights[i] if lights else None)
            self._rule(self.y, RULE, 0.5)
        self.space(2)

    def _row(
        self,
        row: Sequence[str],
        columns: Sequence[float],
        size: float,
        color: str = INK,
        lamp: str | None = None,
    ) -> None:
        indent = 4.0 if lamp else 0.0
        weights = ["bold", *["normal"] * (len(row) - 1)]
        shifts = [indent if i == 1 else 0.0 for i in range(len(row))]
        cells = [
            wrapped(text, width - 3 - shift, size, weight)
            for text, width, shift, weight in zip(row, columns, shifts, weights, strict=True)
        ]
        height = max(map(len, cells)) * line_height(size) + 2 * CELL_PAD
        self.room(height)
        top, left = self.y + CELL_PAD, MARGIN
        for lines, width, shift, weight in zip(cells, columns, shifts, weights, strict=True):
            self.y = top
            self._lines(lines, left + shift, size, weight=weight, color=color)
            left += width
        if lamp:
            self._lamp(MARGIN + columns[0] + 1.4, top + line_height(size) / 2, lamp)
        self.y = top - CELL_PAD + height

    def _lamp(self, x: float, y: float, color: str) -> None:
        from matplotlib.patches import Ellipse

        lamp = Ellipse(
            (x / WIDTH, 1 - y / HEIGHT),
            2.7 / WIDTH,
            2.7 / HEIGHT,
            facecolor=color,
            edgecolor="#00000066",
            lw=0.5,
            transform=self.figure.transFigure,
        )
        self.figure.add_artist(lamp)

    @contextmanager
    def block(self, height: float) -> Iterator[None]:
        """Reserve ``height`` mm for what is drawn with :meth:`axes` and :meth:`text`."""
        self.room(height)
        start = self.y
        yield
        self.y = start + height

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes at ``x`` mm from the margin and ``y`` mm below the current place."""
        box = (MARGIN + x) / WIDTH, 1 - (self.y + y + height) / HEIGHT
        axes = self.figure.add_axes((*box, width / WIDTH, height / HEIGHT))
        watch(axes, self._look)
        return axes

    def text(
        self, x: float, y: float, lines: Sequence[str], size: float, weight: str = "normal"
    ) -> None:
        """Lines at ``x`` mm from the margin and ``y`` mm below the current place."""
        for i, line in enumerate(lines):
            at = self.y + y + (i + 0.78) * line_height(size)
            self._put(MARGIN + x, at, line, size, weight=weight)

    def _lines(
        self,
        lines: Sequence[str],
        x: float,
        size: float,
        weight: str = "normal",
        color: str = INK,
    ) -> None:
        for line in lines:
            self._put(x, self.y + 0.78 * line_height(size), line, size, weight, color)
            self.y += line_height(size)

    def _put(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        weight: str = "normal",
        color: str = INK,
        align: str = "left",
    ) -> None:
        # "$" would begin a formula.
        self.figure.text(
            x / WIDTH, 1 - y / HEIGHT, text, size=size, weight=weight, color=color, ha=align,
            va="baseline", parse_math=False,
        )  # fmt: skip

    def _rule(self, y: float, color: str, width: float) -> None:
        from matplotlib.lines import Line2D

        at = 1 - y / HEIGHT
        ends = MARGIN / WIDTH, 1 - MARGIN / WIDTH
        self.figure.add_artist(
            Line2D(ends, (at, at), color=color, lw=width, transform=self.figure.transFigure)
        )
