"""Scoring jobs: rows per second and memory of a whole job, from Parquet to Parquet, beside scoring in memory.

    .venv/bin/python -m benchmarks.batch.throughput [--data DIR] [--stored 50000] [--rows 1000000] [--publish]

Thirty columns: those of brfss2015_diabetes (21) and shuffled copies. --stored patients are stored; the archive of --rows is drawn from the
other patients with replacement, in four files. Each job runs in a process of its own, one after another, so that they can be compared. The
model and the archive are cached in out/throughput. --publish writes the table of docs/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl

import nearward as nw
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import DATA, OUT, run_module
from nearward.batch.job import run_job
from nearward.batch.options import ScoringJob
from nearward.datasets import read_cohort
from nearward.tabular.operating_system import peak_memory
from nearward.tabular.parallel import cpu_count

CACHE = OUT / "throughput"
_COLUMNS, _FILES, _IN_MEMORY = 30, 4, 20_000
_TABPFN = "For scale: TabPFN takes about 3 CPU-seconds a query with a context of 256 x 30 (not measured here), a third of a row a second."
_JOBS = {
    "one worker": (1, "local"),
    "two workers": (2, "local"),
    "two workers, --max-memory 2GB": (2, "local"),
    "Ray, two actors": (2, "ray"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--stored", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--case", help="run one case in this process")
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = CACHE / f"{args.stored}-{args.rows}"
    if args.case:
        print(json.dumps(_measure(args.case, folder)))
        return
    if not (folder / "archive").is_dir():
        _prepare(args.data, args.stored, args.rows, folder)
    results, before = [], os.getloadavg()[0]
    for case in ("in memory", *_JOBS, "LightGBM, in memory"):
        process = run_module("benchmarks.batch.throughput", "--stored", args.stored, "--rows", args.rows, "--case", case)
        results.append({"case": case, **json.loads(process.stdout.splitlines()[-1])})
        print(results[-1], flush=True)
    rate = {one["case"]: one["rate"] for one in results}
    table = pl.DataFrame(
        [
            {
                "case": one["case"],
                "rows": one["rows"],
                "seconds": round(one["seconds"], 1),
                "rows/s": round(one["rate"]),
                "/ in memory": one["rate"] / rate["in memory"],
                "/ one worker": one["rate"] / rate["one worker"],
                "rows / CPU s": round(one["rows"] / one["cpu"]) if one["cpu"] else "",
                "memory at most, GB": round(one["memory"], 2),
            }
            for one in results
        ]
    )
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160):
        print(table)
    if args.publish:
        command = f"-m benchmarks.batch.throughput --stored {args.stored} --rows {args.rows} --publish"
        noise = f"On {cpu_count()} cores; load average before and after: {before:.1f}, {os.getloadavg()[0]:.1f}. {_TABPFN}"
        replace_part("scoring jobs", f"```\n.venv/bin/python {command}\n```\n\n{noise}\n\n{markdown(table, 2)}")


def _prepare(folder: Path, stored: int, rows: int, target: Path) -> None:
    """Fit the model, and write the archive."""
    cohort = read_cohort(folder / "brfss2015_diabetes.parquet")
    rng = np.random.default_rng(0)
    features = cohort.features
    names = [features.columns[j % features.width] for j in range(_COLUMNS - features.width)]
    shuffled = [features[name].gather(rng.permutation(features.height)).alias(f"shuffled {i}") for i, name in enumerate(names)]
    features = features.hstack(shuffled)
    order = rng.permutation(features.height)
    (target / "archive.part").mkdir(parents=True, exist_ok=True)
    nw.RiskClassifier(random_state=0).fit(features[order[:stored]], cohort.outcome[order[:stored]]).save(target / "model")
    import lightgbm

    lightgbm.LGBMClassifier(n_estimators=200, verbose=-1).fit(
        features[order[:stored]].to_numpy().astype(float), cohort.outcome[order[:stored]]
    ).booster_.save_model(str(target / "lightgbm.txt"))
    others = order[stored:]
    for i in range(_FILES):
        drawn = rng.choice(others, rows // _FILES)
        features[drawn].write_parquet(target / "archive.part" / f"{i}.parquet", row_group_size=100_000)
    (target / "archive.part").rename(target / "archive")


def _measure(case: str, folder: Path) -> dict[str, float]:
    files = sorted((folder / "archive").glob("*.parquet"))
    if case == "in memory":
        model, frame = nw.load(folder / "model"), pl.read_parquet(files[0])[:_IN_MEMORY]
        model.predict_frame(frame[:500])
        began, spent = time.monotonic(), _cpu()
        model.predict_frame(frame)
        return _result(frame.height, time.monotonic() - began, _cpu() - spent, peak_memory())
    if case == "LightGBM, in memory":
        import lightgbm

        model, frame = lightgbm.Booster(model_file=str(folder / "lightgbm.txt")), pl.read_parquet(files[0])
        began, spent = time.monotonic(), _cpu()
        model.predict(frame.to_numpy().astype(float))
        return _result(frame.height, time.monotonic() - began, _cpu() - spent, peak_memory())
    workers, engine = _JOBS[case]
    out = folder / "scores"
    shutil.rmtree(out, ignore_errors=True)
    limit = 2e9 if "2GB" in case else None
    began, spent = time.monotonic(), _cpu()
    report = run_job(ScoringJob(folder / "model", (folder / "archive",), out, workers=workers, engine=engine, max_memory=limit))
    if not report.complete:
        raise RuntimeError(f"{case}: {report.failed}")
    cpu = 0.0 if engine == "ray" else _cpu() - spent  # Ray's actors are no children of ours
    return _result(report.scored, time.monotonic() - began, cpu, report.peak_memory)


def _result(rows: int, seconds: float, cpu: float, memory: float) -> dict[str, float]:
    return {"rows": rows, "seconds": seconds, "rate": rows / seconds, "cpu": cpu, "memory": memory / 1e9}


def _cpu() -> float:
    """Return CPU seconds of this process and its ended children."""
    import resource

    return sum(sum(resource.getrusage(usage)[:2]) for usage in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
