"""Train the in-context network on made-up clinics, in chunks of any length.

    nearward-pretrain --out run --steps 20000 --minutes 55                            # an hour of it; again: the next hour
    nearward-pretrain --out run --steps 20000 --export incontext.safetensors          # to the end; at the end already: exports, no more
    nearward-pretrain --out run --steps 20000 --minutes 0 --export now.safetensors    # the average as it is, without a step
    nearward-pretrain --out run --steps 40000                                         # more steps later
    nearward-pretrain --out other --start incontext.safetensors --seed 1              # a new run that begins where another ended
    nearward-pretrain --out run --rows 131072 --device cuda                           # on a GPU
    python -m nearward.tabular.in_context.pretrain --help                                        # the same command, where no script was installed

Every step draws fresh tasks of one family from a seed that follows from the run's seed and the step, so a run that was killed goes on
to the same numbers. Muon moves the matrices of the blocks, AdamW the rest; the learning rate warms up, stays, and falls to zero over the
last fifth of ``--steps``; what is kept is the exponential moving average of the weights. ``--export`` writes that average as float16,
and beside it a card (``.json``) with the steps, the seconds, the seed and the held-out losses.

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
from nearward.tabular.in_context.episodes import Episode, prepare
from nearward.tabular.in_context.model import InContextNet, NetConfig
from nearward.tabular.in_context.prior import FAMILIES, TaskRng, draw_tables

CHECKPOINT = "checkpoint.npz"
_HELD_OUT = 1 << 40  # seeds from here on are never trained on
_WARM, _FALL = 200, 0.2  # steps; share of all steps
_MUON_RATE, _ADAM_RATE, _DECAY = 2e-3, 1e-3, 0.01
_AVERAGE = 0.998  # of the weights, a step
_RARE = 0.75  # a task's loss is divided by its entropy to this power: rare outcomes count, one event does not rule a batch
_SHAPES = ((128, 0.1), (256, 0.25), (512, 0.4), (1024, 0.2), (2048, 0.05))  # stored rows, and how often


@dataclass(frozen=True)
class RunConfig:
    """A training run.

    Parameters
    ----------
    seed : int
    steps : int
        Where the learning rate reaches zero.
    rows : int
        Stored rows a step, over all its tasks: 8,192 for a core, 131,072 for a GPU.
    """

    seed: int = 0
    steps: int = 20_000
    rows: int = 8_192


class Trainer:
    """Network, average, optimisers and the step they are at."""

    def __init__(self, run: RunConfig, net: NetConfig, device: str) -> None:
        torch.manual_seed(run.seed)
        self.run, self.device, self.step = run, torch.device(device), 0
        self.start = ""  # hash of the weights that the run began from
        self.net = InContextNet(net).to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.net.named_parameters()}
        inner = {n: p for n, p in self.net.named_parameters() if p.ndim == 2 and n.split(".")[0] in ("rows", "looks", "thoughts")}
        outer = [p for n, p in self.net.named_parameters() if n not in inner]
        muon = torch.optim.Muon(inner.values(), lr=_MUON_RATE, weight_decay=_DECAY, adjust_lr_fn="match_rms_adamw")
        adam = torch.optim.AdamW(outer, lr=_ADAM_RATE, weight_decay=_DECAY, betas=(0.9, 0.98))
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (muon, adam)

    def advance(self) -> tuple[str, float]:
        """Take one step; returns the family it was on and the loss over what the prevalence alone costs."""
        family, lesson = draw_episode(self.run.seed, self.step, self.run.rows, self.device)
        rate = _rate(self.step, self.run.steps)
        for optimiser, peak in zip(self.optimisers, (_MUON_RATE, _ADAM_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate
            optimiser.zero_grad(set_to_none=True)
        loss = task_losses(self.net, lesson)
        (loss / lesson.entropy**_RARE).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        keep = min(_AVERAGE, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                self.average[name].lerp_(value, 1 - keep)
        return family, float((loss.detach() / lesson.entropy).mean())

    def state(self) -> dict[str, np.ndarray]:
        """Return all that continuing needs, as arrays."""
        arrays = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        arrays |= {f"average.{name}": value for name, value in self.average.items()}
        for i, optimiser in enumerate(self.optimisers):
            for j, slots in optimiser.state_dict()["state"].items():
                arrays |= {f"optimiser.{i}.{j}.{name}": torch.as_tensor(value) for name, value in slots.items()}
        return {name: value.detach().cpu().numpy() for name, value in arrays.items()}

    def restore(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Continue from ``state``."""
        told = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        self.net.load_state_dict({n.removeprefix("net."): v for n, v in told.items() if n.startswith("net.")})
        self.average = {n.removeprefix("average."): v.to(self.device) for n, v in told.items() if n.startswith("average.")}
        for i, optimiser in enumerate(self.optimisers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in told.items():
                if name.startswith(f"optimiser.{i}."):
                    _, _, j, slot = name.split(".")
                    state.setdefault(int(j), {})[slot] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self.step = step

    def averaged(self) -> InContextNet:
        """Return the network with the averaged weights."""
        net = InContextNet(self.net.config).to(self.device).eval()
        net.load_state_dict(self.average)
        return net


def draw_episode(seed: int, step: int, rows: int, device: torch.device | str, family: str | None = None) -> tuple[str, Episode]:
    """Draw the tasks of a step: one family, one shape."""
    plan = random.Random(f"{seed} {step}")
    family = family or plan.choice(FAMILIES)
    stored = plan.choices([n for n, _ in _SHAPES], [often for _, often in _SHAPES])[0]
    tasks = max(1, rows // stored)
    asked = max(16, stored // 8)
    columns = round(math.exp(plan.uniform(math.log(2), math.log(128 if stored <= 512 else 48))))
    neighbours = min(plan.choice((32, 64, 128, 128, 192)), stored // 2)
    rng = TaskRng(plan.getrandbits(48), device)
    return family, prepare(draw_tables(family, tasks, stored + asked, columns, rng), stored, neighbours, rng)


def task_losses(net: InContextNet, lesson: Episode) -> Tensor:
    """Return each task's mean log-loss on its queries (b,), nats."""
    device = lesson.known.device
    near = lesson.near
    with torch.autocast(device.type, torch.bfloat16):
        vote = net(lesson.query, net.tokens(lesson.stored, lesson.known), lesson.known, near.apart, near.inside, near.floored)
    return F.binary_cross_entropy_with_logits(vote.log_odds.float(), lesson.outcome.float(), reduction="none").mean(dim=1)


def held_out_ratios(net: InContextNet, device: torch.device | str, batches: int = 4, rows: int = 8_192) -> dict[str, float]:
    """Loss over the prevalence's, per family, on tasks that no run trains on."""
    found = {}
    with torch.inference_mode():
        for family in FAMILIES:
            lessons = (draw_episode(_HELD_OUT, step, rows, device, family)[1] for step in range(batches))
            found[family] = float(torch.cat([task_losses(net, lesson) / lesson.entropy for lesson in lessons]).mean())
    return found


def save(trainer: Trainer, folder: Path, seconds: float) -> None:
    """Write the checkpoint; the previous one stays until this one is complete."""
    about = {"run": vars(trainer.run), "net": vars(trainer.net.config), "step": trainer.step, "seconds": round(seconds)}
    about |= {"start": trainer.start} if trainer.start else {}
    with replacing(folder / CHECKPOINT) as temporary, temporary.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **trainer.state())  # type: ignore[arg-type]


def resume(folder: Path, run: RunConfig, net: NetConfig, device: str, start: Path | None = None) -> tuple[Trainer, float]:
    """Continue the run in a folder, or begin it, from exported weights if need be; returns the trainer and the seconds spent before."""
    path = folder / CHECKPOINT
    if not path.exists():
        return (begin_from(start, run, device) if start else Trainer(run, net, device)), 0.0
    with np.load(path) as arrays:
        about = json.loads(str(arrays["about"]))
        if about["run"]["seed"] != run.seed:
            raise SystemExit(f"{path} is a run with seed {about['run']['seed']}: use that seed, or another --out")
        if start and about.get("start") != _hash(start):
            raise SystemExit(f"{path} is a run that did not begin from {start}: leave --start out to go on with it, or use another --out")
        trainer = Trainer(run, NetConfig(**about["net"]), device)
        trainer.start = about.get("start", "")
        trainer.restore({name: arrays[name] for name in arrays.files if name != "about"}, about["step"])
    return trainer, float(about["seconds"])


def begin_from(start: Path, run: RunConfig, device: str) -> Trainer:
    """Begin a run from exported weights; network and average start there, optimisers and learning rate afresh."""
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


def export_average(trainer: Trainer, path: Path, seconds: float, ratios: dict[str, float]) -> None:
    """Write the averaged weights as float16, and a card that says what they come from."""
    from nearward.tabular.in_context.checkpoint import export

    about = {
        "steps": trainer.step,
        "seconds": round(seconds),
        "seed": trainer.run.seed,
        "rows_per_step": trainer.run.rows,
        "loss_over_base": _rounded(ratios),
        "trained_on": "made-up clinics only (nearward.tabular.in_context.prior); no patient",
    }
    export(trainer.averaged(), path, about | ({"start": trainer.start} if trainer.start else {}))


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"


def _rounded(ratios: dict[str, float]) -> dict[str, float]:
    return {family: round(ratio, 4) for family, ratio in ratios.items()}


def _rate(step: int, steps: int) -> float:
    """Warm up, stay, fall to zero over the last fifth."""
    return max(0.0, min(1.0, (step + 1) / _WARM, (steps - step) / (_FALL * steps)))


def _until(trainer: Trainer, minutes: float) -> Iterator[float]:
    """Yield the seconds so far before each step, until the steps or the minutes are over."""
    began = time.monotonic()
    while trainer.step < trainer.run.steps and (seconds := time.monotonic() - began) < 60 * minutes:
        yield seconds


def train(
    trainer: Trainer, folder: Path, before: float, minutes: float, tell: Callable[[dict[str, Any]], None]
) -> tuple[float, dict[str, float]]:
    """Train until the steps or the minutes are over; a checkpoint every two minutes and at the end, a line every 250 steps.

    Returns the seconds spent in all and the held-out ratios at the end. Without a step left, the checkpoint is not touched.
    """
    begun, kept, seconds = trainer.step, 0.0, 0.0
    recent: dict[str, list[float]] = {family: [] for family in FAMILIES}

    def judge() -> dict[str, float]:
        ratios = held_out_ratios(trainer.averaged(), trainer.device)
        tell({"step": trainer.step, "held_out": _rounded(ratios), "mean": round(sum(ratios.values()) / len(ratios), 4)})
        return ratios

    for seconds in _until(trainer, minutes):
        family, ratio = trainer.advance()
        recent[family].append(ratio)
        if trainer.step % 250 == 0:
            mean = _rounded({name: sum(r) / len(r) for name, r in recent.items() if r})
            tell({"step": trainer.step, "seconds": round(before + seconds), "loss_over_base": mean})
            recent = {name: [] for name in FAMILIES}
        if trainer.step % 2000 == 0:
            judge()
        if seconds - kept > 120:
            save(trainer, folder, before + seconds)
            kept = seconds
    if trainer.step > begun:
        save(trainer, folder, before + seconds)
    return before + seconds, judge()


def main() -> None:
    """Run the command line."""
    asked = argparse.ArgumentParser(description="Train the in-context network on made-up clinics, in chunks of any length.")
    asked.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint and log; continued where it exists")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--steps", type=int, default=20_000, help="where the learning rate reaches zero")
    asked.add_argument("--rows", type=int, default=8_192, help="stored rows a step; 131072 suits a GPU")
    asked.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    asked.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked.add_argument("--threads", type=int, default=0, help="processor threads to use; 0: as many as torch likes, usually one a core")
    asked.add_argument("--start", type=Path, metavar="FILE.safetensors", help="begin a new run from weights that --export wrote")
    asked.add_argument("--export", type=Path, metavar="FILE.safetensors", help="at the end write the averaged weights here, float16")
    told = asked.parse_args()
    if told.export and told.export.suffix != ".safetensors":
        asked.error(f"--export {told.export}: name it .safetensors; a card of the same name goes beside it as .json")
    if told.threads:
        torch.set_num_threads(told.threads)
    told.out.mkdir(parents=True, exist_ok=True)
    trainer, before = resume(told.out, RunConfig(told.seed, told.steps, told.rows), NetConfig(), told.device, told.start)
    with (told.out / "log.jsonl").open("a", encoding="utf-8") as log:

        def tell(line: dict[str, Any]) -> None:
            for stream in (sys.stdout, log):
                print(json.dumps(line), file=stream, flush=True)

        seconds, ratios = train(trainer, told.out, before, told.minutes, tell)
    if told.export:
        export_average(trainer, told.export, seconds, ratios)


if __name__ == "__main__":
    main()
