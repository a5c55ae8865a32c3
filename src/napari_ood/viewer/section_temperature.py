"""The temperature that divides logits before probabilities and scores are made of them."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QPushButton
from superqt.utils import signals_blocked

from napari_ood.viewer.widgets import Section, text_label

LOWEST, HIGHEST = 0.05, 20.0
EXPLAIN = "Above the bundle's own, probabilities are more cautious; below it, bolder."


class TemperatureSection(Section):
    """Signals
    -------
    asked(temperature) : float, or None for the bundle's own
    """

    asked = Signal(object)

    def __init__(self) -> None:
        super().__init__("Temperature")
        self.box = QDoubleSpinBox()
        self.box.setRange(LOWEST, HIGHEST)
        self.box.setDecimals(3)
        self.box.setSingleStep(0.1)
        self.box.setKeyboardTracking(False)
        self.box.valueChanged.connect(self.asked.emit)
        self.own = QPushButton()
        self.own.clicked.connect(lambda: self.asked.emit(None))
        row = QHBoxLayout()
        row.addWidget(self.box)
        row.addWidget(self.own, 1)
        self.body.addLayout(row)
        self.body.addWidget(text_label(EXPLAIN, muted=True))

    def show_temperature(self, temperature: float, own: float) -> None:
        """Show the temperature in use and the bundle's own."""
        with signals_blocked(self.box):
            self.box.setValue(temperature)
        self.own.setText(f"Bundle's own: {own:.4g}")
        self.own.setEnabled(temperature != own)
