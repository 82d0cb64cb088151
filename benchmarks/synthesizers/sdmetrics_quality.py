"""SDMetrics' QualityReport on two tables: how long it takes and what it says. Needs sdmetrics and pandas<3, and nothing of nearward.

PYTHON benchmarks/synthesizers/sdmetrics_quality.py real.parquet synthetic.parquet
"""

from __future__ import annotations

import json
import resource
import sys
import time

import pandas as pd
from sdmetrics.reports.single_table import QualityReport


def main() -> None:
    real, synthetic = (pd.read_parquet(path) for path in sys.argv[1:3])
    kinds = {name: "numerical" if pd.api.types.is_numeric_dtype(real[name]) else "categorical" for name in real.columns}
    report = QualityReport()
    begun, spent = time.perf_counter(), time.process_time()
    report.generate(real, synthetic, {"columns": {name: {"sdtype": kind} for name, kind in kinds.items()}}, verbose=False)
    seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "spent": spent, "memory": memory, "score": report.get_score()}))


if __name__ == "__main__":
    main()
