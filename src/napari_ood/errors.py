"""Typed errors. Each message is one line that tells the user what is wrong and what to do."""

from __future__ import annotations


class OodError(Exception):
    """Base of all errors that napari-ood raises for the user to read."""


class SlideError(OodError):
    """A file is not a slide, is damaged, or lacks what the request needs (e.g. its mpp)."""


class BundleError(OodError):
    """A bundle is missing, malformed, altered, or does not fit the request."""


class RunError(OodError):
    """A run cannot be written, resumed, opened, or lacks what a score needs."""


class DeviceError(OodError):
    """The requested compute device is not available."""


class DownloadError(OodError):
    """A sample cannot be downloaded, or what came is not the file that is expected."""


class TrainingError(OodError):
    """Tiles or settings cannot be trained on, a checkpoint does not fit, or the loss diverged.

    ``trained`` is the ``Trained`` of the best epoch before it happened, where there is one.
    """

    trained: object | None = None


class TrainingCancelled(TrainingError):
    """A training was cancelled; its checkpoint, if it has one, is that of the last whole epoch."""


class ThresholdError(OodError):
    """A threshold cannot be set as asked: the target is out of reach, or there is no reference."""


class ReviewError(OodError):
    """A review cannot be read or saved, or does not belong to the run."""


class ExportError(OodError):
    """Results cannot be written in a format, or what is imported does not fit the run."""


class ExportCancelled(ExportError):
    """An export was cancelled; what was finished is kept, nothing is half-written."""


class ExplainError(OodError):
    """A tile cannot be explained as asked: the method does not suit the network or the target."""


class NothingToExplain(ExplainError):
    """What was to be explained is not a number at any of the tiles."""


class ExplainCancelled(ExplainError):
    """An explanation was cancelled; nothing is kept."""
