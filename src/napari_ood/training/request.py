"""What a training was asked for, and whether its place on disk is free (no torch)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_ood.errors import TrainingError
from napari_ood.models.card import CONFIG
from napari_ood.training.config import TrainConfig

IDENTITY, CHECKPOINT, REPORT_JSON = "request.json", "checkpoint.safetensors", "report.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Request:
    """What to train, on what.

    Attributes
    ----------
    data : folder or CSV, as ``read_dataset`` takes it
    out : folder of the bundle; its report and checkpoint go to ``<out>.report``
    config : TrainConfig
        Without blocks other than the default, ``default_blocks`` chooses them.
    tile : side of the tiles in px
    mpp : µm/px of the tiles; None: images without physical scale
    held_out : share held out where the data has no splits
    init : as ``initial_network`` takes it; None: start at random
    name : of the bundle; from ``out`` if None
    thumbnails : whether the bundle holds small pictures of the reference's training tiles, to show
        what a tile resembles; only where the data's licence allows passing them on
    bf16 : whether the bundle holds its held-out tiles as they are in bf16, too, for runs in it
    """

    data: Path
    out: Path
    config: TrainConfig
    tile: int = 96
    mpp: float | None = None
    held_out: float = 0.1
    init: str | None = None
    name: str | None = None
    thumbnails: bool = False
    bf16: bool = False

    @property
    def report(self) -> Path:
        """Folder of report and checkpoint."""
        return self.out.with_name(f"{self.out.name}.report")

    def bundle_name(self) -> str:
        """Name of the bundle. TrainingError if the one that was given can't be one."""
        if self.name is None:
            plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.out.resolve().name).strip("._-")
            return plain[:64] or "bundle"
        if not _NAME.fullmatch(self.name):
            raise TrainingError(
                f"{self.name!r} cannot name a bundle: use up to 64 letters, digits, '.', '_', "
                "'-', the first of them a letter or digit"
            )
        return self.name

    def identity(self, name: str, classes: tuple[str, ...]) -> dict[str, Any]:
        """What must be the same to resume; pixels and labels are checked by ``train``."""
        return {
            "name": name,
            "tile": self.tile,
            "mpp": self.mpp,
            "held-out": self.held_out,
            "init": self.init,
            "classes": list(classes),
            "config": self.config.as_dict(),
        }


def check_place(request: Request, identity: dict[str, Any], resume: bool) -> bool:
    """Look at what is at ``out``; True: this very training is finished already.

    Raises
    ------
    TrainingError
        If something would be overwritten, or there is nothing of this request to resume.
    """
    out, report = request.out, request.report
    has_bundle = (out / CONFIG).is_file()
    has_checkpoint = (report / CHECKPOINT).is_file()
    if not resume:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            what = "holds a bundle" if has_bundle else "exists"
            raise TrainingError(f"{out} {what}: choose another --out, or remove it first")
        if has_checkpoint:
            raise TrainingError(
                f"{report} holds a training that was not finished: --resume goes on with it, or "
                "remove the folder to start anew"
            )
        return False
    _require_same(report, identity)
    if has_bundle and (report / REPORT_JSON).is_file():
        return True
    if not has_checkpoint:
        raise TrainingError(f"{report} holds no finished epoch to resume: run without --resume")
    return False


def write_identity(request: Request, identity: dict[str, Any]) -> None:
    """Note down what was asked for, so that resuming can tell whether it is asked the same."""
    try:
        request.report.mkdir(parents=True, exist_ok=True)
        text = json.dumps(identity, indent=2, ensure_ascii=False)
        (request.report / IDENTITY).write_text(text + "\n", "utf-8")
    except OSError as error:
        raise TrainingError(f"{request.report} cannot be written: {error}") from error


def _require_same(report: Path, identity: dict[str, Any]) -> None:
    path = report / IDENTITY
    try:
        then = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise TrainingError(f"{report} holds no training to resume: run without --resume") from None
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    now = json.loads(json.dumps(identity))
    free = ("device", "precision")
    settings = [(k, then["config"].get(k), v) for k, v in now.pop("config").items()]
    pairs = [(k, then.get(k), v) for k, v in now.items()] + [
        s for s in settings if s[0] not in free
    ]
    changed = [f"{name} {old!r} → {new!r}" for name, old, new in pairs if old != new]
    if changed:
        raise TrainingError(
            f"{report} is of another training ({'; '.join(changed)}): resume with the same "
            "arguments, or choose another --out"
        )
