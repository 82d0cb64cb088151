"""What each optimiser does to a fitted policy, told by a row classifier on rows that neither policy nor critics saw.

    .venv/bin/python -m benchmarks.synthesizers.optimizers COHORT [--generator FOLDER] [--optimisers tilt,awr,ppo] [--rows 4000]

Three tenths of the patients are held out (as in benchmarks/synthesizers/run.py). --generator names a folder that a synthesizer with seed 0, fitted on
the other seven, was saved in; else it is fitted first. Prints the classifier's AUC and the share of the rare outcome, two draws each,
and how much likelier held-out rows became. The intervals of AUCs take the five folds for independent: they are somewhat too narrow.
"""

from __future__ import annotations

import argparse
import copy
import json
import time

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.synthesizers.run import OUTCOME, PATIENT, split
from nearward.synth.constraints.violations import violation_checks
from nearward.synth.inputs.splits import split_by_role
from nearward.synth.optimization.discriminators import separation
from nearward.synth.optimization.gain import paired
from nearward.synth.optimization.improvement import ImproveConfig, ImprovementData, improve
from nearward.synth.policy.autoregressive import FREE, ObservedTokens
from nearward.synth.synthesizer import Synthesizer
from nearward.tabular.typing import Ints


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("cohort")
    asked.add_argument("--generator")
    asked.add_argument("--optimisers", default="tilt,awr,ppo")
    asked.add_argument("--rows", type=int, default=4000, help="rows that critics and optimisers get of the policy")
    told = asked.parse_args()
    train, test = split(told.cohort)
    if told.generator:
        fitted = Synthesizer.load(told.generator)
    else:
        fitted = Synthesizer(seed=0).fit(train, outcome=OUTCOME, groups=PATIENT)
    tokens, policy = fitted._fitted.tokenizer, fitted._fitted.policy
    event = (train[OUTCOME] == fitted.positive).to_numpy().astype(np.int64)
    patient = np.unique(train[PATIENT].to_numpy(), return_inverse=True)[1].astype(np.int64)
    part = split_by_role(event, patient, seed=0)
    place = tokens.column_index[OUTCOME]
    rare = int(tokens.column_tokenizers[place].encode(pl.Series(OUTCOME, [fitted.positive], dtype=train.schema[OUTCOME]))[0])
    groups = sorted({tuple(sorted(tokens.column_index[name] for name in rule.columns)) for rule in fitted.rules if len(rule.columns) > 1})
    coded = {role: tokens.encode(train[rows]) for role, rows in part.items()}
    critics, judges = ((coded[role], patient[part[role]]) for role in ("discriminator", "rules"))
    forbidden = violation_checks(fitted.rules.enforced, tokens)
    ground = ImprovementData(coded["generator"], *critics, *judges, outcome=place, rare=rare, groups=groups, violation_checks=forbidden)
    judged, who = tokens.encode(test), test[PATIENT].to_numpy()
    print(f"{told.cohort}: share of the rare outcome {(judged[:, place] == rare).mean():.4f} held out")
    print("none:", *judgements(policy, judged, who, place, rare))
    for optimiser in told.optimisers.split(","):
        start = time.perf_counter()
        better, account = improve(copy.deepcopy(policy), ground, optimiser, 0, ImproveConfig(rounds=2, rows=told.rows))
        print(f"{optimiser} ({time.perf_counter() - start:.0f} s):", *judgements(better, judged, who, place, rare))
        if optimiser != "tilt":  # whose likelihoods have no known normaliser
            print("  nats that a held-out row won:", paired((better.log_prob(judged) - policy.log_prob(judged)).sum(axis=1), who))
        print(json.dumps(account))


def judgements(policy, real: Ints, who: NDArray, place: int, rare: int) -> list[str]:
    """Tell rows of two draws from held-out ones, five-fold, patients kept together."""
    return [judgement(policy, real, who, place, rare, seed) for seed in (11, 12)]


def judgement(policy, real: Ints, who: NDArray, place: int, rare: int, seed: int) -> str:
    made = policy.sample(np.full(real.shape, FREE), seed, lambda first: ObservedTokens(policy.token_counts))
    draw = np.random.default_rng(seed)
    number = np.unique(who, return_inverse=True)[1]
    folds = (draw.permutation(number.max() + 1) % 5)[number], draw.permutation(len(made)) % 5
    scores = np.zeros(len(real)), np.zeros(len(made))
    for fold in range(5):
        learn, ask = [(side[f != fold], side[f == fold]) for side, f in zip((real, made), folds, strict=True)], folds
        model = HistGradientBoostingClassifier(max_iter=120, learning_rate=0.08, max_leaf_nodes=15, early_stopping=False, random_state=0)
        model.fit(np.concatenate([learn[0][0], learn[1][0]]), np.repeat([1, 0], [len(learn[0][0]), len(learn[1][0])]))
        for score, (_, rows), f in zip(scores, learn, ask, strict=True):
            score[f == fold] = model.decision_function(rows)
    told = separation(*scores, number)
    return f"AUC {told.auc:.3f} ({told.low:.3f} to {told.high:.3f}), share {(made[:, place] == rare).mean():.4f};"


if __name__ == "__main__":
    main()
