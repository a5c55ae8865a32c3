"""Compare methods: train their networks, ask them about all tiles, write tables and figures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError, TrainingCancelled
from napari_ood.evaluation.comparison import Record, SeedScores, measure
from napari_ood.evaluation.comparison_table import SINGLE, as_json, tables
from napari_ood.files import replacing
from napari_ood.scores import entropy, mean_probability
from napari_ood.training.compare_clock import Clock
from napari_ood.training.compare_data import ComparisonData, read_comparison_data
from napari_ood.training.config import TrainConfig, TrainProgress
from napari_ood.training.methods import MEMBER_STRIDE, Method, NetworkPlan, parse_methods

if TYPE_CHECKING:
    from napari_ood.training.networks import Learning, NetworkStore, Outcome
    from napari_ood.training.session import Cancel

Floats = NDArray[np.float32]
TABLE, RECORD, NETWORKS, COSTS = "compare.md", "compare.json", "networks", "costs.json"
COST_KEYS = ("relative_time", "answering_mb", "training_mb")
TEST, HELD_OUT = "test", "held out"


@dataclass(frozen=True)
class ComparisonRequest:
    """What to compare, on what.

    Attributes
    ----------
    data : labelled tiles, as ``read_dataset`` takes them
    ood : name → foreign tiles
    out : folder for tables, figures and networks; what is there is used again
    methods : as ``parse_methods`` takes them
    config : settings that all networks share
    seeds : number of repetitions, seeds 0 … n − 1
    members : networks of the ensemble, heads of M-heads
    samples, dropout : of MC-dropout
    tile, mpp : side in px and µm/px of the tiles
    group : column of ``data`` that names slide or patient
    """

    data: Path
    ood: Mapping[str, Path]
    out: Path
    methods: tuple[str, ...] = ("single", "mcdropout", "ensemble", "mheads")
    config: TrainConfig = field(default_factory=TrainConfig)
    seeds: int = 5
    members: int = 10
    samples: int = 20
    dropout: float = 0.1
    tile: int = 96
    mpp: float | None = None
    group: str | None = None


@dataclass(frozen=True)
class ComparisonProgress:
    """Where a comparison is: which network of how many, and what ``train`` says about it.

    ``seconds_left`` is for all networks, from what those of the same method took; None before that
    can be said.
    """

    method: str
    seed: int
    member: int
    network: int
    n_networks: int
    training: TrainProgress
    seconds_left: float | None


@dataclass(frozen=True)
class Comparison:
    """What was measured: method → one record per seed, and the files that were written."""

    records: Mapping[str, list[Record]]
    text: str
    files: tuple[Path, ...]


OnComparison = Callable[[ComparisonProgress], None]


def compare_methods(
    request: ComparisonRequest,
    on_progress: OnComparison | None = None,
    cancel: Cancel | None = None,
    on_note: Callable[[str], object] | None = None,
) -> Comparison:
    """Compare methods on the same tiles over seeds.

    Each network is trained once, whoever uses it, and kept in ``out``: the same call goes on where
    the last one stopped. Tables are written anew after every seed.

    Raises
    ------
    OodError
        If data or settings don't make sense; TrainingCancelled if ``cancel`` says so.
    """
    if not 1 <= request.seeds <= MEMBER_STRIDE:
        raise OodError(f"seeds must be 1 to {MEMBER_STRIDE:,}, not {request.seeds}")
    methods = parse_methods(
        request.methods, request.config, request.members, request.samples, request.dropout
    )
    data = read_comparison_data(request.data, request.ood, request.tile, request.mpp, request.group)
    for note in data.notes:
        if on_note is not None:
            on_note(note)
    run = _Run(request, methods, data, on_progress, cancel)
    for seed in range(request.seeds):
        run.seed(seed)
        run.write()
    return Comparison(run.records, run.text, run.write_figures())


class _Run:
    """A comparison under way."""

    def __init__(
        self,
        request: ComparisonRequest,
        methods: tuple[Method, ...],
        data: ComparisonData,
        on_progress: OnComparison | None,
        cancel: Cancel | None,
    ) -> None:
        from napari_ood.training.networks import Learning, NetworkStore, TestSet

        self.request, self.methods, self.data = request, methods, data
        self.on_progress, self.cancel = on_progress, cancel
        _make_folder(request.out)
        self.learning: Learning = Learning.of(
            data.train_images, data.train_labels, data.held_images, data.held_labels
        )
        self.store: NetworkStore = NetworkStore(request.out / NETWORKS, request.config.device)
        tiles = {TEST: data.test_images, HELD_OUT: data.held_images}
        # "ood " keeps a foreign set that somebody calls "test" apart from the test tiles.
        tiles |= {f"ood {name}": images for name, images in data.ood.items()}
        self.sets = {name: TestSet.of(images) for name, images in tiles.items()}
        self.records: dict[str, list[Record]] = {method.name: [] for method in methods}
        self.scores: dict[str, list[SeedScores]] = {m.name: [] for m in methods}
        self.text = ""
        self.costs: dict[str, dict[str, float]] = {}
        self.clock = self._clock()

    def seed(self, seed: int) -> None:
        """Have all networks of a seed, then measure every method."""
        for method in self.methods:
            outcomes = [
                self._network(method, seed, k, plan) for k, plan in enumerate(method.networks(seed))
            ]
            logits = {
                name: np.concatenate([outcome.logits[name] for outcome in outcomes], axis=1)
                for name in self.sets
            }
            self.records[method.name].append(self._measure(method, seed, outcomes, logits))
            self.scores[method.name].append(self._scores(logits))

    def _clock(self) -> Clock:
        owners: dict[str, str] = {}
        known: dict[str, float] = {}
        for seed in range(self.request.seeds):
            for method in self.methods:
                for plan in method.networks(seed):
                    key = plan.key(self.learning.digests)
                    owners.setdefault(key, method.name)
                    seconds = self.store.seconds(plan, self.learning)
                    if seconds is not None:
                        known[key] = seconds
        return Clock(owners, known)

    def _network(self, method: Method, seed: int, member: int, plan: NetworkPlan) -> Outcome:
        key = plan.key(self.learning.digests)

        def report(progress: TrainProgress) -> None:
            if self.on_progress is not None:
                left = self.clock.left(key, progress)
                place = self.clock.place(key)
                self.on_progress(
                    ComparisonProgress(method.name, seed, member, *place, progress, left)
                )

        if _asked(self.cancel):
            raise TrainingCancelled("comparison cancelled; the same command goes on")
        outcome = self.store.outcome(plan, self.learning, self.sets, report, self.cancel)
        self.clock.end(key, outcome.seconds)
        return outcome

    def _measure(
        self,
        method: Method,
        seed: int,
        outcomes: list[Outcome],
        logits: Mapping[str, Floats],
    ) -> Record:
        import torch

        from napari_ood.training.losses import fit_temperature
        from napari_ood.training.usage import head_usage

        held = torch.from_numpy(logits[HELD_OUT]), torch.from_numpy(self.data.held_labels)
        outside = {name: logits[f"ood {name}"] for name in self.data.ood}
        labels = self.data.test_labels
        record: Record = {
            "seed": seed,
            **measure(logits[TEST], labels, outside, fit_temperature(*held)),
        }
        if logits[TEST].shape[1] > 1:
            record["heads"] = _heads(head_usage(logits[TEST], labels).as_dict())
        record["cost"] = {
            "networks": len(outcomes),
            "training_minutes": sum(outcome.seconds for outcome in outcomes) / 60,
            "weights_mb": sum(outcome.weight_bytes for outcome in outcomes) / 1e6,
            **self._costs()[method.name],
        }
        record["best_epochs"] = [outcome.facts["best_epoch"] for outcome in outcomes]
        return record

    def _costs(self) -> dict[str, dict[str, float]]:
        """Time and memory of all methods, measured in one go, once per comparison."""
        if not self.costs:
            described = {method.name: method.as_dict() for method in self.methods}
            known = {
                "methods": described, "device": self.store.device, "tile": self.request.tile,
            }  # fmt: skip
            identity = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
            file = self.request.out / COSTS
            self.costs = _stored_costs(file, identity)
            if self.costs.keys() != described.keys():
                self.costs = self._measured_costs()
                _replace(file, json.dumps({"of": identity, "costs": self.costs}, indent=1))
        return self.costs

    def _measured_costs(self) -> dict[str, dict[str, float]]:
        from napari_ood.training.speed import memory_mb, relative_times

        request = self.request
        (single,) = parse_methods(
            (SINGLE,), request.config, request.members, request.samples, request.dropout
        )
        by_name = {method.name: method for method in self.methods}
        times = relative_times(single, by_name, self.learning, self.store.device)
        memory = memory_mb(by_name, self.learning)
        return {
            name: {
                "relative_time": times[name],
                "answering_mb": memory[name][0],
                "training_mb": memory[name][1],
            }
            for name in by_name
        }

    def _scores(self, logits: Mapping[str, Floats]) -> SeedScores:
        wrong = mean_probability(logits[TEST]).argmax(axis=1) != self.data.test_labels
        outside = {name: entropy(logits[f"ood {name}"]) for name in self.data.ood}
        return SeedScores(entropy(logits[TEST]), wrong, outside)

    def write(self) -> None:
        """Write both tables, as far as the comparison has come."""
        request, sets = self.request, list(self.data.ood)
        done = min(len(found) for found in self.records.values())
        self.text = f"{_preamble(request, self.data, done)}\n\n{tables(self.records, sets)}\n"
        record = {
            "format": 1,
            "seeds_done": done,
            "seeds_wanted": request.seeds,
            "data": self.data.as_dict(),
            "settings": {method.name: method.as_dict() for method in self.methods},
            "versions": _versions(),
            "device": request.config.device,
            "methods": as_json(self.records),
        }
        _replace(request.out / TABLE, self.text)
        _replace(request.out / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")

    def write_figures(self) -> tuple[Path, ...]:
        """Draw ROC, histograms and risk–coverage; return all files of the comparison."""
        from napari_ood.evaluation.comparison_figures import write_figures

        out = self.request.out
        figures = write_figures(self.scores, list(self.data.ood), out)
        return (out / TABLE, out / RECORD, *figures)


def _stored_costs(file: Path, identity: str) -> dict[str, dict[str, float]]:
    """Costs that were measured before; none where the file is absent, damaged or of other methods.

    They take seconds to measure again.
    """
    try:
        stored = json.loads(file.read_text("utf-8"))
        if stored["of"] != identity:
            return {}
        return {
            name: {key: float(costs[key]) for key in COST_KEYS}
            for name, costs in stored["costs"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _heads(usage: Mapping[str, Any]) -> dict[str, float]:
    apart = ~np.eye(len(usage["win_share"]), dtype=bool)
    return {
        "n": len(usage["win_share"]),
        "largest_win_share": max(usage["win_share"]),
        "agreement": float(np.asarray(usage["agreement"])[apart].mean()),
        "margin_correlation": float(np.asarray(usage["margin_correlation"])[apart].mean()),
        "accuracy": float(np.mean(usage["accuracy"])),
    }


def _preamble(request: ComparisonRequest, data: ComparisonData, done: int) -> str:
    config = request.config
    state = "" if done == request.seeds else f" **Unfinished: {done} of {request.seeds} seeds.**"
    sets = ", ".join(f"{name} ({len(tiles):,})" for name, tiles in data.ood.items()) or "none"
    return (
        f"# Comparison of methods on `{config.architecture}`\n\n"
        f"{done} seed(s), {config.epochs} epochs each.{state} {len(data.train_images):,} tiles to "
        f"train on, {len(data.held_images):,} that choose the epoch and the temperature, "
        f"{len(data.test_images):,} in-distribution test tiles ({data.test_from}). "
        f"Foreign tiles: {sets}.\n\n"
        "Means over seeds, in brackets the 95 % interval of Student's t over seeds (none for one "
        "seed). Seeds change initialisation, order and augmentation, never the tiles, so intervals "
        "are of the training, not of the choice of tiles. Scores at temperature 1; FPR95: share of "
        "foreign tiles kept when 95 % of the in-distribution tiles are kept."
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("napari-ood", "numpy", "timm", "torch")}


def _asked(cancel: Cancel | None) -> bool:
    if cancel is None:
        return False
    return bool(cancel() if callable(cancel) else cancel.is_set())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OodError(f"{folder} cannot be made a folder: {error}") from error
    if not os.access(folder, os.W_OK):
        raise OodError(f"{folder} cannot be written to")


def _replace(file: Path, text: str) -> None:
    try:
        with replacing(file, file.with_name(file.name + ".partial")) as partial:
            partial.write_text(text, "utf-8")
    except OSError as error:
        raise OodError(f"{file} cannot be written: {error}") from error
