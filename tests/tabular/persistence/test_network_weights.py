"""Saved weights: sizes of another network, enormous sizes and values that are not finite are refused before anything is allocated."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence.network_weights import check_weights

WEIGHTS = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}


def linear(*sizes: object):
    return lambda: nn.Linear(*sizes)


def test_weights_of_the_network_are_accepted() -> None:
    check_weights(linear(3, 2), WEIGHTS)


@pytest.mark.parametrize("sizes", [(2, 3), (10**9, 10**9), (10**18, 10**18), (-1, 2), ("3", 2), (2.5, 2), (None, 2)])
def test_other_sizes_are_refused(sizes) -> None:
    with pytest.raises(ArtifactError):
        check_weights(linear(*sizes), WEIGHTS)


def test_a_billion_layers_are_refused_at_once() -> None:
    with pytest.raises(ArtifactError, match="describe no network"):
        check_weights(lambda: nn.Sequential(*(nn.Linear(3, 2) for _ in range(10**9))), WEIGHTS)
    assert nn.Linear(3, 2).weight.shape == (2, 3)  # the limit is gone


def test_missing_and_additional_weights_are_refused() -> None:
    for weights in ({"weight": WEIGHTS["weight"]}, {**WEIGHTS, "more": np.zeros(1)}):
        with pytest.raises(ArtifactError, match="another architecture"):
            check_weights(linear(3, 2), weights)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value) -> None:
    with pytest.raises(ArtifactError, match="1 of the network's 2 weight arrays"):
        check_weights(linear(3, 2), {**WEIGHTS, "bias": np.array([0.0, value], np.float32)})
