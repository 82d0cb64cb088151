"""Backbones: the real classifiers of TabPFN and TabICL with tiny random weights in their own formats, no socket, no download.

Importing the two packages takes ten seconds, so nothing else imports them; without them their tests are skipped.
"""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import re
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import nearward as nw
from nearward.risk_model.external_backbone import backbone_from_json, backbone_to_json
from nearward.tabular.backbones.context_batching import predict
from nearward.tabular.backbones.pretrained import TabICLBackbone, TabPFNBackbone, find_backbone, trivial_risk
from nearward.tabular.errors import ArtifactError, InputError, MissingWeights, NearwardError

pytestmark = pytest.mark.usefixtures("opened")

KINDS: dict[str, Any] = {"tabpfn": TabPFNBackbone, "tabicl": TabICLBackbone}
VARIABLES = {"tabpfn": "NEARWARD_TABPFN", "tabicl": "NEARWARD_TABICL"}
TABICL_FILE = "tabicl-classifier-v2-20260212.ckpt"


def write_tabpfn(path: Path, seed: int) -> None:
    """Two narrow layers of version 2's architecture, saved as its published files are."""
    import torch
    from tabpfn.architectures import tabpfn_v2

    config = tabpfn_v2.TabPFNV2Config(max_num_classes=10, num_buckets=10, emsize=16, nlayers=2, nhead=2)
    save(tabpfn_v2.get_architecture(config), asdict(config), path, torch.Generator().manual_seed(seed))


def write_tabicl(path: Path, seed: int) -> None:
    import torch
    from tabicl._model.tabicl import TabICL

    config = {"embed_dim": 16, "col_num_blocks": 1, "col_nhead": 2, "col_num_inds": 8, "row_num_blocks": 1, "row_nhead": 2}
    config |= {"row_num_cls": 2, "icl_num_blocks": 2, "icl_nhead": 2}
    save(TabICL(**config), config, path, torch.Generator().manual_seed(seed))


def save(network: Any, config: dict[str, Any], path: Path, rng: Any) -> None:
    import torch

    for weight in network.parameters():
        if weight.ndim > 1:  # the rest stays as it was made: large biases would drown what context and query say
            torch.nn.init.normal_(weight, std=0.15, generator=rng)
    torch.save({"config": config, "state_dict": network.state_dict()}, path)


WRITE = {"tabpfn": write_tabpfn, "tabicl": write_tabicl}


@pytest.fixture(scope="module", params=["tabpfn", "tabicl"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A backbone's name, and a file it can read."""
    pytest.importorskip(request.param)
    path = tmp_path_factory.mktemp(request.param) / "tiny.ckpt"
    WRITE[request.param](path, seed=0)
    return request.param, path


@pytest.fixture
def backbone(weights: tuple[str, Path]) -> Any:
    name, path = weights
    return KINDS[name](model_path=path)


@pytest.fixture(autouse=True)
def no_weights_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Both packages' cache folders are empty ones, here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if "tabpfn" in sys.modules:
        monkeypatch.setattr("tabpfn.settings.settings.tabpfn.model_cache_dir", tmp_path / "cache" / "tabpfn")
    if "huggingface_hub" in sys.modules:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    return tmp_path / "cache"


def patients(seed: int = 0, k: int = 60, q: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, a category of four levels in column 3, holes, queries with a level no context row has and one with nothing but holes."""
    rng = np.random.default_rng(seed)
    context, query = rng.normal(size=(k, 6)), rng.normal(size=(q, 6))
    context[:, 3], query[:, 3] = rng.integers(0, 4, size=k), rng.integers(0, 6, size=q)
    outcome = (context[:, 0] + rng.normal(size=k) > 0.7).astype(np.int64)
    context[rng.random(context.shape) < 0.15] = np.nan
    query[rng.random(query.shape) < 0.15] = np.nan
    query[0] = np.nan
    return context, outcome, query


# ---- what they answer ----------------------------------------------------------------------------


def test_risks_are_probabilities_that_depend_on_query_and_outcome(backbone: Any) -> None:
    context, outcome, query = patients()
    risk = backbone.risks(context, outcome, query)
    assert risk.shape == (9,)
    assert risk.dtype == np.float64
    assert ((risk >= 0) & (risk <= 1)).all()
    assert np.ptp(risk) > 1e-4
    assert np.abs(backbone.risks(context, np.random.default_rng(1).permutation(outcome), query) - risk).max() > 1e-5


def test_risks_are_what_the_package_itself_says_of_the_same_file(weights: tuple[str, Path]) -> None:
    name, path = weights
    context, outcome, query = patients()
    if name == "tabpfn":
        import torch
        from tabpfn import TabPFNClassifier

        own: dict[str, Any] = {"categorical_features_indices": [3], "inference_precision": torch.float32, "device": "cpu"}
        theirs = TabPFNClassifier(model_path=path, n_estimators=3, random_state=5, **own)
        ours = TabPFNBackbone(model_path=path, categorical=(3,), n_estimators=3, seed=5)
    else:
        from tabicl import TabICLClassifier

        theirs = TabICLClassifier(model_path=path, n_estimators=3, random_state=5, device="cpu")
        ours = TabICLBackbone(model_path=path, categorical=(3,), n_estimators=3, seed=5)
    raw = ours.risks(context, outcome, query)
    if name == "tabicl":  # which encodes a missing category so
        context[:, 3], query[:, 3] = (np.nan_to_num(rows[:, 3], nan=-1) for rows in (context, query))
    probability = theirs.fit(context, outcome).predict_proba(query)
    assert theirs.classes_.tolist() == [0, 1]
    assert raw == pytest.approx(probability[:, 1], abs=1e-7)


def test_a_query_alone_gets_the_risk_it_gets_in_a_batch(backbone: Any) -> None:
    context, outcome, query = patients(1)
    risk = backbone.risks(context, outcome, query)
    alone = np.concatenate([backbone.risks(context, outcome, query[i : i + 1]) for i in range(len(query))])
    assert alone == pytest.approx(risk, abs=2e-6)
    assert backbone.risks(context, outcome, query[::-1])[::-1] == pytest.approx(risk, abs=2e-6)


def test_answers_do_not_depend_on_earlier_calls(backbone: Any) -> None:
    context, outcome, query = patients(2)
    risk = backbone.risks(context, outcome, query)
    backbone.risks(*patients(3, k=25))
    assert (backbone.risks(context, outcome, query) == risk).all()
    assert (replace(backbone).risks(context, outcome, query) == risk).all()
    assert (replace(backbone, seed=1).risks(context, outcome, query) != risk).any()


def test_unusual_columns_and_extreme_values_are_accepted(backbone: Any) -> None:
    context, outcome, query = patients(4)
    context[:, 1] = np.nan
    context[:, 2] = 7.0
    context[:, 4] = np.where(np.arange(len(context)) % 2, np.nan, 1.0)
    context[0, 5], query[1, 5] = 1e150, -1e150  # as far as encode.py lets a value go
    assert np.isfinite(backbone.risks(context, outcome, query)).all()
    assert np.isfinite(backbone.risks(context[:, 4:5], outcome, query[:, 4:5])).all()
    two = np.array([np.argmin(outcome), np.argmax(outcome)])
    assert np.isfinite(backbone.risks(context[two], outcome[two], query)).all()
    wide = np.tile(np.random.default_rng(0).normal(size=(60, 6)), (20, 1))
    assert np.isfinite(backbone.risks(wide, np.tile(outcome, 20), query)).all()  # 1200 rows: on a CPU tabpfn itself refuses more than 1000


def test_nothing_is_printed(backbone: Any, capfd: pytest.CaptureFixture[str]) -> None:
    context, outcome, query = patients(5, k=300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.risks(context, outcome, query)
    assert capfd.readouterr() == ("", "")


def test_through_shared_contexts(backbone: Any) -> None:
    stored, outcome, query = patients(6, k=80, q=12)
    row = np.random.default_rng(0).permuted(np.tile(np.arange(30), (12, 1)), axis=1)[:, :20]
    row[6:] += 40
    risk = predict(backbone, stored, outcome, row, query, max_rows=30)
    for members, shared in ((slice(0, 6), stored[:30]), (slice(6, 12), stored[40:70])):
        known = outcome[:30] if members.start == 0 else outcome[40:70]
        assert risk[members] == pytest.approx(backbone.risks(shared, known, query[members]), abs=2e-6)


# ---- what needs no network -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TabPFNBackbone, TabICLBackbone])
def test_trivial_contexts_need_no_weights(kind: Any, tmp_path: Path) -> None:
    backbone = kind(model_path=tmp_path / "absent.ckpt")
    context, query = np.random.default_rng(0).normal(size=(9, 3)), np.zeros((4, 3))
    assert backbone.risks(context, np.zeros(9, dtype=int), query).tolist() == [0.05] * 4
    assert backbone.risks(context, np.ones(9, dtype=int), query).tolist() == [0.95] * 4
    assert backbone.risks(context[:0], np.zeros(0, dtype=int), query).tolist() == [0.5] * 4
    mixed = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0])
    same = np.tile([1.0, np.nan, 2.0], (9, 1))
    assert backbone.risks(same, mixed, query).tolist() == [0.25] * 4
    assert backbone.risks(context, mixed, query[:0]).shape == (0,)
    same[4, 2] = np.nan
    assert trivial_risk(same, mixed, 4) is None
    assert trivial_risk(context, mixed, 4) is None


@pytest.mark.parametrize("kind", [TabPFNBackbone, TabICLBackbone])
def test_rows_that_do_not_belong_together_are_refused(kind: Any) -> None:
    context, outcome, query = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1]), np.zeros((3, 2))
    infinite = query.copy()
    infinite[1, 1] = -np.inf
    for wrong, message in [
        ((context, outcome[:3], query), r"\(4, 2\), \(3,\), \(3, 2\)"),
        ((context, outcome, query[:, :1]), r"\(3, 1\)"),
        ((context, outcome, query[0]), r"\(2,\)"),
        ((context, outcome + 1, query), "outcome must be 0 or 1"),
        ((context, outcome, infinite), "infinities"),
    ]:
        with pytest.raises(InputError, match=message):
            kind().risks(*wrong)
    with pytest.raises(InputError, match=r"categorical must be column indices from 0 to 1, got \[2\]"):
        kind(categorical=(2,)).risks(context, outcome, query)


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["argument", "variable", "cache"])
def test_missing_weights_are_our_error_with_three_ways_to_mend_it(
    way: str, weights: tuple[str, Path], nothing_cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, _ = weights
    if way == "variable":
        monkeypatch.setenv(VARIABLES[name], str(tmp_path / "absent.ckpt"))
    backbone = KINDS[name](model_path=tmp_path / "absent.ckpt" if way == "argument" else None)
    for attempt in (lambda: backbone.risks(*patients()), lambda: find_backbone(backbone), backbone.weights):
        with pytest.raises(MissingWeights) as error:
            attempt()
        assert isinstance(error.value, NearwardError)
        assert isinstance(error.value, ValueError)
        message = str(error.value)
        assert "model_path=" in message
        assert f"{VARIABLES[name]}=" in message
        assert (str(nothing_cached) if name == "tabpfn" else TABICL_FILE) in message
        lacking = {"argument": "model_path='", "variable": f"{VARIABLES[name]}='", "cache": "none in its cache"}[way]
        assert lacking in message.partition(". Nothing is ever downloaded")[0]
    assert not list(nothing_cached.rglob("*.ckpt"))
    if way != "argument":
        with pytest.raises(MissingWeights):
            find_backbone(name)


def test_weights_are_searched_by_argument_then_variable_then_cache(
    weights: tuple[str, Path], nothing_cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, path = weights
    folder = nothing_cached / "tabpfn"
    cached = folder / "tabpfn-v2-classifier-finetuned-zk73skhh.ckpt"
    if name == "tabicl":
        folder = nothing_cached / "hub" / "models--jingang--TabICL"
        cached = folder / "snapshots" / "abc" / TABICL_FILE
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("abc")
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(path.read_bytes())
    named = tmp_path / "named.ckpt"
    named.write_bytes(path.read_bytes())

    assert find_backbone(name).weights() == cached.resolve()  # type: ignore[attr-defined]
    assert np.isfinite(find_backbone(name).risks(*patients())).all()
    monkeypatch.setenv(VARIABLES[name], str(named))
    assert find_backbone(name).weights() == named.resolve()  # type: ignore[attr-defined]
    assert KINDS[name](model_path=str(path)).weights() == path.resolve()


def test_a_file_is_read_once_and_again_when_it_was_replaced(
    weights: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    name, path = weights
    own = tmp_path / "own.ckpt"
    own.write_bytes(path.read_bytes())
    read, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: (read.append(file), load(file, **options))[1])
    backbone = KINDS[name](model_path=own)
    first, second = backbone.risks(*patients()), backbone.risks(*patients())
    assert len(read) == 1
    assert (first == second).all()
    WRITE[name](own, seed=1)
    os.utime(own, ns=(1, 1))
    assert (backbone.risks(*patients()) != first).any()
    assert len(read) == 2


def test_tabpfn_reads_safetensors_too(tmp_path: Path) -> None:
    pytest.importorskip("tabpfn")
    import torch
    from tabpfn.checkpoint import save_as_safetensors

    write_tabpfn(tmp_path / "tiny.ckpt", seed=0)
    save_as_safetensors(torch.load(tmp_path / "tiny.ckpt"), tmp_path / "tiny.safetensors")
    one, other = (TabPFNBackbone(tmp_path / name).risks(*patients()) for name in ("tiny.ckpt", "tiny.safetensors"))
    assert (one == other).all()


def test_reading_weights_leaves_torchs_random_numbers_alone(weights: tuple[str, Path], tmp_path: Path) -> None:
    import torch

    name, path = weights
    own = tmp_path / "own.ckpt"
    own.write_bytes(path.read_bytes())
    before = torch.random.get_rng_state()
    KINDS[name](model_path=own).risks(*patients())
    assert torch.equal(torch.random.get_rng_state(), before)


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_weights_are_not_read_while_torch_is_told_to_run_their_code(
    weights: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = weights
    path = tmp_path / "wrong.ckpt"
    path.write_bytes(pickle.dumps({"config": {}, "state_dict": Bomb(tmp_path / "crater")}, protocol=2))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(InputError, match="Unset the variable"):
        KINDS[name](model_path=path).risks(*patients())
    assert not (tmp_path / "crater").exists()


@pytest.mark.parametrize("what", ["noise", "empty", "another package's", "code"])
def test_files_that_are_no_weights_are_refused_and_nothing_in_them_is_executed(
    what: str, weights: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = weights
    path = tmp_path / "wrong.ckpt"
    if what == "another package's":
        other = "tabicl" if name == "tabpfn" else "tabpfn"
        pytest.importorskip(other)
        WRITE[other](path, seed=0)
    else:
        bomb = pickle.dumps({"config": {}, "state_dict": Bomb(tmp_path / "crater")}, protocol=2)
        path.write_bytes({"noise": b"\x00\x01weights" * 50, "empty": b"", "code": bomb}[what])
    with pytest.raises(InputError, match=re.escape(str(path))):
        KINDS[name](model_path=path).risks(*patients())
    assert not (tmp_path / "crater").exists()


def test_tabpfn_reports_to_nobody() -> None:
    """Versions before 9 depended on a telemetry package; `opened` watches what a call does."""
    pytest.importorskip("tabpfn")
    needed = " ".join(importlib.metadata.requires("tabpfn") or [])
    assert not re.search("telemetry|posthog|common-utils", needed)


# ---- in RiskClassifier ---------------------------------------------------------------------------


def cohort() -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(8)
    frame = pl.DataFrame({"age": rng.normal(60, 10, 90), "ward": rng.choice(["a", "b", "c"], 90)})
    frame = frame.with_columns(pl.when(pl.Series(rng.random(90) < 0.1)).then(None).otherwise(pl.col("age")).alias("age"))
    return frame, (rng.random(90) < np.where(frame["ward"] == "a", 0.6, 0.2)).astype(int)


def test_a_risk_model_uses_it_and_loading_checks_its_weights(
    weights: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, path = weights
    own = tmp_path / "own.ckpt"
    own.write_bytes(path.read_bytes())
    monkeypatch.setenv(VARIABLES[name], str(own))
    monkeypatch.setattr("nearward.risk_model.fitted.ranks_clearly_better", lambda *_: True)  # whatever is tried is kept
    frame, outcome = cohort()
    model = nw.RiskClassifier(backbone=name, folds=2).fit(frame[:60], outcome[:60])
    assert (model.summary_.backbone.name, model.summary_.backbone.in_use) == (name, True)
    assert model.fitted_.model.backbone.backbone.categorical == (1,)
    model.save(tmp_path / "model")
    again = nw.load(tmp_path / "model")
    assert again.backbone == name
    scored = model.predict_frame(frame[60:])
    assert again.predict_frame(frame[60:]).equals(scored)

    WRITE[name](own, seed=1)
    with pytest.raises(ArtifactError, match=f"other {name} weights than the model was fitted with. Name the right file"):
        nw.load(tmp_path / "model")
    own.unlink()
    with pytest.raises(MissingWeights, match=VARIABLES[name]):
        nw.load(tmp_path / "model")
    moved = nw.load(tmp_path / "model", backbone=KINDS[name](model_path=path))
    assert moved.predict_frame(frame[60:]).equals(scored)
    values = backbone_to_json(KINDS[name](model_path=path))
    assert "model_path" not in values
    with pytest.raises(MissingWeights, match=VARIABLES[name]):  # a path that somebody has written into the manifest is not followed
        backbone_from_json({**values, "model_path": str(path)}, None)
    with pytest.raises(MissingWeights, match="in one of three ways"):
        nw.RiskClassifier(backbone=name).fit(frame, outcome)


# ---- which backbone ------------------------------------------------------------------------------


def test_a_backbone_by_name_gets_the_categorical_columns(weights: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = weights
    monkeypatch.setenv(VARIABLES[name], str(path))
    result = find_backbone(name, categorical=[3])
    assert result == KINDS[name](categorical=(3,))
    assert result.name == name
    own = KINDS[name](model_path=path, categorical=(1,))
    assert find_backbone(own, categorical=[3]) is own
    assert find_backbone(replace(own, categorical=()), categorical=[3]) == replace(own, categorical=(3,))


class Linear:
    name = "linear"

    def risks(self, context: np.ndarray, outcome: np.ndarray, query: np.ndarray) -> np.ndarray:
        return LogisticRegression().fit(context, outcome).predict_proba(query)[:, 1]


class Nameless:
    risks = Linear.risks


class Narrow:
    name = "narrow"

    def risks(self, context: np.ndarray, query: np.ndarray) -> np.ndarray:
        return np.zeros(len(query))


def test_any_object_with_the_protocol_will_do() -> None:
    backbone = Linear()
    assert find_backbone(backbone, categorical=[0]) is backbone


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("tabpnf", "'tabpnf': did you mean 'tabpfn'?"),
        ("gpt", "must be 'embedded', 'tabpfn', 'tabicl' or"),
        (Linear, "got the class Linear; pass Linear()"),
        (TabPFNBackbone, "pass TabPFNBackbone()"),
        (LogisticRegression(), "LogisticRegression, which has no such method: wrap it"),
        (Nameless(), "Nameless, whose name is not text"),
        (Narrow(), "Narrow, whose risks takes other arguments"),
        (None, "NoneType, which has no such method (docs/guide/bring-your-own-backbone.md)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_names_and_objects_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        find_backbone(wrong)
    assert all(part in str(error.value) for part in message.removesuffix(")").split(" ("))


@pytest.mark.parametrize(("name", "module"), [("tabpfn", "tabpfn.model_loading"), ("tabicl", "tabicl")])
def test_a_package_that_is_not_installed_is_named_with_its_extra(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=re.escape(f"pip install 'nearward[{name}]'")):
        find_backbone(name)
