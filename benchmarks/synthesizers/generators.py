"""The synthesizers that benchmarks/synthesizers/run.py sets side by side: ours, SDV's three, sequential trees."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.synthesizers.sequential_trees import Cart
from nearward.tabular.rules.rules import Rules

ROOT = Path(__file__).resolve().parents[1]
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
    """Name -> maker of an unfitted synthesizer; the order is the tables'."""
    found: dict[str, Callable[[], Any]] = {name: lambda model=model: _sdv(model) for name, model in SDV.items()}
    found[CART] = Cart
    found[OURS] = Ours
    found[AGAIN] = lambda: Ours(seed=1)
    for name, how in ABLATION.items():
        found[name] = lambda how=how: Ours(**how)
    return found


class Ours:
    """Our synthesizer, judged elsewhere: the benchmark holds its own patients out, so none of what it gives is set aside for that.

    ``steered`` holds the rows that it was given and did not learn from.
    """

    def __init__(self, ruled: bool = True, shaping: bool = True, outcome: bool = True, **how: Any) -> None:
        from nearward.synth.optimization.improvement import ImproveConfig
        from nearward.synth.synthesizer import Synthesizer

        self._model, self._ruled = Synthesizer(improving=ImproveConfig(shaping=shaping, outcome=outcome), **how), ruled

    def fit(self, train: pl.DataFrame, outcome: str, groups: str) -> Ours:
        """Learn all of the rows but those that critics and rules need."""
        self._model.fit(train, outcome, groups, rules=None if self._ruled else Rules(), holdout=train.clear())
        self.rules, self.steered = self._model.rules, self._model.audit_rows.steered
        return self

    def sample(self, n: int, seed: int) -> pl.DataFrame:
        """Draw rows."""
        return self._model.sample(n, seed=seed)


def _sdv(model: str) -> Any:
    import sdv.single_table  # noqa: F401  not on the clock: it takes seconds, and is paid once

    from nearward.synth.sdv.sdv_models import SdvSynthesizer

    return SdvSynthesizer(model)


def digest(name: str) -> str:
    """Eight letters that change with the code behind a synthesizer's tables."""
    if name in SDV:
        files = [ROOT / "synth" / part for part in ("sdv_models.py", "sdv_frames.py")]
    elif name == CART:
        files = [ROOT / "benchmarks" / "cart.py"]
    else:
        files = sorted(path for path in (ROOT / "synth").glob("*.py") if not path.stem.startswith(("sdv_", "stamp")))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]
