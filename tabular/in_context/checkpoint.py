"""The network's weights as files: float16 safetensors with a card beside them that names their hash; checked before use.

The shipped ones lie in ``weights/``: trained on made-up clinics only (``prior.py``), so they hold no patient.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nearward.tabular.errors import ArtifactError
from nearward.tabular.in_context.model import InContextNet, NetConfig

Halves = dict[str, NDArray[np.float16]]

SHIPPED = Path(__file__).parent / "weights" / "incontext.safetensors"


def halves(net: InContextNet) -> Halves:
    """Return a network's weights, by name, as float16."""
    return {name: value.detach().cpu().numpy().astype(np.float16) for name, value in net.state_dict().items()}


def from_halves(config: dict[str, int], weights: Halves) -> InContextNet:
    """Rebuild a network.

    Raises
    ------
    ArtefactError
        Weights of another network.
    """
    net = InContextNet(NetConfig(**config)).eval()
    try:
        net.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()})
    except RuntimeError as error:
        raise ArtifactError("these in-context weights belong to another network: were they exported by another version?") from error
    return net.requires_grad_(False)


def export(net: InContextNet, path: Path, about: dict[str, Any]) -> None:
    """Write weights, and their card (``about`` and the hash) as JSON beside them."""
    import safetensors.numpy

    content = safetensors.numpy.save(halves(net))
    card = {**about, "network": asdict(net.config), "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


@cache
def load_net(path: Path = SHIPPED) -> InContextNet:
    """Read weights and their card, the shipped ones by default.

    Raises
    ------
    ArtefactError
        A file is missing, or is not the one that the card describes.
    """
    import safetensors.numpy

    card_path = path.with_suffix(".json")
    for file in (path, card_path):
        if not file.is_file():
            raise ArtifactError(f"the in-context weights are missing ({file}): install nearward again, or choose backbone=None")
    content = path.read_bytes()
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        size, digest, network = card["size"], card["sha256"], card["network"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"the card of the in-context weights is corrupt ({card_path}): install nearward again") from error
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise ArtifactError(f"the in-context weights are corrupt ({path}: not the bytes that its card describes): install nearward again")
    return from_halves(network, safetensors.numpy.load(content))
