"""Baselines: the usual models, each with the preprocessing that suits it; default settings, no tuning."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

Array = NDArray[Any]
Baseline = Callable[[pl.DataFrame, Array, pl.DataFrame], Array]


def baselines() -> dict[str, Baseline]:
    """Return name -> function (train features, train outcome, test features) -> risk (q,); optional ones where installed."""
    models: dict[str, Baseline] = {"LogisticRegression": _logistic, "RandomForest": _forest, "HistGradientBoosting": _hist}
    if find_spec("lightgbm"):
        models["LightGBM"] = _lightgbm
    if find_spec("catboost"):
        models["CatBoost"] = _catboost
    return models


def split_kinds(frame: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Return the names of the number and the text columns."""
    numbers = [c for c, t in frame.schema.items() if t.is_numeric() or t == pl.Boolean]
    return numbers, [c for c in frame.columns if c not in numbers]


def arrays(frame: pl.DataFrame) -> tuple[Array, Array]:
    """Return numbers as floats (NaN for missing) and text as objects ("(missing)" for missing)."""
    numbers, text = split_kinds(frame)
    values = frame.select(pl.col(numbers).cast(pl.Float64)).to_numpy() if numbers else np.zeros((frame.height, 0))
    words = frame.select(pl.col(text).cast(pl.String).fill_null("(missing)")).to_numpy().astype(object)
    return values, words if text else np.zeros((frame.height, 0), dtype=object)


def stacked(frame: pl.DataFrame) -> tuple[Array, list[int], list[int]]:
    """Return numbers and text in one array, and the column indices of each."""
    values, words = arrays(frame)
    d = values.shape[1]
    return np.concatenate([values.astype(object), words], axis=1), list(range(d)), list(range(d, d + words.shape[1]))


def standardised(numbers: list[int], text: list[int]) -> ColumnTransformer:
    """Return the preprocessing of linear models and plain distances: standardised numbers with missing flags, one-hot categories."""
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(min_frequency=10, handle_unknown="infrequent_if_exist"), text),
    )


def _logistic(train: pl.DataFrame, outcome: Array, test: pl.DataFrame) -> Array:
    x, numbers, text = stacked(train)
    model = make_pipeline(standardised(numbers, text), LogisticRegression(max_iter=2000))
    return np.asarray(model.fit(x, outcome).predict_proba(stacked(test)[0])[:, 1])


def _ordinal(train: pl.DataFrame, test: pl.DataFrame) -> tuple[Array, Array, int]:
    (values, words), (values_test, words_test) = arrays(train), arrays(test)
    if words.shape[1] == 0:
        return values, values_test, 0
    coder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=5).fit(words)
    return (
        np.concatenate([coder.transform(words), values], axis=1),
        np.concatenate([coder.transform(words_test), values_test], axis=1),
        words.shape[1],
    )


def _forest(train: pl.DataFrame, outcome: Array, test: pl.DataFrame) -> Array:
    x, x_test, _ = _ordinal(train, test)
    forest = RandomForestClassifier(500, min_samples_leaf=2, n_jobs=2, random_state=0).fit(x, outcome)
    return np.asarray(forest.predict_proba(x_test)[:, 1])


def _hist(train: pl.DataFrame, outcome: Array, test: pl.DataFrame) -> Array:
    x, x_test, words = _ordinal(train, test)
    few = [j for j in range(words) if x[:, j].max() < 254]
    model = HistGradientBoostingClassifier(categorical_features=few or None, random_state=0).fit(x, outcome)
    return np.asarray(model.predict_proba(x_test)[:, 1])


def _lightgbm(train: pl.DataFrame, outcome: Array, test: pl.DataFrame) -> Array:
    import lightgbm

    x, x_test, words = _ordinal(train, test)
    data = lightgbm.Dataset(x, outcome, categorical_feature=list(range(words)))
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 2, "seed": 0}, data, num_boost_round=100)
    return np.asarray(booster.predict(x_test))


def _catboost(train: pl.DataFrame, outcome: Array, test: pl.DataFrame) -> Array:
    import catboost

    x, _, text = stacked(train)
    pool = catboost.Pool(x, outcome, cat_features=text)
    model = catboost.CatBoostClassifier(verbose=False, random_seed=0, thread_count=2, allow_writing_files=False).fit(pool)
    return np.asarray(model.predict_proba(stacked(test)[0])[:, 1])
