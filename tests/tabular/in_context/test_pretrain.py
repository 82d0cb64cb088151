"""Pretraining: interrupted equals uninterrupted, atomic checkpoints, episodes by seed, and exported weights are the average."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearward.tabular.in_context import pretrain
from nearward.tabular.in_context.checkpoint import load_net
from nearward.tabular.in_context.episodes import Episode
from nearward.tabular.in_context.model import InContextNet, NetConfig
from nearward.tabular.in_context.pretrain import (
    CHECKPOINT,
    RunConfig,
    Trainer,
    export_average,
    holdout_losses,
    load_or_start,
    sample_episode,
    save,
    start_from_weights,
    task_losses,
    train,
)
from nearward.tabular.in_context.prior import FAMILIES

TINY = NetConfig(width=32, heads=2, blocks=1, hidden=32)
LOSSES = {family: 0.5 + i / 10 for i, family in enumerate(FAMILIES)}


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    """Small steps are faster with one thread, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(seed: int = 0, steps: int = 40) -> Trainer:
    return Trainer(RunConfig(seed, steps, 512), TINY, "cpu")


def advance(run: Trainer, steps: int) -> list[tuple[str, float]]:
    return [run.advance() for _ in range(steps)]


def same(a: Trainer, b: Trainer) -> bool:
    """Parameters, averages and the optimizers' state, bit for bit."""
    one, two = a.state(), b.state()
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.fixture
def without_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the held-out losses by constants."""
    monkeypatch.setattr(pretrain, "holdout_losses", lambda *_: LOSSES)


@pytest.fixture
def one_episode(monkeypatch: pytest.MonkeyPatch) -> Episode:
    """Every step is on this episode, and the learning rate warms up in ten steps."""
    episode = sample_episode(5, 1, 512, "cpu", "additive")
    monkeypatch.setattr(pretrain, "sample_episode", lambda *_: episode)
    monkeypatch.setattr(pretrain, "_WARMUP", 10)
    return episode[1]


# ---- interrupted runs ----------------------------------------------------------------------------


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = trainer()
    losses = advance(whole, 4)
    begun = trainer()
    assert advance(begun, 2) == losses[:2]
    save(begun, tmp_path, 12.0)
    torch.manual_seed(99)  # whatever happens in between
    continued, seconds = load_or_start(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")
    assert (continued.step, seconds) == (2, 12.0)
    assert same(continued, begun)
    assert advance(continued, 2) == losses[2:]
    assert same(continued, whole)
    assert not same(continued, begun)


def test_another_seed_is_another_run() -> None:
    one, two = trainer(0), trainer(1)
    assert not same(one, two)
    assert advance(one, 2) != advance(two, 2)


def test_a_run_starts_without_a_checkpoint_and_can_be_extended(tmp_path: Path) -> None:
    begun, seconds = load_or_start(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")
    assert (begun.step, seconds) == (0, 0.0)
    assert same(begun, trainer())
    advance(begun, 1)
    save(begun, tmp_path, 1.0)
    longer, _ = load_or_start(tmp_path, RunConfig(0, 400, 512), NetConfig(), "cpu")
    assert longer.run.steps == 400
    assert longer.net.config == TINY  # the checkpoint's network, whatever the default


def test_another_seed_is_refused(tmp_path: Path) -> None:
    begun = trainer(seed=3)
    advance(begun, 1)
    save(begun, tmp_path, 1.0)
    with pytest.raises(SystemExit, match="seed 3: use that seed, or another --out"):
        load_or_start(tmp_path, RunConfig(4, 40, 512), TINY, "cpu")


def test_a_run_killed_while_it_writes_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer()
    advance(run, 1)
    save(run, tmp_path, 5.0)
    before = (tmp_path / CHECKPOINT).read_bytes()
    advance(run, 1)

    def half(file: Any, **_: Any) -> None:
        file.write(before[: len(before) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(np, "savez", half)
        with pytest.raises(KeyboardInterrupt):
            save(run, tmp_path, 6.0)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    again, seconds = load_or_start(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")
    assert (again.step, seconds) == (1, 5.0)
    advance(again, 1)
    save(again, tmp_path, 6.0)
    assert load_or_start(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")[0].step == 2


def test_a_checkpoint_of_the_shipped_size_is_small(tmp_path: Path) -> None:
    run = Trainer(RunConfig(0, 40, 256), NetConfig(), "cpu")
    run.advance()
    save(run, tmp_path, 1.0)
    assert 4_000_000 < (tmp_path / CHECKPOINT).stat().st_size <= 16_000_000


@pytest.mark.usefixtures("without_evaluation")
def test_a_run_stops_at_its_steps_or_its_minutes(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    run = trainer(steps=3)
    assert train(run, tmp_path, 7.0, minutes=0.0, log=lines.append) == (7.0, LOSSES)
    assert run.step == 0
    assert not (tmp_path / CHECKPOINT).exists()
    seconds, _ = train(run, tmp_path, 7.0, minutes=math.inf, log=lines.append)
    assert run.step == 3
    assert 7 < seconds < 60
    assert lines == [{"step": step, "held_out": pytest.approx(LOSSES), "mean": 0.75} for step in (0, 3)]
    written = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    over, before = load_or_start(tmp_path, RunConfig(0, 3, 512), TINY, "cpu")
    assert train(over, tmp_path, before, minutes=math.inf, log=lines.append) == (before, LOSSES)
    assert over.step == 3
    assert same(over, run)
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == written


@pytest.mark.usefixtures("without_evaluation")
def test_a_run_logs_its_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With empty steps: a line every 250 with the mean since the last, and one per evaluation on held-out tasks."""
    run = trainer(steps=2100)

    def advance() -> tuple[str, float]:
        run.step += 1
        return ("rules", 1.0) if run.step <= 250 else ("ehr", 2.0 + run.step % 2)

    monkeypatch.setattr(run, "advance", advance)
    lines: list[dict[str, Any]] = []
    train(run, tmp_path, 100.0, math.inf, lines.append)
    assert [line["step"] for line in lines] == [250, 500, 750, 1000, 1250, 1500, 1750, 2000, 2000, 2100]
    assert [line["loss_over_base"] for line in lines[:3]] == [{"rules": 1.0}, {"ehr": 2.5}, {"ehr": 2.5}]
    assert all(100 <= line["seconds"] < 160 for line in lines[:8])
    assert ["held_out" in line for line in lines[6:]] == [False, False, True, True]


# ---- steps ---------------------------------------------------------------------------------------


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [pretrain._schedule(step, 20_000) for step in range(20_001)]
    assert rates[0] == pytest.approx(1 / 200)
    assert rates[99] == pytest.approx(0.5)
    assert set(rates[199:16_001]) == {1.0}
    assert rates[18_000] == pytest.approx(0.5)
    assert rates[20_000] == 0
    assert (np.diff(rates[:200]) > 0).all()
    assert (np.diff(rates[16_000:]) < 0).all()
    assert pretrain._schedule(50, 10) == 0  # past the end


def test_optimizers_take_the_rate_of_the_step_and_divide_the_parameters() -> None:
    run = trainer()
    advance(run, 2)
    assert [group["lr"] for optimizer in run.optimizers for group in optimizer.param_groups] == pytest.approx(
        [2e-3 * 2 / 200, 1e-3 * 2 / 200]
    )
    names = {id(parameter): name for name, parameter in run.net.named_parameters()}
    muon, adam = ([names[id(p)] for group in optimizer.param_groups for p in group["params"]] for optimizer in run.optimizers)
    assert sorted(muon + adam) == sorted(names.values())
    assert "cross_attention.0.query_proj.weight" in muon
    assert {
        "input_proj.weight",
        "outcome_proj.weight",
        "expert_weighting.weight",
        "cross_attention.0.query_proj.bias",
        "distance_penalty",
    } <= set(adam)


def test_the_average_follows_the_parameters() -> None:
    """After the first step the average is 1/11 of the beginning and 10/11 of the first step."""
    run = trainer()
    begin = {name: value.detach().clone() for name, value in run.net.named_parameters()}
    advance(run, 1)
    averaged = dict(run.averaged().named_parameters())
    for name, value in run.net.named_parameters():
        assert torch.allclose(averaged[name], begin[name] / 11 + value * 10 / 11, atol=1e-6), name
    assert not torch.equal(averaged["expert_weighting.bias"], run.net.expert_weighting.bias)


def test_a_repeated_episode_is_overfitted(one_episode: Episode) -> None:
    run = trainer(steps=1000)
    begin = task_losses(run.net, one_episode).mean()
    losses = [loss for _, loss in advance(run, 60)]
    assert losses[0] > 0.6
    assert losses[-1] < 0.5 * losses[0]
    assert task_losses(run.averaged(), one_episode).mean() < 0.7 * begin


def test_a_loss_is_the_mean_log_loss_of_a_tasks_queries() -> None:
    _, episode = sample_episode(0, 0, 512, "cpu", "ehr")
    torch.manual_seed(0)
    net = InContextNet(TINY)
    neighbors = episode.neighbors
    vote = net(
        episode.query,
        net.tokens(episode.stored, episode.stored_outcome),
        episode.stored_outcome,
        neighbors.sq_distance,
        neighbors.mask,
        neighbors.floored,
    )
    risk = vote.log_odds.sigmoid().double()
    by_hand = -torch.where(episode.query_outcome == 1, risk, 1 - risk).log().mean(dim=1)
    assert task_losses(net, episode).tolist() == pytest.approx(by_hand.tolist(), rel=0.02)  # bfloat16


# ---- episodes -------------------------------------------------------------------------------------


def test_episodes_follow_from_seed_and_step() -> None:
    (family, first), (again, same_episode) = (sample_episode(0, 7, 512, "cpu") for _ in range(2))
    assert family == again
    assert torch.equal(first.query.inputs, same_episode.query.inputs)
    assert torch.equal(first.neighbors.sq_distance, same_episode.neighbors.sq_distance)
    for seed, step in ((0, 8), (1, 7)):
        other = sample_episode(seed, step, 512, "cpu", family)[1]
        assert other.query.inputs.shape != first.query.inputs.shape or not torch.equal(other.query.inputs, first.query.inputs)


def test_episodes_are_of_every_family_and_many_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "sample_tables", lambda *arguments: arguments)
    monkeypatch.setattr(pretrain, "make_episode", lambda tables, stored, neighbours, rng: (tables, stored, neighbours))
    plans = [sample_episode(0, step, 8192, "cpu") for step in range(3000)]
    families = Counter(family for family, _ in plans)
    assert set(families) == set(FAMILIES)
    assert min(families.values()) > 400
    often = Counter(stored for _, (_, stored, _) in plans)
    assert {stored: count / 3000 for stored, count in often.items()} == pytest.approx(dict(pretrain._STORED_ROWS), abs=0.03)
    for family, ((drawn, tasks, rows, columns, _), stored, neighbours) in plans:
        assert drawn == family
        assert tasks * stored == 8192
        assert rows - stored == max(16, stored // 8)
        assert 2 <= columns <= (128 if stored <= 512 else 48)
        assert 32 <= neighbours <= stored // 2
    assert {columns for _, ((_, _, _, columns, _), _, _) in plans} >= {2, 3, 10, 30, 100}


def test_holdout_episodes_are_fixed_and_not_trained_on() -> None:
    net = InContextNet(TINY).eval()
    first, again = (holdout_losses(net, "cpu", batches=1, rows=256) for _ in range(2))
    assert first == again
    assert set(first) == set(FAMILIES)
    assert all(0 < loss < 5 for loss in first.values())  # of one task each
    assert len(set(first.values())) == len(FAMILIES)
    trained = [sample_episode(0, step, 256, "cpu", "rules")[1].query.inputs for step in range(5)]
    holdout = sample_episode(pretrain._HOLDOUT_SEED, 0, 256, "cpu", "rules")[1].query.inputs
    assert torch.equal(holdout, sample_episode(pretrain._HOLDOUT_SEED, 0, 256, "cpu", "rules")[1].query.inputs)
    assert not any(holdout.shape == episode.shape and torch.equal(holdout, episode) for episode in trained)


# ---- exported weights ----------------------------------------------------------------------------


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Trainer, Path]:
    """A run of two steps, and its average as a file."""
    run, path = trainer(), tmp_path / "out" / "tiny.safetensors"
    advance(run, 2)
    export_average(run, path, 12.4, LOSSES)
    return run, path


def test_exported_weights_are_the_average_in_float16_with_a_card(exported: tuple[Trainer, Path]) -> None:
    run, path = exported
    loaded = load_net(path)
    assert loaded.config == TINY
    for name, value in loaded.named_parameters():
        assert torch.equal(value, run.average[name].half().float()), name
    assert any(not torch.equal(value, value.half().float()) for value in run.average.values())
    card = json.loads(path.with_suffix(".json").read_text())
    assert {name: card[name] for name in ("steps", "seconds", "seed", "rows_per_step")} == {
        "steps": 2, "seconds": 12, "seed": 0, "rows_per_step": 512,
    }  # fmt: skip
    assert card["loss_over_base"] == pytest.approx(LOSSES)
    assert "no patient" in card["trained_on"]
    assert "start" not in card


def test_a_run_starts_from_exported_weights(exported: tuple[Trainer, Path], tmp_path: Path) -> None:
    """The first forward pass is the exported network's, of its sizes; the average is too, all else starts afresh."""
    _, path = exported
    begun, seconds = load_or_start(tmp_path, RunConfig(5, 40, 512), NetConfig(), "cpu", path)
    assert (begun.step, seconds, begun.run.seed, begun.net.config) == (0, 0.0, 5, TINY)
    episode = sample_episode(5, 0, 512, "cpu")[1]
    for net in (begun.net, begun.averaged()):
        assert torch.equal(task_losses(net, episode), task_losses(load_net(path), episode))
    assert not torch.equal(task_losses(begun.net, episode), task_losses(trainer(5).net, episode))
    assert not any(name.startswith("optimizer.") for name in begun.state())
    before = [value.clone() for value in load_net(path).parameters()]
    advance(begun, 2)
    assert not torch.equal(begun.net.expert_weighting.bias, load_net(path).expert_weighting.bias)
    assert all(torch.equal(a, b) for a, b in zip(before, load_net(path).parameters(), strict=True))


def test_the_same_command_continues_a_started_run(exported: tuple[Trainer, Path], tmp_path: Path) -> None:
    _, path = exported
    begun = start_from_weights(path, RunConfig(5, 40, 512), "cpu")
    advance(begun, 1)
    save(begun, tmp_path, 3.0)
    for start in (path, None):
        continued, seconds = load_or_start(tmp_path, RunConfig(5, 40, 512), NetConfig(), "cpu", start)
        assert (continued.step, seconds) == (1, 3.0)
        assert same(continued, begun)
    export_average(continued, tmp_path / "next.safetensors", seconds, LOSSES)
    sha256 = {name: json.loads((tmp_path / name).read_text())["sha256"] for name in ("out/tiny.json", "next.json")}
    assert json.loads((tmp_path / "next.json").read_text())["start"] == sha256["out/tiny.json"]
    with pytest.raises(SystemExit, match=r"did not begin from .*next\.safetensors: leave --start out"):
        load_or_start(tmp_path, RunConfig(5, 40, 512), NetConfig(), "cpu", tmp_path / "next.safetensors")


def test_a_checkpoint_with_another_start_is_refused(exported: tuple[Trainer, Path], tmp_path: Path) -> None:
    run, path = exported
    save(run, tmp_path, 3.0)
    for start in (path, tmp_path / "nowhere.safetensors"):
        with pytest.raises(SystemExit, match=r"did not begin from .* or use another --out"):
            load_or_start(tmp_path, RunConfig(0, 40, 512), NetConfig(), "cpu", start)


def test_incomplete_weights_are_refused_as_a_start(exported: tuple[Trainer, Path], tmp_path: Path) -> None:
    _, path = exported
    with pytest.raises(SystemExit, match=r"nowhere\.safetensors: not whole, or not written by --export"):
        start_from_weights(tmp_path / "nowhere.safetensors", RunConfig(), "cpu")
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"\0\0")
    with pytest.raises(SystemExit, match=r"tiny\.safetensors: not whole"):
        start_from_weights(path, RunConfig(), "cpu")
    path.write_bytes(content)
    start_from_weights(path, RunConfig(), "cpu")
    path.with_suffix(".json").unlink()
    load_net.cache_clear()
    with pytest.raises(SystemExit, match="card beside it"):
        start_from_weights(path, RunConfig(), "cpu")


# ---- the command ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_evaluation")
@pytest.mark.parametrize("stop", [["--steps", "2"], ["--steps", "40", "--minutes", "0"]], ids=["at the end", "no minutes"])
def test_a_run_that_takes_no_step_just_exports(
    exported: tuple[Trainer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: list[str]
) -> None:
    run, before = exported
    save(run, tmp_path, 20.0)
    checkpoint = (tmp_path / CHECKPOINT).read_bytes()
    again = tmp_path / "again.safetensors"
    monkeypatch.setattr(sys, "argv", ["nearward-pretrain", "--out", str(tmp_path), "--export", str(again), "--device", "cpu", *stop])
    pretrain.main()
    assert again.read_bytes() == before.read_bytes()
    assert json.loads(again.with_suffix(".json").read_text())["seconds"] == 20
    assert (tmp_path / CHECKPOINT).read_bytes() == checkpoint


def test_an_export_that_its_card_would_overwrite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nearward-pretrain", "--out", str(tmp_path / "run"), "--export", str(tmp_path / "net.json")])
    with pytest.raises(SystemExit, match="2"):
        pretrain.main()
    assert "name it .safetensors" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()  # before anything is begun


def command(*words: str) -> subprocess.CompletedProcess[str]:
    command_line = [
        sys.executable,
        "-m",
        "nearward.tabular.in_context.pretrain",
        "--rows",
        "512",
        "--threads",
        "1",
        "--device",
        "cpu",
        *words,
    ]
    return subprocess.run(command_line, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_trains_writes_and_continues(tmp_path: Path) -> None:
    done = command("--out", str(tmp_path / "run"), "--steps", "3", "--export", str(tmp_path / "net.safetensors"))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "run" / CHECKPOINT) as arrays:
        about = json.loads(str(arrays["about"]))
    assert about["step"] == 3
    assert about["run"] == {"seed": 0, "steps": 3, "rows": 512}
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert line == json.loads(done.stdout)
    assert line["step"] == 3
    assert all(0.3 < loss < 1.2 for loss in line["held_out"].values())
    assert line["held_out"].keys() == set(FAMILIES)
    assert json.loads((tmp_path / "net.json").read_text())["loss_over_base"] == line["held_out"]

    begun = command("--out", str(tmp_path / "next"), "--steps", "1", "--start", str(tmp_path / "net.safetensors"))
    assert begun.returncode == 0, begun.stderr
    assert json.loads(begun.stdout)["step"] == 1

    refused = command("--out", str(tmp_path / "run"), "--steps", "4", "--seed", "1")
    assert refused.returncode != 0
    assert "use that seed" in refused.stderr
    assert refused.stdout == ""
