"""Training: an interrupted run is the uninterrupted one, a checkpoint is whole or the one before, lessons come from the seed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearward.tabular import pretrain
from nearward.tabular.incontext import InContextNet, NetConfig
from nearward.tabular.pretrain import CHECKPOINT, RunConfig, Trainer, draw_lesson, held_out_ratios, resume, save, task_losses, train
from nearward.tabular.prior import FAMILIES
from nearward.tabular.rehearsal import Lesson

TINY = NetConfig(width=32, heads=2, blocks=1, hidden=32)


def trainer(seed: int = 0, steps: int = 40) -> Trainer:
    return Trainer(RunConfig(seed, steps, 512), TINY, "cpu")


def advance(run: Trainer, steps: int) -> list[tuple[str, float]]:
    return [run.advance() for _ in range(steps)]


def same(a: Trainer, b: Trainer) -> bool:
    """Parameters, averages and the optimisers' memory, bit for bit."""
    one, two = a.state(), b.state()
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.fixture
def one_lesson(monkeypatch: pytest.MonkeyPatch) -> Lesson:
    """Every step is on this lesson, and the rate warms up in ten."""
    drawn = draw_lesson(5, 1, 512, "cpu", "additive")
    monkeypatch.setattr(pretrain, "draw_lesson", lambda *_: drawn)
    monkeypatch.setattr(pretrain, "_WARM", 10)
    return drawn[1]


# ---- interrupted runs ----------------------------------------------------------------------------


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = trainer()
    losses = advance(whole, 6)
    begun = trainer()
    assert advance(begun, 3) == losses[:3]
    save(begun, tmp_path, 12.0)
    torch.manual_seed(99)  # whatever happens in between
    gone_on, seconds = resume(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")
    assert (gone_on.step, seconds) == (3, 12.0)
    assert same(gone_on, begun)
    assert advance(gone_on, 3) == losses[3:]
    assert same(gone_on, whole)
    assert not same(gone_on, begun)


def test_another_seed_is_another_run() -> None:
    one, two = trainer(0), trainer(1)
    assert not same(one, two)
    assert advance(one, 2) != advance(two, 2)


def test_a_run_begins_where_there_is_no_checkpoint_and_may_be_made_longer(tmp_path: Path) -> None:
    begun, seconds = resume(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")
    assert (begun.step, seconds) == (0, 0.0)
    assert same(begun, trainer())
    advance(begun, 1)
    save(begun, tmp_path, 1.0)
    longer, _ = resume(tmp_path, RunConfig(0, 400, 512), NetConfig(), "cpu")
    assert longer.run.steps == 400
    assert longer.net.config == TINY  # the checkpoint's network, whatever the default


def test_another_seed_is_refused(tmp_path: Path) -> None:
    begun = trainer(seed=3)
    advance(begun, 1)
    save(begun, tmp_path, 1.0)
    with pytest.raises(SystemExit, match="seed 3: use that seed, or another --out"):
        resume(tmp_path, RunConfig(4, 40, 512), TINY, "cpu")


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
    again, seconds = resume(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")
    assert (again.step, seconds) == (1, 5.0)
    advance(again, 1)
    save(again, tmp_path, 6.0)
    assert resume(tmp_path, RunConfig(0, 40, 512), TINY, "cpu")[0].step == 2


def test_a_checkpoint_of_the_shipped_size_is_small(tmp_path: Path) -> None:
    run = Trainer(RunConfig(0, 40, 256), NetConfig(), "cpu")
    run.advance()
    save(run, tmp_path, 1.0)
    assert 4_000_000 < (tmp_path / CHECKPOINT).stat().st_size <= 16_000_000


def test_a_run_stops_at_its_steps_or_its_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "held_out_ratios", lambda *_: dict.fromkeys(FAMILIES, 0.75))
    lines: list[dict[str, Any]] = []
    run = trainer(steps=3)
    train(run, tmp_path, 0.0, minutes=0.0, tell=lines.append)
    assert run.step == 0
    train(run, tmp_path, 0.0, minutes=math.inf, tell=lines.append)
    assert run.step == 3
    assert [line["step"] for line in lines] == [0, 3]
    assert lines[-1]["mean"] == 0.75
    assert lines[-1]["held_out"].keys() == set(FAMILIES)
    over, _ = resume(tmp_path, RunConfig(0, 3, 512), TINY, "cpu")
    train(over, tmp_path, 0.0, minutes=math.inf, tell=lines.append)
    assert over.step == 3
    assert same(over, run)


# ---- steps ---------------------------------------------------------------------------------------


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [pretrain._rate(step, 20_000) for step in range(20_001)]
    assert rates[0] == pytest.approx(1 / 200)
    assert rates[99] == pytest.approx(0.5)
    assert set(rates[199:16_001]) == {1.0}
    assert rates[18_000] == pytest.approx(0.5)
    assert rates[20_000] == 0
    assert (np.diff(rates[:200]) > 0).all()
    assert (np.diff(rates[16_000:]) < 0).all()
    assert pretrain._rate(50, 10) == 0  # past the end


def test_optimisers_take_the_rate_of_the_step_and_share_out_the_parameters() -> None:
    run = trainer()
    advance(run, 2)
    assert [group["lr"] for optimiser in run.optimisers for group in optimiser.param_groups] == pytest.approx(
        [2e-3 * 2 / 200, 1e-3 * 2 / 200]
    )
    names = {id(parameter): name for name, parameter in run.net.named_parameters()}
    muon, adam = ([names[id(p)] for group in optimiser.param_groups for p in group["params"]] for optimiser in run.optimisers)
    assert sorted(muon + adam) == sorted(names.values())
    assert "looks.0.asks.weight" in muon
    assert {"read.weight", "outcome.weight", "trust.weight", "looks.0.asks.bias", "nearness"} <= set(adam)


def test_the_average_follows_the_parameters() -> None:
    """After the first step the average is 1/11 of the beginning and 10/11 of the first step."""
    run = trainer()
    begin = {name: value.detach().clone() for name, value in run.net.named_parameters()}
    advance(run, 1)
    averaged = dict(run.averaged().named_parameters())
    for name, value in run.net.named_parameters():
        assert torch.allclose(averaged[name], begin[name] / 11 + value * 10 / 11, atol=1e-6), name
    assert not torch.equal(averaged["trust.bias"], run.net.trust.bias)


def test_a_lesson_gone_over_again_and_again_is_learned(one_lesson: Lesson) -> None:
    run = trainer(steps=1000)
    begin = task_losses(run.net, one_lesson).mean()
    ratios = [ratio for _, ratio in advance(run, 60)]
    assert ratios[0] > 0.6
    assert ratios[-1] < 0.5 * ratios[0]
    assert task_losses(run.averaged(), one_lesson).mean() < 0.7 * begin


def test_a_loss_is_the_mean_log_loss_of_a_tasks_queries() -> None:
    _, lesson = draw_lesson(0, 0, 512, "cpu", "ehr")
    torch.manual_seed(0)
    net = InContextNet(TINY)
    near = lesson.near
    vote = net(lesson.query, net.tokens(lesson.stored, lesson.known), lesson.known, near.apart, near.inside, near.floored)
    risk = vote.log_odds.sigmoid().double()
    by_hand = -torch.where(lesson.outcome == 1, risk, 1 - risk).log().mean(dim=1)
    assert task_losses(net, lesson).tolist() == pytest.approx(by_hand.tolist(), rel=0.02)  # bfloat16


# ---- lessons -------------------------------------------------------------------------------------


def test_lessons_follow_from_seed_and_step() -> None:
    (family, first), (again, same_lesson) = (draw_lesson(0, 7, 512, "cpu") for _ in range(2))
    assert family == again
    assert torch.equal(first.query.inputs, same_lesson.query.inputs)
    assert torch.equal(first.near.apart, same_lesson.near.apart)
    for seed, step in ((0, 8), (1, 7)):
        other = draw_lesson(seed, step, 512, "cpu", family)[1]
        assert other.query.inputs.shape != first.query.inputs.shape or not torch.equal(other.query.inputs, first.query.inputs)


def test_lessons_are_of_every_family_and_many_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "draw_tables", lambda *asked: asked)
    monkeypatch.setattr(pretrain, "prepare", lambda tables, stored, neighbours, dice: (tables, stored, neighbours))
    plans = [draw_lesson(0, step, 8192, "cpu") for step in range(3000)]
    families = Counter(family for family, _ in plans)
    assert set(families) == set(FAMILIES)
    assert min(families.values()) > 400
    often = Counter(stored for _, (_, stored, _) in plans)
    assert {stored: count / 3000 for stored, count in often.items()} == pytest.approx(dict(pretrain._SHAPES), abs=0.03)
    for family, ((drawn, tasks, rows, columns, _), stored, neighbours) in plans:
        assert drawn == family
        assert tasks * stored == 8192
        assert rows - stored == max(16, stored // 8)
        assert 2 <= columns <= (128 if stored <= 512 else 48)
        assert 32 <= neighbours <= stored // 2
    assert {columns for _, ((_, _, _, columns, _), _, _) in plans} >= {2, 3, 10, 30, 100}


def test_held_out_lessons_are_the_same_each_time_and_never_trained_on() -> None:
    net = InContextNet(TINY).eval()
    first, again = (held_out_ratios(net, "cpu", batches=1, rows=256) for _ in range(2))
    assert first == again
    assert set(first) == set(FAMILIES)
    assert all(0 < ratio < 5 for ratio in first.values())  # of one task each
    assert len(set(first.values())) == len(FAMILIES)
    trained = [draw_lesson(0, step, 256, "cpu", "rules")[1].query.inputs for step in range(5)]
    held_out = draw_lesson(pretrain._HELD_OUT, 0, 256, "cpu", "rules")[1].query.inputs
    assert torch.equal(held_out, draw_lesson(pretrain._HELD_OUT, 0, 256, "cpu", "rules")[1].query.inputs)
    assert not any(held_out.shape == lesson.shape and torch.equal(held_out, lesson) for lesson in trained)


# ---- the command ---------------------------------------------------------------------------------


def command(*words: str) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, "-m", "nearward.tabular.pretrain", "--rows", "512", "--threads", "1", "--device", "cpu", *words]
    return subprocess.run(asked, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_trains_writes_and_goes_on(tmp_path: Path) -> None:
    done = command("--out", str(tmp_path / "run"), "--steps", "3")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "run" / CHECKPOINT) as arrays:
        about = json.loads(str(arrays["about"]))
    assert about["step"] == 3
    assert about["run"] == {"seed": 0, "steps": 3, "rows": 512}
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert line == json.loads(done.stdout)
    assert line["step"] == 3
    assert all(0.3 < ratio < 1.2 for ratio in line["held_out"].values())
    assert line["held_out"].keys() == set(FAMILIES)

    refused = command("--out", str(tmp_path / "run"), "--steps", "4", "--seed", "1")
    assert refused.returncode != 0
    assert "use that seed" in refused.stderr
    assert refused.stdout == ""
