"""The card of a bundle: ``config.json``, checked against a schema and never trusted.

The file carries the keys that WSInfer and timm read, so that both understand it, and an object
``napari_ood`` with what neither knows. Nothing in it is executed: the architecture is a name that
is looked up in timm's or torchvision's registry, and file names are plain names in the folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from napari_ood.errors import BundleError
from napari_ood.scores import parse_score

CONFIG = "config.json"
MODEL = "model.safetensors"
REFERENCE = "reference.safetensors"
TILES = "tiles.safetensors"
HEATMAP = "heatmap.safetensors"
LOCATIONS = "locations.safetensors"
HALVED = "bf16.safetensors"
EXTRAS = (TILES, HEATMAP, LOCATIONS, HALVED)
"""What a bundle may hold beside: pictures of its reference's tiles, the decoder of an OOD heatmap,
feature vectors at single places of in-distribution tiles, its held-out tiles as they are in bf16.
None of it changes what a run holds."""
FORMAT_VERSION = 1
SUPPORTED_VERSIONS = (1,)
MAX_CONFIG_BYTES = 1 << 20
"""A card is a few kilobytes; anything beyond this is no card."""

FIELDS = ("tile", "image")
"""What a tile shows: a part of the image at the bundle's mpp, or the image as a whole."""

MIN_SIDE, MAX_SIDE = 8, 2048
"""Of tiles, in px; the schema says the same."""

MAX_HEAD_WEIGHTS = 1 << 29
"""Bounds what a card can make us allocate; far above any sensible set of heads."""

DEFAULT_COLORS = ("#4477aa", "#cc3311", "#ddaa33", "#228833", "#aa3377", "#66ccee", "#bbbbbb")
"""Colour-blind-safe class colours (after Paul Tol's schemes), reused in turn."""


class FeatureBlock(NamedTuple):
    """Columns ``start:stop`` of the features: one layer of the trunk, pooled over the tile.

    ``layer`` is the trunk's module name, or ``penultimate`` for the trunk's own output; ``pool``
    is ``mean`` or ``mean_std`` (mean and standard deviation over the positions of the tile).
    """

    name: str
    layer: str
    pool: str
    start: int
    stop: int


class BundleFile(NamedTuple):
    """What the card says about a file beside it."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Card:
    """What a bundle is, for people and for the code that runs it.

    Attributes
    ----------
    classes : names of the C classes, in the order of the logits
    architecture : ``timm:<name>``, ``torchvision:<name>`` or ``napari_ood:mheads_densenet``
    tile_size : side of a tile in px at ``mpp``
    mpp : µm per px, or None where images have no physical scale (dermoscopy)
    field : ``tile``: tiles are cut from the image; ``image``: one tile is the whole image, resized
        to ``tile_size`` along both sides, its aspect not kept, and ``mpp`` is None
    mean, std : per channel, of RGB scaled to 0…1
    n_heads, head_depth, head_width : M heads with ``head_depth`` hidden layers of ``head_width``
    head_blocks : how many of the trunk's last units every head has for itself
    input_size : side in px to which the network resizes tiles; None or ``tile_size``: it does not
    blocks : which columns of the features come from which layer
    scores : the default score names, keys ``uncertainty`` and ``ood``, and, where the bundle tells
        the two kinds of foreign apart, ``appearance`` and ``tissue``
    temperature : divides the logits before any softmax; fitted on the validation split
    colors : ``#rrggbb`` per class
    results : measured results, as the training script stored them
    warnings : what the card says and this version does not understand
    """

    name: str
    classes: tuple[str, ...]
    architecture: str
    tile_size: int
    mpp: float | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    n_heads: int
    blocks: tuple[FeatureBlock, ...]
    scores: Mapping[str, str]
    head_depth: int = 0
    head_width: int = 128
    head_blocks: int = 0
    input_size: int | None = None
    field: str = FIELDS[0]
    temperature: float = 1.0
    colors: tuple[str, ...] = ()
    description: str = ""
    stain: str = ""
    tissue: str = ""
    training_data: str = ""
    licence: str = ""
    intended_use: str = ""
    limitations: tuple[str, ...] = ()
    citation: str = ""
    results: Mapping[str, Any] = dataclass_field(default_factory=dict)
    training: Mapping[str, Any] = dataclass_field(default_factory=dict)
    files: Mapping[str, BundleFile] = dataclass_field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.colors:
            n = len(DEFAULT_COLORS)
            colors = tuple(DEFAULT_COLORS[i % n] for i in range(len(self.classes)))
            object.__setattr__(self, "colors", colors)

    @property
    def n_classes(self) -> int:
        """Number of classes, C."""
        return len(self.classes)

    @property
    def n_features(self) -> int:
        """Number of feature columns, D."""
        return max(block.stop for block in self.blocks)

    @property
    def whole_image(self) -> bool:
        """Whether the bundle judges an image as a whole."""
        return self.field == "image"

    @property
    def library(self) -> str:
        """``timm``, ``torchvision`` or ``napari_ood``."""
        return self.architecture.partition(":")[0]

    def block(self, name: str) -> FeatureBlock:
        """Return the feature block of that name; BundleError when the bundle has none."""
        for block in self.blocks:
            if block.name == name:
                return block
        known = ", ".join(block.name for block in self.blocks)
        raise BundleError(f"bundle {self.name!r} stores no features {name!r}; it has: {known}")

    def to_config(self) -> dict[str, Any]:
        """Return the JSON object that ``from_config`` reads back."""
        size, (mean, std) = self.tile_size, (list(self.mean), list(self.std))
        seen = self.input_size or size
        penultimate = next((b for b in self.blocks if b.layer == "penultimate"), self.blocks[-1])
        return {
            "spec_version": "1.0",
            "architecture": self.architecture.partition(":")[2],
            "num_classes": self.n_classes,
            "num_features": penultimate.stop - penultimate.start,
            "patch_size_pixels": size,
            "spacing_um_px": self.mpp,
            "class_names": list(self.classes),
            "transform": [
                {"name": "Resize", "arguments": {"size": seen}},
                {"name": "ToTensor"},
                {"name": "Normalize", "arguments": {"mean": mean, "std": std}},
            ],
            "pretrained_cfg": {
                "input_size": [3, seen, seen],
                "num_classes": self.n_classes,
                "mean": mean,
                "std": std,
                "license": self.licence,
            },
            "napari_ood": {
                "format_version": self.format_version,
                "name": self.name,
                "description": self.description,
                "library": self.library,
                "n_heads": self.n_heads,
                "head_depth": self.head_depth,
                "head_width": self.head_width,
                "head_blocks": self.head_blocks,
                "field": self.field,
                "blocks": [block._asdict() for block in self.blocks],
                "scores": dict(self.scores),
                "temperature": self.temperature,
                "colors": list(self.colors),
                "stain": self.stain,
                "tissue": self.tissue,
                "training_data": self.training_data,
                "licence": self.licence,
                "intended_use": self.intended_use,
                "limitations": list(self.limitations),
                "citation": self.citation,
                "results": dict(self.results),
                "training": dict(self.training),
                "files": {name: file._asdict() for name, file in self.files.items()},
            },
        }

    @classmethod
    def from_config(cls, config: Any, source: str = CONFIG) -> Card:
        """Read a parsed ``config.json``; ``source`` names it in errors.

        Raises
        ------
        BundleError
            If the format version is not supported or the schema or a cross-check does not hold.
        """
        _check_version(config, source)
        _check_schema(config, source)
        ours = config["napari_ood"]
        mean, std, seen = _transform(config["transform"], config["patch_size_pixels"], source)
        texts = ("description", "stain", "tissue", "training_data", "licence", "intended_use")
        card = cls(
            name=ours["name"],
            classes=tuple(config["class_names"]),
            architecture=f"{ours['library']}:{config['architecture']}",
            tile_size=config["patch_size_pixels"],
            mpp=None if config["spacing_um_px"] is None else float(config["spacing_um_px"]),
            mean=mean,
            std=std,
            n_heads=ours["n_heads"],
            head_depth=ours.get("head_depth", 0),
            head_width=ours.get("head_width", 128),
            head_blocks=ours.get("head_blocks", 0),
            input_size=seen,
            field=ours.get("field", FIELDS[0]),
            blocks=tuple(FeatureBlock(**block) for block in ours["blocks"]),
            scores=dict(ours["scores"]),
            temperature=float(ours.get("temperature", 1.0)),
            colors=tuple(ours.get("colors", ())),
            limitations=tuple(ours.get("limitations", ())),
            citation=ours.get("citation", ""),
            results=ours.get("results", {}),
            training=ours.get("training", {}),
            files={name: BundleFile(**file) for name, file in ours["files"].items()},
            format_version=ours["format_version"],
            warnings=tuple(_unknown_keys(config)),
            **{key: ours.get(key, "") for key in texts},
        )
        _cross_check(card, config, source)
        return card


def read_card(folder: Path) -> Card:
    """Read and check ``folder/config.json``. Raises BundleError."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise BundleError(f"{path} is larger than a card can be (1 MiB): not a bundle")
        config = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a bundle: it has no {CONFIG}") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not valid JSON: {error}") from error
    return Card.from_config(config, str(path))


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _check_version(config: Any, source: str) -> None:
    ours = config.get("napari_ood") if isinstance(config, dict) else None
    if not isinstance(ours, dict):
        raise BundleError(f"{source} has no object 'napari_ood': not a napari-ood bundle")
    version = ours.get("format_version")
    if version not in SUPPORTED_VERSIONS:
        known = ", ".join(map(str, SUPPORTED_VERSIONS))
        raise BundleError(
            f"{source} has format version {version!r}; this napari-ood reads version {known}: "
            "update napari-ood or take an older release of the bundle"
        )


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    text = files("napari_ood.models").joinpath("card.schema.json").read_text("utf-8")
    return Draft202012Validator(json.loads(text))


def _check_schema(config: Any, source: str) -> None:
    error = next(iter(sorted(_validator().iter_errors(config), key=lambda e: e.json_path)), None)
    if error is not None:
        message = error.message if len(error.message) < 200 else error.message[:200] + "…"
        raise BundleError(f"{source} is not a valid card: {error.json_path}: {message}")


def _unknown_keys(config: dict[str, Any]) -> Iterator[str]:
    schema = _validator().schema
    known = schema["properties"]
    for key in config:
        if key not in known:
            yield f"unknown key {key!r} in the card is ignored"
    for key in config["napari_ood"]:
        if key not in known["napari_ood"]["properties"]:
            yield f"unknown key 'napari_ood.{key}' in the card is ignored"


def _triple(values: Any, name: str, source: str) -> tuple[float, float, float]:
    good = isinstance(values, list) and len(values) == 3
    if not good or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise BundleError(f"{source}: transform Normalize needs three numbers as {name!r}")
    return float(values[0]), float(values[1]), float(values[2])


def _transform(
    transform: list[dict[str, Any]], tile: int, source: str
) -> tuple[tuple[float, float, float], tuple[float, float, float], int]:
    """Mean, standard deviation and the size that tiles are resized to."""
    mean, std, seen = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), tile
    for step in transform:
        arguments = step.get("arguments", {})
        if step["name"] == "Resize":
            seen = _side(arguments.get("size"), source)
        if step["name"] == "Normalize":
            mean = _triple(arguments.get("mean"), "mean", source)
            std = _triple(arguments.get("std"), "std", source)
    if min(std) <= 0:
        raise BundleError(f"{source}: transform Normalize needs a positive 'std'")
    return mean, std, seen


def _side(size: Any, source: str) -> int:
    sides = size if isinstance(size, list) else [size]
    good = all(isinstance(side, int) and MIN_SIDE <= side <= MAX_SIDE for side in sides)
    if not good or len(set(sides)) != 1:
        raise BundleError(
            f"{source}: transform Resize needs one 'size' of {MIN_SIDE} to {MAX_SIDE} px"
        )
    return int(sides[0])


def _cross_check(card: Card, config: dict[str, Any], source: str) -> None:
    if config["num_classes"] != card.n_classes or len(card.colors) != card.n_classes:
        raise BundleError(f"{source}: num_classes, class_names and colors differ in number")
    if card.whole_image and card.mpp is not None:
        raise BundleError(
            f"{source}: field 'image' has no scale of its own: spacing_um_px must be null"
        )
    widest = max(card.n_features, card.head_width, card.n_classes)
    if card.n_heads * (card.head_depth + 1) * widest * card.head_width > MAX_HEAD_WEIGHTS:
        raise BundleError(f"{source}: heads of this number, depth and width don't fit in memory")
    names = [block.name for block in card.blocks]
    if len(set(names)) != len(names):
        raise BundleError(f"{source}: feature blocks share a name")
    start = 0
    for block in card.blocks:
        if block.start != start or block.stop <= start:
            raise BundleError(f"{source}: columns of feature block {block.name!r} leave a gap")
        start = block.stop
    for kind, score in card.scores.items():
        try:
            missing = parse_score(score).all_blocks - set(names)
        except ValueError as error:
            raise BundleError(f"{source}: default {kind} score: {error}") from error
        if missing:
            raise BundleError(f"{source}: score {score!r} reads features that are not stored")
