"""Pretrain the in-context network on synthetic cohorts, in chunks of any length.

    nearward-pretrain --out run --steps 20000 --minutes 55                            # one hour; the same command again: the next hour
    nearward-pretrain --out run --steps 20000 --export in_context.safetensors         # to the end, then export; already ended: export only
    nearward-pretrain --out run --steps 20000 --minutes 0 --export now.safetensors    # export the current average without a step
    nearward-pretrain --out run --steps 40000                                         # more steps later
    nearward-pretrain --out other --start in_context.safetensors --seed 1             # a new run that starts from exported weights
    nearward-pretrain --out run --rows 131072 --device cuda                           # on a GPU
    python -m nearward.tabular.in_context.pretrain --help                             # the same command without an installed script

Every step samples new tasks of one family, seeded by the run's seed and the step, so an interrupted run continues with the same
numbers. Muon optimises the matrices of the blocks, AdamW all other parameters. The learning rate warms up, stays constant, and decays to
zero over the last fifth of ``--steps``. ``--export`` writes the exponential moving average of the weights as float16, and beside it a card
(``.json``) with the steps, the seconds, the seed and the losses on held-out tasks.

Only torch and numpy are imported (and safetensors for ``--start`` and ``--export``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.in_context.episodes import Episode, make_episode
from nearward.tabular.in_context.model import InContextNet, NetConfig
from nearward.tabular.in_context.prior import FAMILIES, TaskRng, sample_tables

CHECKPOINT = "checkpoint.npz"
_HOLDOUT_SEED = 1 << 40  # runs train on seeds below
_WARMUP, _DECAY_SHARE = 200, 0.2  # steps; share of all steps
_MUON_RATE, _ADAM_RATE, _WEIGHT_DECAY = 2e-3, 1e-3, 0.01
_EMA_DECAY = 0.998
_ENTROPY_POWER = 0.75  # a task's loss is divided by its entropy to this power: rare outcomes count, yet one event does not dominate a batch
_STORED_ROWS = ((128, 0.1), (256, 0.25), (512, 0.4), (1024, 0.2), (2048, 0.05))  # and their probabilities
_SAVE_EVERY, _LOG_EVERY, _EVALUATE_EVERY = 120, 250, 2000  # seconds, steps, steps


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Pretrain the in-context network on synthetic cohorts, in chunks of any length.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint and log; continued where it exists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20_000, help="step at which the learning rate reaches zero")
    parser.add_argument("--rows", type=int, default=8_192, help="stored rows per step; 131072 suits a GPU")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command continues the run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's default, usually one per core")
    parser.add_argument("--start", type=Path, metavar="FILE.safetensors", help="start a new run from weights that --export wrote")
    parser.add_argument("--export", type=Path, metavar="FILE.safetensors", help="at the end write the averaged weights here, float16")
    options = parser.parse_args()
    if options.export and options.export.suffix != ".safetensors":
        parser.error(f"--export {options.export}: name it .safetensors; a card of the same name goes beside it as .json")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    run = RunConfig(options.seed, options.steps, options.rows)
    trainer, before = load_or_start(options.out, run, NetConfig(), options.device, options.start)
    with (options.out / "log.jsonl").open("a", encoding="utf-8") as log_file:

        def log(line: dict[str, Any]) -> None:
            for stream in (sys.stdout, log_file):
                print(json.dumps(line), file=stream, flush=True)

        seconds, losses = train(trainer, options.out, before, options.minutes, log)
    if options.export:
        export_average(trainer, options.export, seconds, losses)


@dataclass(frozen=True)
class RunConfig:
    """A training run.

    Parameters
    ----------
    seed : int
    steps : int
        Step at which the learning rate reaches zero.
    rows : int
        Stored rows per step, over all its tasks: 8,192 for a core, 131,072 for a GPU.
    """

    seed: int = 0
    steps: int = 20_000
    rows: int = 8_192


def train(
    trainer: Trainer, folder: Path, before: float, minutes: float, log: Callable[[dict[str, Any]], None]
) -> tuple[float, dict[str, float]]:
    """Train until the steps or the minutes are over; save every two minutes and at the end, log every 250 steps.

    Returns the total seconds and the held-out losses at the end. If no step remains, the checkpoint is not touched.
    """
    first_step, saved_at, seconds = trainer.step, 0.0, 0.0
    recent: dict[str, list[float]] = {family: [] for family in FAMILIES}

    def evaluate() -> dict[str, float]:
        losses = holdout_losses(trainer.averaged(), trainer.device)
        log({"step": trainer.step, "held_out": _rounded(losses), "mean": round(sum(losses.values()) / len(losses), 4)})
        return losses

    for seconds in _steps(trainer, minutes):
        family, loss = trainer.advance()
        recent[family].append(loss)
        if trainer.step % _LOG_EVERY == 0:
            mean = _rounded({name: sum(losses) / len(losses) for name, losses in recent.items() if losses})
            log({"step": trainer.step, "seconds": round(before + seconds), "loss_over_base": mean})
            recent = {name: [] for name in FAMILIES}
        if trainer.step % _EVALUATE_EVERY == 0:
            evaluate()
        if seconds - saved_at > _SAVE_EVERY:
            save(trainer, folder, before + seconds)
            saved_at = seconds
    if trainer.step > first_step:
        save(trainer, folder, before + seconds)
    return before + seconds, evaluate()


def _steps(trainer: Trainer, minutes: float) -> Iterator[float]:
    """Yield the elapsed seconds before each step, until the steps or the minutes are over."""
    start = time.monotonic()
    while trainer.step < trainer.run.steps and (seconds := time.monotonic() - start) < 60 * minutes:
        yield seconds


class Trainer:
    """The network, its moving average, the optimisers and the current step."""

    def __init__(self, run: RunConfig, net: NetConfig, device: str) -> None:
        torch.manual_seed(run.seed)
        self.run, self.device, self.step = run, torch.device(device), 0
        self.start = ""  # hash of the weights that the run started from
        self.net = InContextNet(net).to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.net.named_parameters()}
        blocks = ("row_mlp_blocks", "cross_attention", "mlp_blocks")
        matrices = {n: p for n, p in self.net.named_parameters() if p.ndim == 2 and n.split(".")[0] in blocks}
        others = [p for n, p in self.net.named_parameters() if n not in matrices]
        muon = torch.optim.Muon(matrices.values(), lr=_MUON_RATE, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
        adam = torch.optim.AdamW(others, lr=_ADAM_RATE, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98))
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (muon, adam)

    def advance(self) -> tuple[str, float]:
        """Take one step; returns the tasks' family and the loss relative to the base rate's."""
        family, episode = sample_episode(self.run.seed, self.step, self.run.rows, self.device)
        schedule = _schedule(self.step, self.run.steps)
        for optimizer, peak in zip(self.optimizers, (_MUON_RATE, _ADAM_RATE), strict=True):
            for parameter_group in optimizer.param_groups:
                parameter_group["lr"] = peak * schedule
            optimizer.zero_grad(set_to_none=True)
        loss = task_losses(self.net, episode)
        (loss / episode.entropy**_ENTROPY_POWER).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        decay = min(_EMA_DECAY, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                self.average[name].lerp_(value, 1 - decay)
        return family, float((loss.detach() / episode.entropy).mean())

    def averaged(self) -> InContextNet:
        """Return the network with the averaged weights."""
        net = InContextNet(self.net.config).to(self.device).eval()
        net.load_state_dict(self.average)
        return net

    def state(self) -> dict[str, np.ndarray]:
        """Return everything needed to continue, as arrays."""
        arrays = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        arrays |= {f"average.{name}": value for name, value in self.average.items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, moments in optimizer.state_dict()["state"].items():
                arrays |= {f"optimizer.{i}.{j}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        return {name: value.detach().cpu().numpy() for name, value in arrays.items()}

    def load_state(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Continue from ``state``."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        self.net.load_state_dict({n.removeprefix("net."): v for n, v in tensors.items() if n.startswith("net.")})
        self.average = {n.removeprefix("average."): v.to(self.device) for n, v in tensors.items() if n.startswith("average.")}
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith(f"optimizer.{i}."):
                    _, _, j, moment = name.split(".")
                    state.setdefault(int(j), {})[moment] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.step = step


def _schedule(step: int, steps: int) -> float:
    """Warm up, stay, decay to zero over the last fifth."""
    return max(0.0, min(1.0, (step + 1) / _WARMUP, (steps - step) / (_DECAY_SHARE * steps)))


def sample_episode(seed: int, step: int, rows: int, device: torch.device | str, family: str | None = None) -> tuple[str, Episode]:
    """Sample the tasks of a step, all of one family and one shape."""
    plan = random.Random(f"{seed} {step}")
    family = family or plan.choice(FAMILIES)
    stored = plan.choices([n for n, _ in _STORED_ROWS], [probability for _, probability in _STORED_ROWS])[0]
    tasks = max(1, rows // stored)
    queries = max(16, stored // 8)
    columns = round(math.exp(plan.uniform(math.log(2), math.log(128 if stored <= 512 else 48))))
    neighbors = min(plan.choice((32, 64, 128, 128, 192)), stored // 2)
    rng = TaskRng(plan.getrandbits(48), device)
    return family, make_episode(sample_tables(family, tasks, stored + queries, columns, rng), stored, neighbors, rng)


def task_losses(net: InContextNet, episode: Episode) -> Tensor:
    """Return each task's mean log-loss on its queries (b,), nats."""
    outcome, neighbors = episode.stored_outcome, episode.neighbors
    with torch.autocast(outcome.device.type, torch.bfloat16):
        token = net.tokens(episode.stored, outcome)
        vote = net(episode.query, token, outcome, neighbors.sq_distance, neighbors.mask, neighbors.floored)
    return F.binary_cross_entropy_with_logits(vote.log_odds.float(), episode.query_outcome.float(), reduction="none").mean(dim=1)


def holdout_losses(net: InContextNet, device: torch.device | str, batches: int = 4, rows: int = 8_192) -> dict[str, float]:
    """Loss relative to the base rate's, by family, on tasks that no run trains on."""
    losses = {}
    with torch.inference_mode():
        for family in FAMILIES:
            episodes = (sample_episode(_HOLDOUT_SEED, step, rows, device, family)[1] for step in range(batches))
            losses[family] = float(torch.cat([task_losses(net, episode) / episode.entropy for episode in episodes]).mean())
    return losses


# ---- files ------------------------------------------------------------------------------------------------------------------------


def load_or_start(folder: Path, run: RunConfig, net: NetConfig, device: str, start: Path | None = None) -> tuple[Trainer, float]:
    """Load the run in a folder or, where there is none, start it, from exported weights if given; returns also the seconds so far."""
    path = folder / CHECKPOINT
    if not path.exists():
        return (start_from_weights(start, run, device) if start else Trainer(run, net, device)), 0.0
    with np.load(path) as arrays:
        about = json.loads(str(arrays["about"]))
        if about["run"]["seed"] != run.seed:
            raise SystemExit(f"{path} is a run with seed {about['run']['seed']}: use that seed, or another --out")
        if start and about.get("start") != _hash(start):
            raise SystemExit(f"{path} is a run that did not begin from {start}: leave --start out to continue it, or use another --out")
        trainer = Trainer(run, NetConfig(**about["net"]), device)
        trainer.start = about.get("start", "")
        trainer.load_state({name: arrays[name] for name in arrays.files if name != "about"}, about["step"])
    return trainer, float(about["seconds"])


def save(trainer: Trainer, folder: Path, seconds: float) -> None:
    """Write the checkpoint; the previous one stays until this one is complete."""
    about = {"run": vars(trainer.run), "net": vars(trainer.net.config), "step": trainer.step, "seconds": round(seconds)}
    about |= {"start": trainer.start} if trainer.start else {}
    with replacing(folder / CHECKPOINT) as temporary, temporary.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **trainer.state())  # type: ignore[arg-type]


def start_from_weights(start: Path, run: RunConfig, device: str) -> Trainer:
    """Start a run from exported weights; optimisers and learning rate start afresh."""
    from nearward.tabular.errors import ArtifactError
    from nearward.tabular.in_context.checkpoint import load_net

    try:
        weights = load_net(start)
    except ArtifactError as error:
        raise SystemExit(f"--start {start}: not whole, or not written by --export of this version with its card beside it") from error
    trainer = Trainer(run, weights.config, device)
    trainer.net.load_state_dict(weights.state_dict())
    trainer.average = {name: value.detach().clone() for name, value in trainer.net.named_parameters()}
    trainer.start = _hash(start)
    return trainer


def export_average(trainer: Trainer, path: Path, seconds: float, losses: dict[str, float]) -> None:
    """Write the averaged weights as float16, with a card."""
    from nearward.tabular.in_context.checkpoint import save_net

    card = {
        "steps": trainer.step,
        "seconds": round(seconds),
        "seed": trainer.run.seed,
        "rows_per_step": trainer.run.rows,
        "loss_over_base": _rounded(losses),
        "trained_on": "synthetic cohorts only (nearward.tabular.in_context.prior); no patient",
    }
    save_net(trainer.averaged(), path, card | ({"start": trainer.start} if trainer.start else {}))


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"


def _rounded(losses: dict[str, float]) -> dict[str, float]:
    return {family: round(loss, 4) for family, loss in losses.items()}


if __name__ == "__main__":
    main()
