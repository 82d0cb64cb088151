"""Source leak: can the site, or the file that a row came from, be told from the features, and does it track the outcome?

Where both hold, a model can learn the site instead of the illness: it looks good wherever the sites come along, and fails at the next one.
The usual makings are cases from one file and controls from another, one ward that treats the sick and codes differently, a device with a
format of its own. The check can't tell a leak from honest differences in who is treated where; it says that a look is needed.

Letters: n rows, s sites, c draws at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.evaluation.risk.disclosure_control import WITHHELD, withheld
from nearward.evaluation.risk.inputs import FEWEST, Sample, read_sample
from nearward.evaluation.stats.cluster_bootstrap import Undefined, interval, resample
from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.stats.ranking_metrics import Ranking
from nearward.evaluation.threads import single_threaded
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.ensemble.extra_trees import grow, importances, shares
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints

NOTEWORTHY = 0.55  # area that the whole interval must exceed: in a large cohort the least difference is significant
_MOST_ROWS = 5_000  # that the check looks at: what makes a site stand out shows in fewer
_MOST_SITES = 12  # the others are taken together
_OTHERS = "(others)"
_FOLDS, _RESAMPLES, _TREES = 5, 200, 100
_PRIOR_ROWS = 10  # by which a site's event rate is drawn towards the whole


@dataclass(frozen=True)
class SourceLeak:
    """What ``source_leak`` found.

    Parameters
    ----------
    site : str
        The column.
    told : Estimate
        Area under the ROC curve by which the features tell one site from the others, mean over the sites, cross-fitted; .5: they can't.
    tracks : Estimate
        Area by which a site's event rate, from other patients, ranks who has the event; .5: the site says nothing of the outcome.
    rates : pl.DataFrame
        Site, rows, events, and the event rate with its interval (``rate``, ``low``, ``high``); null where fewer than 10 are behind them.
    columns : tuple of str
        The features that give the site away, the most telling first.
    """

    site: str
    told: Estimate
    tracks: Estimate
    rates: pl.DataFrame
    columns: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether the features tell the site and the site tracks the outcome, beyond chance."""
        return self.told.low > NOTEWORTHY and self.tracks.low > NOTEWORTHY

    def verdict(self) -> str:
        """Say it in words."""
        told, tracks = f"AUROC {self.told}", f"AUROC {self.tracks}"
        if self.leaks:
            given = ", ".join(repr(name) for name in self.columns)
            return (
                f"a model can learn the source instead of the illness: the features tell {self.site!r} ({told}, most by {given}) "
                f"and it tracks the outcome ({tracks}). Who is treated where may explain it, a leak too: look at these columns, "
                "and judge the model on sources that it has not seen."
            )
        if self.tracks.low > NOTEWORTHY:
            return f"{self.site!r} tracks the outcome ({tracks}), but the features hardly tell it ({told})."
        if self.told.low > NOTEWORTHY:
            return f"the features tell {self.site!r} ({told}), but it hardly tracks the outcome ({tracks})."
        return f"no sign of it: the features hardly tell {self.site!r} ({told}), nor does it track the outcome ({tracks})."

    def shown(self) -> pl.DataFrame:
        """Return the sites as a person reads them: counts or ``<10*``, and the rate with its interval."""
        told = []
        for site, rows, events, rate, low, high in self.rates.iter_rows():
            share = "" if rate is None else f"{rate:.3f} ({low:.3f} to {high:.3f})"
            told.append((site, *(WITHHELD if count is None else str(count) for count in (rows, events)), share))
        return pl.DataFrame(told, schema=["site", "rows", "events", "event rate (95 %)"], orient="row")

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        areas = {name: vars(area) for name, area in (("told", self.told), ("tracks", self.tracks))}
        about = {"site": self.site, "leaks": self.leaks, "verdict": self.verdict(), "columns": list(self.columns)}
        return {**about, **areas, "rates": self.rates.to_dicts()}


def source_leak(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    site: str,
    group: str | None = None,
    *,
    features: Sequence[str] | None = None,
    positive: Any = None,
    seed: int = 0,
) -> SourceLeak:
    """Check whether the features give the source away, and whether the source tracks the outcome.

    Parameters
    ----------
    frame : n rows
    outcome : str
        Column with two values.
    site : str
        Column of the site or the source file; a missing value is a source of its own.
    group : str, optional
        Column that names the patients, where they repeat.
    features : names of columns, optional
        By default all others.
    positive : value, optional
        Which outcome is the event; by default the greater of the two.
    seed : int
        Of the sample (at most 5,000 rows), the folds and the trees.

    Raises
    ------
    MissingColumns, InputError
        Columns that are not there; fewer than two sources with 20 rows of 10 patients.
    TooFewEvents
        Fewer than 10 events.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> ill = draw.random(600) < 0.3
    >>> file = np.where(draw.random(600) < 0.9, ill, ~ill)  # cases come from one file, controls from the other
    >>> frame = pl.DataFrame({"ill": ill, "file": file, "age": draw.normal(60, 9, 600), "unit": file * 1.0 + draw.normal(0, 0.3, 600)})
    >>> found = source_leak(frame, "ill", "file")
    >>> found.leaks, found.columns[0]
    (True, 'unit')
    """
    table = to_frame(frame)
    taken = {outcome, site, *([group] if group is not None else [])}
    names = [name for name in table.columns if name not in taken] if features is None else list(dict.fromkeys(features))
    if not names or set(names) & taken:
        raise InputError(f"features must be columns beside the outcome, the site and the patients, got features={names}")
    sample, _ = read_sample(table, outcome, [], group, positive, [site, *names])
    return leak_of(sample, table.get_column(site), table.select(names), Schema.infer(table.select(names)), seed)


def leak_of(sample: Sample, site: pl.Series, features: pl.DataFrame, schema: Schema, seed: int) -> SourceLeak:
    """Check on columns that were read already; ``schema`` knows the features."""
    draw = np.random.default_rng(seed)
    level = site.cast(pl.String).fill_null("(missing)")
    rates = _rates(sample, level)
    chosen = np.sort(draw.permutation(sample.rows)[:_MOST_ROWS])
    place, names = _places(level, sample.patient, chosen)
    seen = sample.part(np.isin(np.arange(sample.rows), chosen))
    outcome = seen.outcome.astype(np.int64)
    fold = assign_folds(outcome, seen.patient, _FOLDS, seed)
    score, weight, sources = _told(features[chosen], schema, place, fold, seed)
    rate = np.empty(len(place))
    for f in range(_FOLDS):
        left = fold != f
        events, rows = np.bincount(place[left], outcome[left], len(names)), np.bincount(place[left], minlength=len(names))
        rate[~left] = ((events + _PRIOR_ROWS * outcome[left].mean()) / (rows + _PRIOR_ROWS))[place[~left]]
    told = _area([(place == s).astype(float) for s in range(len(names))], list(score.T), seen.patient, seed)
    order = np.argsort(-weight, kind="stable")[:3]
    return SourceLeak(site.name, told, _area([seen.outcome], [rate], seen.patient, seed), rates, tuple(sources[at] for at in order))


def _places(level: pl.Series, patient: Ints, chosen: Ints) -> tuple[Ints, list[str]]:
    """Number the sites of the chosen rows; those with few patients, and those beyond the twelfth, are one."""
    seen = pl.DataFrame({"site": level[chosen], "patient": patient[chosen]})
    counts = seen.group_by("site").agg(pl.len(), pl.col("patient").n_unique()).sort(["len", "site"], descending=[True, False])
    names = counts.filter((pl.col("len") >= 2 * FEWEST) & (pl.col("patient") >= FEWEST)).head(_MOST_SITES)["site"].to_list()
    place = seen["site"].replace_strict(names, list(range(len(names))), default=len(names), return_dtype=pl.Int64).to_numpy()
    if (place == len(names)).sum() >= 2 * FEWEST:
        names.append(_OTHERS)
    elif names:
        place = np.where(place == len(names), 0, place)  # a handful, not worth a site of its own
    if len(names) < 2:
        raise InputError(
            f"column {level.name!r} has fewer than two values with {2 * FEWEST} rows of {FEWEST} patients: nothing to tell apart"
        )
    return place.astype(np.int64), names


def _told(features: pl.DataFrame, schema: Schema, place: Ints, fold: Ints, seed: int) -> tuple[Floats, Floats, list[str]]:
    """Probability of each site, out of fold (n, s); the weight of each feature in it, and their names."""
    rows = schema.conform(features)
    encoding = TableEncoder.fit(schema, rows)  # reads no site and no outcome
    x = encoding.dense(encoding.numbers(rows)).astype(np.float32)
    if not x.shape[1]:
        raise InputError("no feature is left to tell the sites by")
    sites = int(place.max()) + 1
    score, weight = np.zeros((len(place), sites)), np.zeros(x.shape[1])
    with single_threaded():
        for f in range(_FOLDS):
            left = fold != f
            there, number = np.unique(place[left], return_inverse=True)
            trees = grow(x[left], number, seed, _TREES, min_samples_leaf=5)
            score[np.ix_(~left, there)] = shares(trees, x[~left])
            weight += importances(trees)
    sources = list(dict.fromkeys(source for _, source in encoding.outputs))
    source = np.array([sources.index(source) for _, source in encoding.outputs])
    return score, np.bincount(source, weight).astype(np.float64), sources


def _area(events: list[Floats], scores: list[Floats], patient: Ints, seed: int) -> Estimate:
    """Mean area under the ROC curve over pairs of event (n,) and score (n,), its interval from patients drawn with replacement."""
    rankings = [Ranking(event, score) for event, score in zip(events, scores, strict=True)]

    def areas(weight: NDArray[Any]) -> Floats:
        return np.asarray(np.nanmean([ranking.count(weight[:, ranking.order]).auroc() for ranking in rankings], axis=0))

    value = float(areas(np.ones((1, len(patient)), dtype=np.uint16))[0])
    fewest = min(len(np.unique(patient[event == 1])) for event in events)
    found = interval(value, resample(patient, areas, _RESAMPLES, seed), "odds", fewest, len(patient))
    if isinstance(found, Undefined):
        raise InputError(f"the area cannot be told: {found.why}")
    return found


def _rates(sample: Sample, level: pl.Series) -> pl.DataFrame:
    """Event rate of every site; small numbers are withheld as in the subgroups."""
    table = pl.DataFrame({"site": level, "event": sample.outcome, "patient": sample.patient})
    event = pl.col("event") == 1
    ill, well = (pl.col("patient").filter(chosen).n_unique() for chosen in (event, ~event))
    counts = table.group_by("site").agg(
        pl.len().alias("rows"), event.sum().alias("events"), pl.col("patient").n_unique(), ill.alias("ill"), well.alias("well")
    )
    counts = counts.sort(["rows", "site"], descending=[True, False])
    arrays = [counts[name].to_numpy().astype(np.int64) for name in ("rows", "events", "patient", "ill", "well")]
    rows_hidden, hidden = withheld(arrays[0], arrays[1], arrays[2:])
    told = []
    for at, name in enumerate(counts["site"].to_list()):
        rows, events, patients = (int(array[at]) for array in arrays[:3])
        share = None if hidden[at] else wilson(round(events / rows * patients), patients)  # as many proofs as patients
        told.append(
            {
                "site": name,
                "rows": None if rows_hidden[at] else rows,
                "events": None if hidden[at] else events,
                "rate": None if hidden[at] else events / rows,
                "low": None if share is None else share.low,
                "high": None if share is None else share.high,
            }
        )
    numbers = {"rate": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(told, schema={"site": pl.String, "rows": pl.Int64, "events": pl.Int64, **numbers})
