"""What the user works on: slides, bundle, scope, run, results. No Qt, no napari.

The state is an immutable snapshot. Commands replace it and emit one ``changed(new, old)``; views
compare the two and redraw what differs. Commands and :meth:`Session.poll` belong to one thread,
the GUI's; the run itself works in a :class:`~napari_ood.viewer.job.Job`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.errors import SlideError
from napari_ood.viewer.checks import check_run
from napari_ood.viewer.job import Job, Request
from napari_ood.viewer.maps import Maps
from napari_ood.viewer.output import Output, choose_output
from napari_ood.viewer.session_how import SessionHow
from napari_ood.viewer.state import Phase, Result, Scope

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide
    from napari_ood.viewer.job import Box


MAX_WAIT_S = 20.0
"""Longest that closing the window waits for a run to stop; it stops after the batch it is at."""


class Session(SessionHow):
    """State and commands of one viewer: slides, bundle, run, results.

    Signals
    -------
    changed(new, old) : after every change of the state
    failed(message) : one line for the user; each failure is reported once
    """

    def __init__(self, make_job: Callable[[Request], Job] = Job) -> None:
        super().__init__()
        self._make_job = make_job
        self._job: Job | None = None

    # ---------------------------------------------------------------- slides

    def add_slide(self, slide: Slide) -> None:
        """Make a slide known and choose it."""
        if not any(s is slide for s in self.state.slides):
            self._update(slides=(*self.state.slides, slide))
        self.choose_slide(slide)

    def remove_slide(self, slide: Slide) -> None:
        """Forget a slide and its results; a run on it is cancelled."""
        if self._job is not None and self._job.request.slide is slide:
            self.cancel()
        slides = tuple(s for s in self.state.slides if s is not slide)
        results = tuple(r for r in self.state.results if r.slide is not slide)
        chosen = self.state.slide
        if chosen is slide:
            chosen = slides[-1] if slides else None
        self._update(slides=slides, results=results, slide=chosen, readout=None)
        self._plan()

    def choose_slide(self, slide: Slide) -> None:
        """Work on this slide."""
        if slide is not self.state.slide:
            self._update(slide=slide, readout=None)
            self._plan()

    def set_mpp(self, mpp: float) -> None:
        """Say how large the chosen slide's pixels are, in µm; the slide is opened anew with it."""
        from napari_ood.slides import open_slide

        old = self.state.slide
        if old is None:
            return
        with self._reporting():
            new = open_slide(old.path, mpp=mpp)
            slides = tuple(new if s is old else s for s in self.state.slides)
            # Maps lie on a grid that followed from the old mpp: they no longer fit.
            results = tuple(r for r in self.state.results if r.slide is not old)
            self._update(slides=slides, slide=new, results=results, readout=None)
            self._plan()

    # ---------------------------------------------------------------- bundle, scope, output

    def choose_bundle(self, name: str | Path) -> None:
        """Load a bundle by name or folder; on an error the old one stays."""
        from napari_ood.models import load_bundle

        with self._reporting():
            self.use_bundle(load_bundle(name))

    def use_bundle(self, bundle: Bundle) -> None:
        """Work with this bundle."""
        self._update(bundle=bundle)
        self._plan()

    def set_scope(self, scope: Scope) -> None:
        """Choose which part of the slide the next run covers."""
        self._update(scope=Scope(scope))
        self._plan()

    def set_folder(self, folder: Path | None) -> None:
        """Choose where runs are written; None for beside the slide."""
        self._update(folder=folder)
        self._plan()

    def _plan(self) -> None:
        """Say where the next run would be written; for a part of a slide that is not known yet."""
        if self.busy:
            return
        s = self.state
        output = None
        if s.slide is not None and s.bundle is not None and s.scope is Scope.SLIDE:
            # What keeps slide and bundle apart is said by check_run; here it only means no plan.
            with suppress(SlideError):
                output = self._output(None)
        self._update(output=output)

    def _output(self, region: Box | None) -> Output:
        s = self.state
        assert s.slide is not None and s.bundle is not None
        return choose_output(s.slide, s.bundle, region, s.folder, s.precision, s.features)

    # ---------------------------------------------------------------- run

    @property
    def busy(self) -> bool:
        """Whether a run is going on or stopping."""
        return self._job is not None

    def start(self, region: Box | None = None) -> bool:
        """Start a run on the chosen slide; whether it was started.

        Parameters
        ----------
        region : y, x, h, w in level-0 pixels, or None for the whole slide
        """
        s = self.state
        check = check_run(s.slide, s.bundle, s.lacks)
        if self.busy or (check is not None and check.blocking):
            return False
        assert s.slide is not None and s.bundle is not None
        with self._reporting():
            output = self._output(region)
            request = Request(
                s.slide, s.bundle, output.path, region, s.device, s.precision, s.features
            )
            self._job = self._make_job(request)
            self._update(
                phase=Phase.RUNNING, output=output, progress=None, outcome="", readout=None
            )
            self._job.start()
        return self.busy

    def cancel(self) -> None:
        """Stop the run within one batch; what it has done stays stored."""
        if self._job is not None:
            self._job.cancel()
            self._update(phase=Phase.CANCELLING)

    def _is_growing(self, maps: Maps) -> bool:
        return self._job is not None and self._job.maps is maps

    def look_at(self, view: Box | None) -> None:
        """Tell a run which part of the slide the user sees, so that it does that first."""
        if self._job is not None:
            self._job.view = view

    def poll(self, shows: bool = True) -> bool:
        """Take over what the run has done so far; whether it is still going on.

        Unless it ``shows``, that waits for a later call, or for the run's end.
        """
        job = self._job
        if job is None:
            return False
        alive = job.alive  # before its attributes are read, or the last report may be missed
        if shows or not alive:
            self._take_over(job)
        if not alive:
            self._finish(job)
        return alive

    def end(self, *_: object) -> None:
        """Stop a run and wait for its last batch, telling no one: for when the window is gone.

        The program may end right after, and a run that is still working then cannot store more.
        """
        if self._job is not None:
            self._job.cancel()
            self._job.wait(MAX_WAIT_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run's thread has ended; whether it has. For scripts and tests."""
        return self._job is None or self._job.wait(timeout)

    def _take_over(self, job: Job) -> None:
        known = any(s is job.request.slide for s in self.state.slides)
        if job.maps is not None and known:
            self.show(job.request.slide, job.maps)
        if job.progress is not None:
            self._update(progress=job.progress)

    def _finish(self, job: Job) -> None:
        self._job = None
        output = _output_of(job)
        # Of a cancelled part only the same view or shape could go on, and that may have changed.
        same_slide = self.state.slide is job.request.slide
        if output and same_slide and (job.request.region is None or output.complete):
            self._update(phase=Phase.IDLE, outcome=_outcome(job), output=output)
        else:
            self._update(phase=Phase.IDLE, outcome=_outcome(job))
            self._plan()
        if job.error:
            self.failed.emit(job.error)

    # ---------------------------------------------------------------- results

    def show(self, slide: Slide | None, maps: Maps) -> None:
        """Show maps on a slide in place of the ones it had."""
        if any(r.maps is maps and r.slide is slide for r in self.state.results):
            return
        others = tuple(r for r in self.state.results if r.slide is not slide)
        overlay = self.state.overlay
        if maps.whole_image:
            # One colour all over an image says less than its values: off until somebody asks.
            seen = any(r.maps.whole_image for r in self.state.results)
            overlay = overlay if seen else None
        elif overlay not in maps.overlays:
            overlay = maps.overlays[-1]
        self._update(results=(*others, Result(slide, maps)), overlay=overlay)

    def drop(self, maps: Maps) -> None:
        """Forget maps whose layers were removed."""
        results = tuple(r for r in self.state.results if r.maps is not maps)
        self._update(results=results, readout=None)

    def assign(self, maps: Maps, slide: Slide) -> None:
        """Give maps whose slide was not found the slide they belong to."""
        results = tuple(Result(slide, r.maps) if r.maps is maps else r for r in self.state.results)
        self._update(results=results)


def _output_of(job: Job) -> Output | None:
    run = job.run
    return None if run is None else Output.of_run(run)


def _outcome(job: Job) -> str:
    if job.error:
        return job.error
    progress = job.progress
    done = f"{progress.n_done:,} of {progress.n_total:,} tiles" if progress else "no tiles"
    if job.run is not None and job.run.complete:
        seconds = f" in {progress.seconds:.1f} s" if progress else ""
        if job.request.bundle.card.whole_image:
            return f"Done{seconds}."
        now = job.run.provenance["sessions"][-1]["n_tiles"] if progress else job.run.n_tiles
        of_them = f", {now:,} of them now" if now < job.run.n_tiles else ""
        return f"Done: {job.run.n_tiles:,} tiles{of_them}{seconds}."
    return f"Stopped at {done}. Run goes on from there."
