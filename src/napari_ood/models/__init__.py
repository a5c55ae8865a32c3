"""Models: multi-head network, bundle with its reference, zoo, devices.

Names are resolved on first use; importing this package loads no torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.models.bundle import Bundle, open_bundle
    from napari_ood.models.card import Card, FeatureBlock, read_card
    from napari_ood.models.device import Device, available_devices, resolve_device
    from napari_ood.models.memory import reuse_freed_memory
    from napari_ood.models.network import BlockSpec, MultiHeadNet
    from napari_ood.models.prepared import InferenceNet, normalise, prepare_for_inference
    from napari_ood.models.reference import Reference
    from napari_ood.models.saving import add_to_bundle, save_bundle
    from napari_ood.models.zoo import BundleEntry, bundle_folders, list_bundles, load_bundle

# Before torch is loaded, as its OpenMP (libgomp) reads this once: threads that wait for each other
# spin 300,000 times by default, and beside readers, a window or any busy program they hold the
# cores that the ones they wait for need. Measured on two cores with lymph-node-he, tiles/s:
#   spins        network alone   beside a busy process   engine
#   100,000          1,067           not done in 60 s       134
#   1,000            1,099                557               656
#   0 (asleep)         872                619               602
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_HOME = {
    "Bundle": "bundle",
    "open_bundle": "bundle",
    "Card": "card",
    "FeatureBlock": "card",
    "read_card": "card",
    "Device": "device",
    "available_devices": "device",
    "resolve_device": "device",
    "reuse_freed_memory": "memory",
    "BlockSpec": "network",
    "MultiHeadNet": "network",
    "InferenceNet": "prepared",
    "normalise": "prepared",
    "prepare_for_inference": "prepared",
    "Reference": "reference",
    "add_to_bundle": "saving",
    "save_bundle": "saving",
    "BundleEntry": "zoo",
    "bundle_folders": "zoo",
    "list_bundles": "zoo",
    "load_bundle": "zoo",
}

__all__ = [
    "BlockSpec",
    "Bundle",
    "BundleEntry",
    "Card",
    "Device",
    "FeatureBlock",
    "InferenceNet",
    "MultiHeadNet",
    "Reference",
    "add_to_bundle",
    "available_devices",
    "bundle_folders",
    "list_bundles",
    "load_bundle",
    "normalise",
    "open_bundle",
    "prepare_for_inference",
    "read_card",
    "resolve_device",
    "reuse_freed_memory",
    "save_bundle",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
