"""A model of nine regions brought to the tenth: how many local patients each way of adapting it needs.

    .venv/bin/python -m benchmarks.adaptation.gusto [--data FILE] [--regions 1,2] [--sizes 50,200] [--methods level,adapted] [--publish]

GUSTO-I, death at 30 days after infarction, ten regions (column REGL); a table with that outcome and that column is needed. The source model
is fitted on the other regions. Local rows are the first of a random order of the region, and risks are judged on its other rows. Source
models and risks are cached in out/adaptation. The table holds what was measured now, and the rest of what was published before.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats
from sklearn.metrics import average_precision_score, log_loss

import nearward as nw
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import OUT, RESULTS, ROOT, cached_arrays
from nearward.adaptation.recalibration import Kind, Recalibration
from nearward.adaptation.stored_patients import check_calibration
from nearward.evaluation.risk.html_report import pooled_summary
from nearward.risk_model.validation import FEWEST_EVENTS
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.typing import Floats, Ints

DATA = Path(os.environ.get("NEARWARD_GUSTO", ROOT / "shared" / "sites" / "gusto.parquet"))
CACHE = OUT / "adaptation"
PUBLISHED = RESULTS / "adaptation_gusto.csv"
OUTCOME, SITE = "DAY30", "REGL"
SIZES = (50, 100, 200, 500, 1000, 2000)
METHODS = ("source only", "level", "level and slope", "extended", "adapted", "refitted on both", "local only")
FEWEST_JUDGED = 300  # rows of a region beside the local ones
_FLOOR = 1e-6
_KEYS = ("region", "local rows", "method")
_METRICS = ("log loss", "AUPRC", "intercept", "slope")

Table = tuple[pl.DataFrame, Ints]


class Region:
    """A region as the site, the other regions as the source."""

    def __init__(self, frame: pl.DataFrame, region: int) -> None:
        self.region = region
        here = frame.filter(pl.col(SITE) == region)
        self.here = here[np.random.default_rng(0).permutation(here.height)]
        self.others = frame.filter(pl.col(SITE) != region)

    @cached_property
    def source(self) -> Any:
        """The model of the other regions, fitted once."""
        folder = CACHE / f"source.{self.region}"
        if not folder.exists():
            nw.RiskClassifier(random_state=0).fit(*split(self.others)).save(folder)
        return nw.load(folder)

    def rest(self, size: int) -> Table:
        """Return the rows that are judged."""
        return split(self.here[size:])

    @cached_property
    def source_risk(self) -> Floats:
        """The source model's risks of all rows of the region."""
        return cached_arrays(CACHE / f"source.{self.region}.npz", lambda: {"risk": self.source.predict_proba(split(self.here)[0])[:, 1]})[
            "risk"
        ]

    def risks(self, method: str, size: int) -> Floats:
        """Return a method's risks of the rest; NaN where it cannot be had."""
        local, rest, source_risk = split(self.here[:size]), self.rest(size)[0], self.source_risk
        before, after = logit(source_risk[:size], _FLOOR), logit(source_risk[size:], _FLOOR)

        def recalibrated(kind: Kind) -> Floats:
            return expit(Recalibration.fit(before, local[1], kind).log_odds(after))

        def extended() -> Floats:
            copy = nw.RiskClassifier(**self.source.get_params(deep=False))
            copy.fitted_ = self.source.fitted_
            copy.extend(*local)
            return copy.predict_proba(rest)[:, 1]

        def adapted() -> Floats:
            here = self.source.adapt(*local)
            print(f"  region {self.region}, {size} rows: {here.adaptation_}", flush=True)
            return here.predict_proba(rest)[:, 1]

        def refitted() -> Floats:
            both = pl.concat([self.others, self.here[:size]])
            return nw.RiskClassifier(random_state=0).fit(*split(both)).predict_proba(rest)[:, 1]

        def local_only() -> Floats:
            if local[1].sum() < FEWEST_EVENTS:
                return np.full(rest.height, np.nan)
            return nw.RiskClassifier(random_state=0).fit(*local).predict_proba(rest)[:, 1]

        ways: dict[str, Callable[[], Floats]] = {
            "source only": lambda: source_risk[size:],
            "level": lambda: recalibrated("intercept"),
            "level and slope": lambda: recalibrated("intercept and slope"),
            "extended": extended,
            "adapted": adapted,
            "refitted on both": refitted,
            "local only": local_only,
        }
        return np.asarray(ways[method]())


def split(frame: pl.DataFrame) -> Table:
    """Return features and outcome."""
    return frame.drop(OUTCOME, SITE), frame[OUTCOME].to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--regions", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    frame, rows = pl.read_parquet(args.data), []
    regions, sizes, methods = args.regions.split(","), [int(size) for size in args.sizes.split(",")], args.methods.split(",")
    for region in (Region(frame, int(region)) for region in regions):
        rows += judge(region, sizes, methods)
    table = with_published(pl.DataFrame(rows))
    summary = summarise(table)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220):
        print(summary)
    if args.publish:
        table.write_csv(PUBLISHED)
        replace_part("adaptation gusto", markdown(summary, 4))
        replace_part("transport gusto nearward", markdown(transport_table(frame).fill_null("")))


def judge(region: Region, sizes: list[int], methods: list[str]) -> list[dict[str, Any]]:
    """Return the metrics of every method at every number of local rows."""
    out = []
    for size in sizes:
        if region.here.height - size < FEWEST_JUDGED:
            continue
        outcome = region.rest(size)[1]
        for method in methods:
            name = f"{method.replace(' ', '-')}.{region.region}.{size}.npz"
            risk = cached_arrays(CACHE / name, lambda method=method, size=size: {"risk": region.risks(method, size)})["risk"]
            out.append({"region": region.region, "local rows": size, "method": method, **metrics(outcome, risk)})
    return out


def with_published(table: pl.DataFrame) -> pl.DataFrame:
    """Return what was measured now, and of what was published before the sizes, methods and regions that were not."""
    published = pl.read_csv(PUBLISHED, schema=table.schema) if PUBLISHED.exists() else table.clear()
    everything = pl.concat([published.join(table, on=_KEYS, how="anti"), table])
    return everything.sort("local rows", pl.col("method").cast(pl.Enum(METHODS)), "region")


def transport_table(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the metrics over regions of the source models, each at the region that it was not fitted on."""
    regions = [Region(frame, number) for number in sorted(frame[SITE].unique())]
    parts = [region.here.select(OUTCOME, SITE).with_columns(risk=pl.Series(region.source_risk)) for region in regions]
    sites = nw.evaluate_risk(pl.concat(parts), outcome=OUTCOME, risk="risk", site=SITE).sites
    assert sites is not None
    return pooled_summary(sites)


def metrics(outcome: Ints, risk: Floats) -> dict[str, float]:
    """Return log loss, AUPRC, calibration in the large and slope; NaN without risks."""
    if np.isnan(risk).any():
        return dict.fromkeys(_METRICS, np.nan)
    check = check_calibration(logit(risk, _FLOOR), outcome.astype(float))
    values = log_loss(outcome, risk), average_precision_score(outcome, risk), check.intercept, check.slope
    return {name: np.nan if value is None else float(value) for name, value in zip(_METRICS, values, strict=True)}


def summarise(table: pl.DataFrame) -> pl.DataFrame:
    """Return means over regions, and the gain in log loss of "adapted" over each other method with its interval over regions."""
    rows = []
    for (size, method), part in table.group_by("local rows", "method", maintain_order=True):
        row: dict[str, Any] = {"local rows": size, "method": method, "regions": int(part["AUPRC"].is_not_nan().sum())}
        row |= {name: part.filter(pl.col(name).is_not_nan())[name].mean() for name in _METRICS}
        adapted = table.filter(pl.col("local rows") == size, pl.col("method") == "adapted")
        pairs = part.join(adapted, on="region", suffix=" adapted").drop_nans("log loss")
        for name, sign in (("log loss", 1), ("AUPRC", -1)):
            gains = (sign * (pairs[name] - pairs[f"{name} adapted"])).to_numpy()
            row[f"adapted gains in {name}"] = interval_over_regions(gains) if method != "adapted" and len(gains) else "–"
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def interval_over_regions(gains: Floats) -> str:
    """Return the mean over regions with its t interval."""
    mean = float(gains.mean()) + 0.0
    if len(gains) < 2:
        return f"{mean:+.4f}"
    half = float(stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5)
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


if __name__ == "__main__":
    main()
