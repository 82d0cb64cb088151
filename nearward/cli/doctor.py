"""``nearward doctor``: the facts about an installation that a bug report needs, and a short test of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nearward.cli.terminal.console import Json
from nearward.cli.terminal.output import say, show, write_json

_CORE = ("polars", "numpy", "scipy", "scikit-learn", "lightgbm", "torch", "typer")
_EXTRAS = {  # distribution -> extra of nearward
    "tabpfn": "tabpfn",
    "tabicl": "tabicl",
    "catboost": "catboost",
    "imbalanced-learn": "imbalanced",
    "sdv": "sdv",
    "ray": "distributed",
}
_GPU_RECIPE = "pip uninstall -y faiss-cpu && pip install 'faiss-gpu-cu12>=1.13,<2'"


def doctor(
    test: Annotated[bool, typer.Option("--test/--no-test", help="Fit, save and load a small model.")] = True,
    json: Json = None,
) -> None:
    """Print what a bug report needs.

    Versions, cores, GPU, FAISS build, weights of backbones and a self-test of ten seconds; no data and no paths of yours.

    \b
    Examples:
      nearward doctor
      nearward doctor --no-test --json -
    """
    facts = {
        "machine": _machine(),
        "packages": _packages(),
        "gpu": _gpu(),
        "weights": _weights(),
    }
    for title, part in facts.items():
        _show(title, part)
    if test:
        facts["self-test"] = _self_test()
        _show("self-test", facts["self-test"])
    write_json(facts, json)
    if test and not facts["self-test"]["result"].startswith("passed"):
        raise typer.Exit(3)


def _show(title: str, facts: dict[str, str]) -> None:
    import polars as pl

    show(pl.DataFrame([*facts.items()], schema=[title, "value"], orient="row"))


def _machine() -> dict[str, str]:
    from nearward.tabular.operating_system import machine_memory
    from nearward.tabular.parallel import cpu_count

    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT") if name in os.environ}
    cores = f"{os.cpu_count()}, of which nearward uses {cpu_count()} (affinity, quota of the container"
    return {
        "nearward": importlib.metadata.version("nearward"),
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": cores + "".join(f", {name}={value}" for name, value in limits.items()) + ")",
        "memory": f"{machine_memory() / 1e9:.1f} GB",
    }


def _packages() -> dict[str, str]:
    installed = {distribution.metadata["Name"].lower(): distribution.version for distribution in importlib.metadata.distributions()}
    faiss = {name: version for name, version in installed.items() if name.startswith("faiss")}
    packages = {name: installed.get(name, "missing") for name in _CORE} | faiss
    return packages | {name: installed.get(name, f"not installed (pip install 'nearward[{extra}]')") for name, extra in _EXTRAS.items()}


def _gpu() -> dict[str, str]:
    import faiss
    import torch

    from nearward.retrieval.device import find_device

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    where = "the GPU" if find_device().type == "cuda" else "the CPU"
    of_torch = {"GPUs of torch": ", ".join(names) or "none", "exact search, encoder training": f"on {where}"}
    build = f"{faiss.__version__}, {faiss.get_compile_options().strip().lower() or 'generic'}"
    if not hasattr(faiss, "StandardGpuResources"):
        advice = f"for more than 100,000 rows a shard (Linux, CUDA 12): {_GPU_RECIPE}" if names else "none is needed: no GPU is here"
        return {**of_torch, "FAISS": f"{build}; searches on the CPU", "GPU build of FAISS": advice}
    found = faiss.get_num_gpus()
    where = f"{found} GPU{'s' * (found > 1)}" if found else "the CPU: this GPU build finds no GPU (driver, CUDA_VISIBLE_DEVICES)"
    return {**of_torch, "FAISS": f"{build}; searches on {where}"}


def _weights() -> dict[str, str]:
    from nearward.tabular.backbones.weights import find_tabicl, find_tabpfn
    from nearward.tabular.in_context.checkpoint import SHIPPED

    return {
        "embedded": f"shipped, {SHIPPED.with_suffix('.safetensors').stat().st_size / 1e6:.1f} MB",
        "TabPFN": _find(find_tabpfn),
        "TabICL": _find(find_tabicl),
    }


def _find(search: Callable[[Any], Path]) -> str:
    """Return the name of a weight file, or why there is none; never a folder, which may name a person."""
    from nearward.tabular.errors import InputError, MissingWeights

    try:
        return f"found: {search(None).name}"
    except MissingWeights:
        return "no file here (docs/guide/bring-your-own-backbone.md)"
    except InputError:
        return "package not installed"
    except Exception as error:  # a broken installation of an optional package is a finding
        return f"cannot be imported: {type(error).__name__}"


def _self_test() -> dict[str, str]:
    """Fit a model on made-up rows, save it, load it and score again."""
    import numpy as np
    import polars as pl

    from nearward.risk_model.classifier import RiskClassifier

    say("fitting a small model …")
    started = time.monotonic()
    rng = np.random.default_rng(0)
    age, lactate = rng.normal(60, 10, 200), rng.gamma(2, 1, 200)
    died = (rng.random(200) < 1 / (1 + np.exp(4 - 0.03 * age - 0.6 * lactate))).astype(int)
    rows = pl.DataFrame({"age": age, "lactate": lactate, "unit": rng.choice(["a", "b"], 200)})
    try:
        model = RiskClassifier(random_state=0, backbone=None).fit(rows, died)
        scores = model.predict_frame(rows)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model")
            same = RiskClassifier.load(Path(folder) / "model").predict_frame(rows).equals(scores)
    except Exception as error:  # the finding of this test
        return {"result": f"FAILED: {type(error).__name__}: {error}"}
    seconds = time.monotonic() - started
    return {"result": f"{'passed' if same else 'FAILED: the loaded model gives other scores'}, {seconds:.1f} s"}
