"""The synthesizers of benchmarks/synthesizers/run.py: ours, three of SDV, sequential trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from benchmarks.common.paths import ROOT, digest, source_files
from benchmarks.synthesizers.sequential_trees import Cart
from nearward.tabular.rules.rules import Rules

OURS, AGAIN = "nearward", "nearward (second seed)"
ABLATION: dict[str, dict[str, Any]] = {
    "outcome not drawn again": {"optimiser": "none", "outcome": False},
    "tilt": {"optimiser": "tilt"},
    "awr": {"optimiser": "awr"},
    "awr without reward shaping": {"optimiser": "awr", "shaping": False},
    "ppo": {"optimiser": "ppo"},
    "ppo without reward shaping": {"optimiser": "ppo", "shaping": False},
    "without rules": {"optimiser": "none", "ruled": False},
}
CART = "sequential trees (CART)"
SDV = {"SDV GaussianCopula": "gaussian_copula", "SDV TVAE": "tvae", "SDV CTGAN": "ctgan"}


def generators() -> dict[str, Callable[[], Any]]:
    """Return name -> constructor of an unfitted synthesizer, in the order of the tables."""
    makers: dict[str, Callable[[], Any]] = {name: lambda model=model: _sdv(model) for name, model in SDV.items()}
    makers[CART] = Cart
    makers[OURS] = Ours
    makers[AGAIN] = lambda: Ours(seed=1)
    for name, options in ABLATION.items():
        makers[name] = lambda options=options: Ours(**options)
    return makers


class Ours:
    """Our synthesizer without an audit holdout: the benchmark has a holdout of its own.

    ``steered`` are the training rows that discriminators and rules used, and the generator did not.
    """

    def __init__(self, ruled: bool = True, shaping: bool = True, outcome: bool = True, **how: Any) -> None:
        from nearward.synth.optimization.improvement import ImproveConfig
        from nearward.synth.synthesizer import Synthesizer

        self._model, self._ruled = Synthesizer(improving=ImproveConfig(shaping=shaping, outcome=outcome), **how), ruled

    def fit(self, train: pl.DataFrame, outcome: str, groups: str) -> Ours:
        """Fit the generator on all rows but those of discriminators and rules."""
        self._model.fit(train, outcome, groups, rules=None if self._ruled else Rules(), holdout=train.clear())
        self.rules, self.steered = self._model.rules, self._model.audit_rows.steered
        return self

    def sample(self, n: int, seed: int) -> pl.DataFrame:
        """Draw rows."""
        return self._model.sample(n, seed=seed)


def _sdv(model: str) -> Any:
    import sdv.single_table  # noqa: F401  the import takes seconds; not timed

    from nearward.synth.sdv.sdv_models import SdvSynthesizer

    return SdvSynthesizer(model)


def code_digest(name: str) -> str:
    """Return a digest of the code behind a synthesizer's tables."""
    if name in SDV:
        return digest(source_files("synth/sdv"))
    if name == CART:
        return digest([ROOT / "benchmarks" / "synthesizers" / "sequential_trees.py"])
    sdv = source_files("synth/sdv")
    return digest(path for path in source_files("synth") if path not in sdv and path.stem != "provenance")
