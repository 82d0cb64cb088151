"""Weight files of the in-context network: float16 safetensors, with a JSON card beside them that holds size and hash, checked on loading.

The shipped weights lie in ``weights/``. They were trained on synthetic cohorts only (``prior.py``), so they contain no patient data.
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
from nearward.tabular.persistence.network_weights import check_weights

Float16State = dict[str, NDArray[np.float16]]

SHIPPED = Path(__file__).parent / "weights" / "in_context.safetensors"


@cache
def load_net(path: Path = SHIPPED) -> InContextNet:
    """Load weights with their card, the shipped ones by default.

    Raises
    ------
    ArtifactError
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
        size, digest, config = card["size"], card["sha256"], card["network"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"the card of the in-context weights is corrupt ({card_path}): install nearward again") from error
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise ArtifactError(f"the in-context weights are corrupt ({path}: not the bytes that its card describes): install nearward again")
    return from_float16_state(config, safetensors.numpy.load(content))


def save_net(net: InContextNet, path: Path, card: dict[str, Any]) -> None:
    """Write weights, and ``card`` with the network's sizes and the file's hash as JSON beside them."""
    import safetensors.numpy

    content = safetensors.numpy.save(float16_state(net))
    card = {**card, "network": asdict(net.config), "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def float16_state(net: InContextNet) -> Float16State:
    """Return a network's state dict as float16 arrays."""
    return {name: value.detach().cpu().numpy().astype(np.float16) for name, value in net.state_dict().items()}


def from_float16_state(config: dict[str, int], state: Float16State) -> InContextNet:
    """Make a network of the given sizes and weights, in evaluation mode and without gradients.

    Raises
    ------
    ArtifactError
        The weights belong to another architecture.
    """
    check_weights(lambda: InContextNet(NetConfig(**config)), state)
    net = InContextNet(NetConfig(**config)).eval()
    net.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in state.items()})
    return net.requires_grad_(False)
