"""Time and memory of event features for many events: ``python -m benchmarks.events.scale --events 10000000``.

Made-up events of a hospital: 500 a subject, 60 measured codes and 20,000 kinds of other codes, in shards of a million. They are written to
out/ once; from ten million on, shards repeat the first ten with other subjects. The features go to Parquet by blocks of subjects.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.common.paths import OUT
from nearward.tabular.data.table_io import write_table
from nearward.tabular.events.features import EventFeatures
from nearward.tabular.events.reading import read_events
from nearward.tabular.operating_system import peak_memory

_SHARD = 1_000_000
_DIFFERENT = 10  # shards
_A_SUBJECT = 500
_START = np.datetime64("2020-01-01", "us")


def make_events(folder: Path, events: int) -> None:
    """Write shards of made-up events, sorted by subject and time, and a label for each subject."""
    labels: list[pl.DataFrame] = []
    for shard in range(max(events // _SHARD, 1)):
        path = folder / "data" / f"{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        if shard >= _DIFFERENT:
            other = pl.col("subject_id") + shard // _DIFFERENT * _DIFFERENT * (_SHARD // _A_SUBJECT)
            write_table(pl.read_parquet(folder / "data" / f"{shard % _DIFFERENT}.parquet").with_columns(other), path)
            labels.append(labels[shard % _DIFFERENT].with_columns(other))
            continue
        rng = np.random.default_rng(shard)
        n = min(events, _SHARD)
        subjects = n // _A_SUBJECT
        subject = np.sort(rng.integers(0, subjects, n)) + shard * subjects
        admission = rng.uniform(0, 365 * 24, subjects)
        hours = admission[subject - shard * subjects] + rng.gamma(1.2, 40, n)
        measured = rng.random(n) < 0.7
        kind = np.where(measured, np.minimum(rng.zipf(1.3, n), 60), np.minimum(rng.zipf(1.2, n), 20_000))
        code = np.where(measured, np.char.add("LAB//", kind.astype(str)), np.char.add("DRUG//", kind.astype(str)))
        value = np.where(measured, rng.lognormal(kind % 5, 0.4), np.nan)
        times = _START + (hours * 3.6e9).astype("timedelta64[us]")
        table = pl.DataFrame({"subject_id": subject, "time": times, "code": code, "numeric_value": value.astype(np.float32)})
        write_table(table.with_columns(pl.col("numeric_value").fill_nan(None)).sort("subject_id", "time"), path)
        moments = _START + ((admission + 48) * 3.6e9).astype("timedelta64[us]")
        labels.append(pl.DataFrame({"subject_id": np.arange(subjects) + shard * subjects, "prediction_time": moments}))
    write_table(pl.concat(labels), folder / "labels.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    events = parser.parse_args().events
    folder = OUT / "events" / str(events)
    if not (folder / "labels.parquet").exists():
        make_events(folder, events)
    made = peak_memory()
    labels = pl.read_parquet(folder / "labels.parquet")
    begin = time.perf_counter(), time.process_time()
    read = read_events(folder)
    features = EventFeatures().fit(read, labels)
    fitted = time.perf_counter(), time.process_time()
    out = folder / "features"
    out.mkdir(exist_ok=True)
    rows = 0
    for number, block in enumerate(features.iter_transform(read, labels)):
        write_table(block.features, out / f"{number}.parquet")
        rows += block.features.height
    done = time.perf_counter(), time.process_time()
    print(f"{events:,} events, {rows:,} labels, {len(features.schema_.columns)} columns")
    for what, first, last in (("fit", begin, fitted), ("transform and write", fitted, done)):
        print(f"{what}: {last[0] - first[0]:.0f} s, {last[1] - first[1]:.0f} s of CPU")
    print(f"peak memory: {peak_memory() / 2**30:.2f} GiB (before reading: {made / 2**30:.2f})")


if __name__ == "__main__":
    main()
