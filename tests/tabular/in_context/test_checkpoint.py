"""The shipped weights: small, described by their card, checked on loading."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nearward.tabular.errors import ArtifactError
from nearward.tabular.in_context.checkpoint import SHIPPED, float16_state, from_float16_state, load_net, save_net
from nearward.tabular.in_context.model import InContextNet, NetConfig


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for file in (SHIPPED, SHIPPED.with_suffix(".json")):
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path / SHIPPED.name


def test_shipped_weights_are_small_and_their_card_describes_them() -> None:
    assert SHIPPED.stat().st_size <= 4e6
    assert sum(p.numel() for p in load_net().parameters()) <= 1_000_000
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert "no patient" in card["trained_on"]
    assert card["steps"] > 1000
    assert set(card["loss_over_base"]) == {"dag", "layers", "additive", "trees", "rules", "ehr"}


def test_shipped_weights_were_trained(copied: Path) -> None:
    """An untrained network weights every expert equally and attends to no row in particular."""
    net = load_net(copied)
    assert net.expert_weighting.weight.abs().max() > 0.01
    assert net.vote_query_proj.weight.abs().max() > 0.01


def test_weights_are_saved_and_loaded_as_float16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = InContextNet(NetConfig(width=16, heads=2, blocks=1, hidden=32))
    save_net(net, tmp_path / "new" / "tiny.safetensors", {"steps": 7})
    back = load_net(tmp_path / "new" / "tiny.safetensors")
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name].numpy(), value.half().float().numpy())
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    assert json.loads((tmp_path / "new" / "tiny.json").read_text())["steps"] == 7


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_file_is_named(copied: Path, suffix: str) -> None:
    copied.with_suffix(suffix).unlink()
    with pytest.raises(ArtifactError, match=r"weights are missing \(.*install nearward again, or choose backbone=None"):
        load_net(copied)


@pytest.mark.parametrize("harm", ["a bit flipped", "cut short", "empty"])
def test_corrupt_weights_are_refused(copied: Path, harm: str) -> None:
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes({"a bit flipped": bytes(content), "cut short": copied.read_bytes()[:-1], "empty": b""}[harm])
    with pytest.raises(ArtifactError, match="not the bytes that its card describes"):
        load_net(copied)


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"size": 1, "sha256": "x"}'])
def test_an_incomplete_card_is_refused(copied: Path, card: str) -> None:
    copied.with_suffix(".json").write_text(card)
    with pytest.raises(ArtifactError, match="card of the in-context weights is corrupt"):
        load_net(copied)


def test_weights_of_another_network_are_refused() -> None:
    tiny = InContextNet(NetConfig(width=16, heads=2, blocks=1, hidden=32))
    with pytest.raises(ArtifactError, match="belong to another architecture"):
        from_float16_state({"width": 32, "heads": 2, "blocks": 1, "hidden": 32}, float16_state(tiny))
