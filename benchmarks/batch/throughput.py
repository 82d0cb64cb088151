"""Scoring jobs: rows a second and memory of a whole job, from Parquet to Parquet, beside scoring in memory.

    .venv/bin/python -m benchmarks.batch.throughput [--data DIR] [--stored 50000] [--rows 1000000] [--publish]

Thirty columns of brfss2015_diabetes and shuffled copies of its columns (it has 21), so many patients stored; the archive is drawn from the
other patients with replacement, in four files. Each job runs in a process of its own, one after another, so that they can be compared. The
model and the archive lie in out/scoring and are made once. --publish writes the table of docs/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl

import nearward as nw
from benchmarks.common.cohorts import DATA
from benchmarks.common.markdown import markdown, replace_part
from nearward.batch.job import ScoringJob, run_job
from nearward.batch.memory import peak_memory
from nearward.datasets import read_cohort
from nearward.tabular.parallel import cpu_count

KEPT = Path(__file__).resolve().parents[1] / "out" / "scoring"
_COLUMNS, _FILES, _IN_MEMORY = 30, 4, 20_000
_TABPFN = "For scale: TabPFN takes about 3 CPU-seconds a query with a context of 256 x 30 (not measured here), a third of a row a second."
_JOBS = {
    "one worker": (1, "local"),
    "two workers": (2, "local"),
    "two workers, --max-memory 2GB": (2, "local"),
    "Ray, two actors": (2, "ray"),
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--stored", type=int, default=50_000)
    asked.add_argument("--rows", type=int, default=1_000_000)
    asked.add_argument("--case", help="run one case in this process")
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    warnings.simplefilter("ignore")
    place = KEPT / f"{told.stored}-{told.rows}"
    if told.case:
        print(json.dumps(_measure(told.case, place)))
        return
    if not (place / "archive").is_dir():
        _prepare(told.data, told.stored, told.rows, place)
    found, before = [], os.getloadavg()[0]
    for case in ("in memory", *_JOBS, "LightGBM, in memory"):
        command = [sys.executable, __file__, "--stored", str(told.stored), "--rows", str(told.rows), "--case", case]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
        found.append({"case": case, **json.loads(done.stdout.splitlines()[-1])})
        print(found[-1], flush=True)
    rate = {one["case"]: one["rate"] for one in found}
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
            for one in found
        ]
    )
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160):
        print(table)
    if told.publish:
        command = f"benchmarks/batch/throughput.py --stored {told.stored} --rows {told.rows} --publish"
        noise = f"On {cpu_count()} cores; load average before and after: {before:.1f}, {os.getloadavg()[0]:.1f}. {_TABPFN}"
        replace_part("scoring jobs", f"```\n.venv/bin/python {command}\n```\n\n{noise}\n\n{markdown(table, 2)}")


def _prepare(folder: Path, stored: int, rows: int, place: Path) -> None:
    """Fit the model, and write the archive."""
    cohort = read_cohort(folder / "brfss2015_diabetes.parquet")
    draw = np.random.default_rng(0)
    features = cohort.features
    names = [features.columns[j % features.width] for j in range(_COLUMNS - features.width)]
    shuffled = [features[name].gather(draw.permutation(features.height)).alias(f"shuffled {i}") for i, name in enumerate(names)]
    features = features.hstack(shuffled)
    order = draw.permutation(features.height)
    (place / "archive.part").mkdir(parents=True, exist_ok=True)
    nw.RiskClassifier(seed=0).fit(features[order[:stored]], cohort.outcome[order[:stored]]).save(place / "model")
    import lightgbm

    lightgbm.LGBMClassifier(n_estimators=200, verbose=-1).fit(
        features[order[:stored]].to_numpy().astype(float), cohort.outcome[order[:stored]]
    ).booster_.save_model(str(place / "lightgbm.txt"))
    others = order[stored:]
    for i in range(_FILES):
        drawn = draw.choice(others, rows // _FILES)
        features[drawn].write_parquet(place / "archive.part" / f"{i}.parquet", row_group_size=100_000)
    (place / "archive.part").rename(place / "archive")


def _measure(case: str, place: Path) -> dict[str, float]:
    files = sorted((place / "archive").glob("*.parquet"))
    if case == "in memory":
        model, frame = nw.load(place / "model"), pl.read_parquet(files[0])[:_IN_MEMORY]
        model.predict_frame(frame[:500])
        began, spent = time.monotonic(), _cpu()
        model.predict_frame(frame)
        return _told(frame.height, time.monotonic() - began, _cpu() - spent, peak_memory())
    if case == "LightGBM, in memory":
        import lightgbm

        model, frame = lightgbm.Booster(model_file=str(place / "lightgbm.txt")), pl.read_parquet(files[0])
        began, spent = time.monotonic(), _cpu()
        model.predict(frame.to_numpy().astype(float))
        return _told(frame.height, time.monotonic() - began, _cpu() - spent, peak_memory())
    workers, engine = _JOBS[case]
    out = place / "scores"
    shutil.rmtree(out, ignore_errors=True)
    limit = 2e9 if "2GB" in case else None
    began, spent = time.monotonic(), _cpu()
    report = run_job(ScoringJob(place / "model", (place / "archive",), out, workers=workers, engine=engine, max_memory=limit))
    if not report.complete:
        raise RuntimeError(f"{case}: {report.failed}")
    cpu = 0.0 if engine == "ray" else _cpu() - spent  # Ray's actors are no children of ours
    return _told(report.scored, time.monotonic() - began, cpu, report.peak_memory)


def _told(rows: int, seconds: float, cpu: float, memory: float) -> dict[str, float]:
    return {"rows": rows, "seconds": seconds, "rate": rows / seconds, "cpu": cpu, "memory": memory / 1e9}


def _cpu() -> float:
    """CPU seconds of this process and its children that have ended."""
    import resource

    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
