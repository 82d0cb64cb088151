"""The synthesizers that benchmarks/synth.py sets side by side: ours, SDV's three, sequential trees."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cart import Cart

ROOT = Path(__file__).resolve().parents[1]
OURS = "nearward"
ABLATION: dict[str, dict[str, Any]] = {}
CART = "sequential trees (CART)"
SDV = {"SDV GaussianCopula": "gaussian_copula", "SDV TVAE": "tvae", "SDV CTGAN": "ctgan"}


def generators() -> dict[str, Callable[[], Any]]:
    """Name -> maker of an unfitted synthesizer; the order is the tables'."""
    found: dict[str, Callable[[], Any]] = {name: lambda model=model: _sdv(model) for name, model in SDV.items()}
    found[CART] = Cart
    return found


def _sdv(model: str) -> Any:
    import sdv.single_table  # noqa: F401  not on the clock: it takes seconds, and is paid once

    from nearward.synth.sdv_models import SdvSynthesizer

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
