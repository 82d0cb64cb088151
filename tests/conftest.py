"""Fixtures that several test files ask for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# One thread a process: threads that share two cores with another worker's wait for each other, at work, most of the time. Not by
# OMP_THREAD_LIMIT: FAISS's OpenBLAS then waits for a second thread for ever. Before numpy is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import polars as pl
import pytest

# The files that take longest, in about that order: one that begins last is waited for by all other workers.
LONG = [
    *("evaluation/synthetic/test_card", "evaluation/privacy_attacks/test_membership", "nearward/cli/scoring/test_score"),
    *("nearward/risk_model/test_classifier", "evaluation/risk/test_interval_coverage", "integration/test_cli"),
    *("nearward/risk_model/test_in_context", "synth/test_synthesizer", "synth/sdv/test_sdv_models"),
    *("tabular/in_context/test_pretrain", "retrieval/encoders/test_self_supervised", "integration/test_batch_kill"),
    *("retrieval/neighbors/test_binary", "integration/test_sklearn", "synth/optimization/test_improvement"),
]


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist, where it is there, hand out files in the order of ``LONG``, not by how many tests they have."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: position for position, name in enumerate(LONG)}
    tests = Path(__file__).parent
    items.sort(key=lambda item: rank.get(item.path.relative_to(tests).with_suffix("").as_posix(), len(LONG)))


@pytest.fixture(scope="session")
def cohort_folder() -> Path:
    """The folder of public cohorts (Parquet tables with JSON sidecars); without it the test is skipped."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NEARWARD_DATA", beside))
    if not any(folder.glob("*.parquet")):
        pytest.skip(f"no public cohorts (*.parquet) in {folder}: set NEARWARD_DATA")
    return folder


# Forks a process for each command line that it reads: three seconds of imports are paid once. Only other packages are imported
# beforehand, and not Polars, whose threads a fork does not survive: what a command itself must import, it must still import.
_FORK_SERVER = """
import json, os, sys
import faiss, lightgbm, rich.console, scipy.optimize, scipy.stats, sklearn.ensemble, sklearn.linear_model, torch, typer
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        for descriptor, path in enumerate((os.devnull, request["stdout"], request["stderr"])):
            os.dup2(os.open(path, os.O_RDWR), descriptor)
        sys.argv = request["command"]
        from nearward.cli.main import main
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def nearward(tmp_path_factory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """The command in a process of its own: its words, its folder, the exit code that it must end with; never a traceback.

    On Linux the process is forked from one with the heavy imports, unless ``new_process`` or an argument of ``subprocess.run`` is given.
    """
    server: list[subprocess.Popen[str]] = []
    output = tmp_path_factory.mktemp("output")

    def fork(command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        if not server:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            server.append(subprocess.Popen([sys.executable, "-c", _FORK_SERVER], **pipes))
        files = {name: output / name for name in ("stdout", "stderr")}
        for file in files.values():
            file.write_text("")
        request = {"command": command, "cwd": str(cwd), "env": env, **{name: str(file) for name, file in files.items()}}
        server[0].stdin.write(json.dumps(request) + "\n")
        server[0].stdin.flush()
        code = int(server[0].stdout.readline())
        return subprocess.CompletedProcess(command, code, **{name: file.read_text() for name, file in files.items()})

    def run(*words: object, cwd: Path, code: int = 0, new_process: bool = False, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "nearward"), *map(str, words)]
        env = {**os.environ, "COLUMNS": "200"}
        if new_process or more or sys.platform != "linux":
            done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env, check=False, **more)
        else:
            done = fork(command, cwd, env)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    yield run
    for process in server:
        process.communicate()


@pytest.fixture(scope="session")
def clinic() -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """A made-up clinic of 700 visits of 500 patients: numbers, categories, holes, an outcome in about one of eight."""
    draw = np.random.default_rng(7)
    n = 700
    patient = draw.integers(0, 500, n)
    age, lactate = draw.normal(60, 12, n), np.exp(draw.normal(0.3, 0.6, n))
    ward = draw.choice(["ICU", "medical", "surgical"], n, p=[0.2, 0.5, 0.3])
    signal = 0.05 * (age - 60) + 1.2 * np.log(lactate) + 1.0 * (ward == "ICU") - 3.0
    died = (draw.random(n) < 1 / (1 + np.exp(-signal))).astype(int)
    holes = draw.random(n) < 0.2
    frame = pl.DataFrame(
        {
            "age": age,
            "lactate": [None if hole else value for hole, value in zip(holes, lactate.tolist(), strict=True)],
            "ward": ward.tolist(),
            "diabetic": (draw.random(n) < 0.3).tolist(),
            "sofa": (signal + draw.normal(0, 1, n)).round(1),
        }
    )
    return frame, died, patient


@pytest.fixture(scope="session")
def fitted(clinic):
    """A model of the made-up clinic, its encoders trained briefly."""
    from nearward.retrieval.encoders.aware import EncoderConfig
    from nearward.risk_model.classifier import RiskClassifier

    frame, died, patient = clinic
    return RiskClassifier(random_state=3, encoder=EncoderConfig(steps=40), experts=["sofa"]).fit(
        frame[:500], died[:500], groups=patient[:500]
    )


@pytest.fixture(scope="session")
def ward_model(tmp_path_factory):
    """Events and labels of a made-up ward, a model of them, trained briefly, and its folder."""
    import nearward as nw
    from nearward.datasets import ward_events

    events, labels = ward_events(160, seed=2)
    features = nw.EventFeatures(spans=("24h", None), min_subjects=30)
    classifier = nw.RiskClassifier(random_state=0, encoder=nw.EncoderConfig(steps=20), backbone=None, folds=3)
    model = nw.EventRisk(features, classifier).fit(events, labels[:120])
    folder = tmp_path_factory.mktemp("ward") / "model"
    model.save(folder)
    return events, labels, model, folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No socket is opened: who tries is refused, and the test fails even if he swallows the refusal."""
    tried: list[str] = []

    def refuse(what: str) -> Any:
        def refused(*_: Any, **__: Any) -> None:
            tried.append(what)
            raise OSError(f"{what} in a test without a network")

        return refused

    for method in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, method, refuse(method))
    for function in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, function, refuse(function))
    yield
    assert not tried


@pytest.fixture(scope="session")
def ward() -> Callable[[int, int], pl.DataFrame]:
    """Rows of a made-up ward, as many as asked for by a seed: fresh patients every time, and rules that all of them keep.

    Diastolic pressure is below systolic, fluids add up, each unit belongs to one ward, lactate and pH are measured together.
    """

    def admit(n: int, seed: int) -> pl.DataFrame:
        draw = np.random.default_rng(seed)
        age, dbp = draw.normal(62, 13, n).round(1), draw.normal(75, 11, n).round()
        sbp = (dbp + draw.gamma(5, 9, n)).round()
        place = draw.choice(["ICU", "medical", "surgical"], n, p=[0.2, 0.5, 0.3])
        unit = np.where(place == "ICU", draw.choice(["A", "B"], n), np.where(place == "medical", "C", draw.choice(["D", "E"], n)))
        creatinine = np.exp(draw.normal(0, 0.45, n) + 0.008 * (age - 62)).round(2)
        lactate = np.exp(draw.normal(0.3, 0.6, n) + 0.4 * (place == "ICU")).round(2)
        urine, drains = draw.gamma(3, 400, n).round(), draw.gamma(2, 500, n).round()
        ill = 0.06 * (age - 62) + 1.3 * np.log(lactate) + 1.3 * (place == "ICU") + 1.2 * np.log(creatinine) - 2.6 - 0.03 * (sbp - 120)
        measured = draw.random(n) < 0.75
        return pl.DataFrame(
            {
                "age": age,
                "sex": draw.choice(["f", "m"], n).tolist(),
                "ward": place.tolist(),
                "unit": unit.tolist(),
                "dbp": dbp,
                "sbp": sbp,
                "creatinine": creatinine,
                "urea": (creatinine * 5 + draw.gamma(3, 1, n)).round(1),
                "lactate": lactate,
                "ph": (7.4 - 0.05 * lactate + draw.normal(0, 0.05, n)).round(2),
                "drains": drains,
                "urine": urine,
                "output": drains + urine,
                "died": (draw.random(n) < 1 / (1 + np.exp(-ill))).astype(int),
            }
        ).with_columns(pl.when(pl.Series(measured)).then(pl.col("lactate", "ph")))

    return admit
