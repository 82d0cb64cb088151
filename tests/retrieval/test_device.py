"""The device: a GPU that works, else the CPU and the reason, once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from nearward.retrieval.device import find_device


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    find_device.cache_clear()
    yield
    find_device.cache_clear()


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("CUDA driver version is insufficient\nmore")


@pytest.mark.parametrize(
    ("cuda", "available", "reason"),
    [
        (None, False, "this build of torch has no GPU code"),
        ("12.8", False, "torch finds none (driver, CUDA_VISIBLE_DEVICES)"),
        ("12.8", True, "it does not work (CUDA driver version is insufficient)"),
    ],
)
def test_a_fallback_says_why_once(monkeypatch, caplog, cuda: str | None, available: bool, reason: str) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch, "zeros", broken)
    with caplog.at_level(logging.INFO):
        assert [find_device().type, find_device().type] == ["cpu", "cpu"]
    assert caplog.messages == [f"exact search and encoder training: on the CPU; GPU: {reason}"]


def test_a_gpu_that_works_is_used(monkeypatch, caplog) -> None:
    zeros = torch.zeros
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")
    monkeypatch.setattr(torch, "zeros", lambda size, device: zeros(size, device="cpu" if device else device))
    with caplog.at_level(logging.INFO):
        assert find_device() == torch.device("cuda")
    assert caplog.messages == ["exact search and encoder training: on H200"]
