"""The simulated tasks of the pretraining prior: how many are drawn per second, and pictures of them.

    .venv/bin/python -m benchmarks.in_context.prior --speed [--device cuda] [--threads 1]
    .venv/bin/python -m benchmarks.in_context.prior --pictures

--speed writes this device's lines of benchmarks/results/prior.csv, --pictures docs/pictures/prior-*.png.

Shapes: b tasks, n rows, d columns.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.common.paths import PICTURES, RESULTS
from nearward.tabular.in_context.episodes import make_episode
from nearward.tabular.in_context.prior import FAMILIES, Tables, TaskRng, sample_tables
from nearward.tabular.in_context.row_features import EXPERTS, FEATURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CSV = RESULTS / "prior.csv"
ROWS, COLUMNS, QUERIES, NEIGHBOURS = 512, 20, 64, 128
BATCH = {"cpu": 16, "cuda": 256}  # tasks per batch, as pretrain has on a core and on a GPU
REPEATS, SECONDS = 7, 1.5  # a rate is the median of so many repeats of at least so long
EVENT, OTHER, LINE = "#c8374a", "#9db4c8", "#22313f"
GAIN = 2 * FEATURES + 2 * EXPERTS  # first of a row's inputs that hold the experts' gains


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true", help="measure, and write this device's lines of benchmarks/results/prior.csv")
    parser.add_argument("--pictures", action="store_true", help="draw docs/pictures/prior-*.png")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="processor threads to use")
    args = parser.parse_args()
    if not (args.speed or args.pictures):
        parser.error("give --speed or --pictures")
    torch.set_num_threads(args.threads)
    if args.speed:
        speed(args.device, args.threads)
    if args.pictures:
        pictures()


# ---- speed ------------------------------------------------------------------------------------------------------------------------


def speed(device: str, threads: int) -> None:
    """Measure each family and all in turn; lines of other devices stay in the file."""
    words = _device_in_words(device, threads)
    lines: list[dict[str, Any]] = []
    if CSV.exists():
        lines += [line for line in csv.DictReader(CSV.read_text().splitlines()) if line["device"] != words]
    for families in (*((family,) for family in FAMILIES), FAMILIES):
        line = {"device": words, "family": families[0] if len(families) == 1 else "all", "batch": BATCH[device]}
        for what, lesson in (("draw", False), ("lesson", True)):
            rates, share = _rates(families, lesson, device)
            line |= {what: round(statistics.median(rates)), f"{what}_least": round(min(rates)), f"{what}_most": round(max(rates))}
            line[f"{what}_processor"] = f"{share / threads:.2f}"
        lines.append(line)
        print(line, flush=True)
    with CSV.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, lines[0], lineterminator="\n")
        table.writeheader()
        table.writerows(lines)


def _rates(families: tuple[str, ...], lesson: bool, device: str) -> tuple[list[float], float]:
    """Return tasks per second for each repeat, and processor seconds per second: fewer than threads on a busy machine."""
    rng = TaskRng(0, device)
    draws = itertools.cycle(families)

    def draw_pools() -> None:
        tables = sample_tables(next(draws), BATCH[device], ROWS, COLUMNS, rng)
        if lesson:
            make_episode(tables, ROWS - QUERIES, NEIGHBOURS, rng)
        if device == "cuda":
            torch.cuda.synchronize()

    draw_pools()
    began, used = time.monotonic(), time.process_time()
    rates = [_rate(draw_pools, len(families)) * BATCH[device] for _ in range(REPEATS)]
    return rates, (time.process_time() - used) / (time.monotonic() - began)


def _rate(work: Callable[[], None], at_once: int) -> float:
    """Return calls per second, counted in whole rounds of ``at_once``."""
    began, count = time.monotonic(), 0
    while count % at_once or time.monotonic() - began < SECONDS:
        work()
        count += 1
    return count / (time.monotonic() - began)


def _device_in_words(device: str, threads: int) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


# ---- pictures ---------------------------------------------------------------------------------------------------------------------


def pictures() -> None:
    """Draw tasks of fixed seeds; only the three tasks of the experts are selected, as docs/reference/pretraining-prior.md says."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {
        "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False,
        "axes.edgecolor": "#8895a1", "xtick.color": "#55626e", "ytick.color": "#55626e", "axes.labelcolor": LINE, "text.color": LINE,
        "figure.constrained_layout.use": True, "savefig.dpi": 110, "legend.frameon": False,
    }  # fmt: skip
    PICTURES.mkdir(parents=True, exist_ok=True)
    for i, family in enumerate(FAMILIES):
        _save(_family(sample_tables(family, 4, 600, 8, TaskRng(100 + i))), family)
    _save(_columns(), "columns")
    _save(_outcomes(), "outcomes")
    _save(_experts(), "experts")


def _save(figure: Figure, name: str) -> None:
    """Write a picture in 256 colours."""
    from PIL import Image

    path, drawn = PICTURES / f"prior-{name}.png", io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def _figure(high: int, wide: int, size: tuple[float, float], **more: Any) -> tuple[Figure, np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    return figure, figure.subplots(high, wide, squeeze=False, **more)


def _family(tables: Tables) -> Figure:
    """Plot four tasks: above, the most informative pair of columns; below, the true risk along the most informative column."""
    figure, axes = _figure(2, 4, (10.5, 5.1))
    rng = np.random.default_rng(0)
    for task, (above, below) in enumerate(axes.T):
        value, y, signal, risk = (item[task].numpy() for item in (tables.value, tables.outcome, tables.signal, tables.risk))
        explained = {pair: _explained_variance(value[:, pair], signal, 6) for pair in itertools.combinations(range(value.shape[1]), 2)}
        alone = [_explained_variance(value[:, [j]], signal, 12) for j in range(value.shape[1])]
        category = tables.category[task].tolist()
        pair = zip("xy", max(explained, key=explained.__getitem__), strict=True)
        first, second = (_shown(above, side, value[:, j], category[j], j, rng) for side, j in pair)
        _points(above, first, second, y)
        above.set_title(f"{100 * y.mean():.0f} % events, AUROC {_auroc(risk, y):.2f}")
        best = int(np.argmax(alone))
        _points(below, _shown(below, "x", value[:, best], category[best], best, rng), risk, y)
        below.set(ylim=(-0.03, 1.03), ylabel="true risk" if task == 0 else "")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, handletextpad=0.1)
    return figure


def _shown(plot: Axes, side: str, x: np.ndarray, category: bool, j: int, rng: np.random.Generator) -> np.ndarray:
    """Label an axis for a column, and return its values to plot: few values jittered, labs as logarithms."""
    axis = plot.xaxis if side == "x" else plot.yaxis
    present = x[~np.isnan(x)]
    kind = "category" if category else "lab, log" if present.min() > 0 and len(np.unique(present)) > 20 else "number"
    if kind == "number" and len(values := np.unique(present)) < 20:
        kind = "flag" if values.tolist() == [0, 1] else "score"
    axis.set_label_text(f"column {j + 1} ({kind})")
    if kind == "flag":
        axis.set_ticks([0, 1], ["no", "yes"])
    elif kind in ("category", "score"):
        axis.get_major_locator().set_params(integer=True)
    if kind in ("flag", "category", "score"):
        return x + rng.uniform(-0.3, 0.3, len(x))
    return np.log(x) if kind == "lab, log" else x


def _explained_variance(columns: np.ndarray, signal: np.ndarray, parts: int) -> float:
    """Return the share of the signal's variance between the bins of a grid of quantiles, adjusted for chance."""
    rank = [np.searchsorted(np.unique(np.nanquantile(c, np.linspace(0, 1, parts + 1)[1:-1])), c) for c in columns.T]
    _, cell = np.unique(np.stack(rank), axis=1, return_inverse=True)
    count = np.bincount(cell)
    mean = (np.bincount(cell, signal) / count)[cell]
    return float(1 - ((signal - mean) ** 2).mean() / signal.var() * (len(signal) - 1) / max(1, len(signal) - len(count)))


def _points(axes: Axes, x: np.ndarray, y: np.ndarray, outcome: np.ndarray) -> None:
    for value, colour, name in ((0, OTHER, "no event"), (1, EVENT, "event")):
        rows = outcome == value
        axes.scatter(x[rows], y[rows], s=7, c=colour, alpha=0.75, linewidths=0, label=name)


def _auroc(score: np.ndarray, outcome: np.ndarray) -> float:
    rank, events = score.argsort().argsort() + 1.0, int(outcome.sum())
    return float((rank[outcome == 1].sum() - events * (events + 1) / 2) / (events * (len(outcome) - events)))


def _columns() -> Figure:
    """Plot, for each family, the rank correlations of a task's columns, and the missing values of another."""
    figure, axes = _figure(2, 6, (10.5, 3.9))
    for i, (family, (above, below)) in enumerate(zip(FAMILIES, axes.T, strict=True)):
        tables = sample_tables(family, 12, 600, COLUMNS, TaskRng(200 + i))
        holes = tables.value.isnan().float()  # (b, n, d)
        missing_share = holes.mean(dim=(1, 2))
        whole, holed = int(missing_share.argmin()), int((missing_share > 0.05).int().argmax())
        ranks = tables.value[whole].nan_to_num().argsort(dim=0).argsort(dim=0).double().numpy()
        together = np.corrcoef(ranks.T)
        order = np.linalg.eigh(together)[1][:, -1].argsort()
        bound = above.imshow(together[order][:, order], cmap="RdBu_r", vmin=-1, vmax=1)
        above.set_title(family)
        by_risk = tables.signal[holed].argsort(descending=True)
        by_holes = holes[holed].mean(dim=0).argsort(descending=True)
        parts = holes[holed][by_risk][:, by_holes].view(20, 30, COLUMNS).mean(dim=1)
        missing = below.imshow(parts, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        below.set_xlabel(f"{100 * missing_share[holed]:.0f} % missing")
        for plot in (above, below):
            plot.set(xticks=[], yticks=[])
            plot.spines[:].set_visible(True)
    axes[0, 0].set_ylabel("20 columns")
    axes[1, 0].set_ylabel("lower risk → higher risk")
    figure.colorbar(bound, ax=axes[0], shrink=0.9, pad=0.01, label="rank correlation", ticks=[-1, 0, 1])
    figure.colorbar(missing, ax=axes[1], shrink=0.9, pad=0.01, label="share missing", ticks=[0, 0.5, 1])
    return figure


def _outcomes() -> Figure:
    """Plot the share of events, the AUROC of the true risk, and the gain of the best expert."""
    figure, axes = _figure(1, 3, (10.5, 2.7))
    edges = np.geomspace(0.004, 0.6, 25)
    for rows, colour in ((4096, LINE), (512, EVENT)):
        share = np.concatenate([sample_tables(f, 100, rows, 2, TaskRng(300)).outcome.float().mean(dim=1).numpy() for f in FAMILIES])
        axes[0, 0].hist(share, edges, histtype="step", color=colour, linewidth=1.4, label=f"tables of {rows:,} rows")
    axes[0, 0].set(xscale="log", xlabel="share of events in a table", ylabel="of 600 tables", title="How many events")
    axes[0, 0].set_xticks([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5], ["0.5 %", "1 %", "2 %", "5 %", "10 %", "20 %", "50 %"])
    axes[0, 0].legend(loc="upper left")
    bounds, gains = [], []
    for i, family in enumerate(FAMILIES):
        rng = TaskRng(400 + i)
        tables = sample_tables(family, 150, ROWS, COLUMNS, rng)
        bounds.append([_auroc(r, y) for r, y in zip(tables.risk.numpy(), tables.outcome.numpy(), strict=True)])
        episode = make_episode(tables, ROWS - QUERIES, NEIGHBOURS, rng)
        gains.append(episode.stored.inputs[:, 0, GAIN][episode.stored.present[:, 0]].numpy())
    for plot, values, title, label in (
        (axes[0, 1], bounds, "How much can be known", "AUROC of the true risk"),
        (axes[0, 2], gains, "How good the best expert is", "share of log-loss it takes away"),
    ):
        boxes = plot.boxplot(
            values, orientation="horizontal", tick_labels=FAMILIES, widths=0.6, patch_artist=True, whis=(5, 95), showfliers=False
        )
        for box, middle in zip(boxes["boxes"], boxes["medians"], strict=True):
            box.set(facecolor=OTHER, edgecolor=LINE, linewidth=0.6)
            middle.set(color=EVENT, linewidth=1.6)
        plot.set(title=title, xlabel=label)
        plot.invert_yaxis()
    return figure


def _experts() -> Figure:
    """Plot three tasks as the network reads them: six of each one's experts against the signal."""
    rng = TaskRng(500)
    tables = sample_tables("additive", 80, 600, COLUMNS, rng)
    episode = make_episode(tables, 500, NEIGHBOURS, rng)
    gain = episode.stored.inputs[:, 0, GAIN : GAIN + EXPERTS]  # (b, s), best first
    enough = (episode.stored.present.sum(dim=1) >= 10) & (tables.outcome.sum(dim=1) > 60)
    lead = (gain[:, 0] - gain[:, 1]).masked_fill(~enough, -1)
    middling = (gain[:, 0] - gain[enough, 0].median()).abs().masked_fill(~enough | (lead > 0.05), 9)
    tasks = (int(lead.argmax()), int(middling.argmin()), int(gain[:, 0].masked_fill(~enough, 9).argmin()))
    figure, axes = _figure(3, 6, (10.5, 5.6), sharex=True, sharey="row")
    for row, (task, name) in enumerate(zip(tasks, ("one nearly right", "as usual", "hard for all"), strict=True)):
        signal, risk, y = (item[task, :500].numpy() for item in (tables.signal, tables.risk, episode.stored_outcome))
        order, truth = signal.argsort(), np.log(risk / (1 - risk))
        filled = int(episode.stored.present[task].sum())
        for column, slot in enumerate(np.linspace(0, filled - 1, 6).round().astype(int)):
            plot = axes[row, column]
            _points(plot, signal, episode.stored.log_odds[task, :, slot].numpy(), y)
            plot.plot(signal[order], truth[order], color=LINE, linewidth=1.1, label="the truth")
            plot.set_title(f"slot {slot + 1} of {filled}: {100 * gain[task, slot]:.0f} %")
        axes[row, 0].set_ylabel(f"{name}\nlog-odds")
        low, high = episode.stored.log_odds[task, :, 0].quantile(torch.tensor([0.01, 0.99])).tolist()
        axes[row, 0].set_ylim(low - 1, high + 1)
    for plot in axes[2]:
        plot.set(xlabel="signal", xlim=(-3, 3))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, handletextpad=0.3)
    return figure


if __name__ == "__main__":
    main()
