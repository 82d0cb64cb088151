"""Effect of each optimiser on a fitted policy, by a row classifier on holdout rows that neither policy nor discriminators used.

    .venv/bin/python -m benchmarks.synthesizers.optimizers COHORT \
        [--generator FOLDER] [--optimisers tilt,awr,ppo] [--rows 4000]

Three tenths of the patients are the holdout (as in benchmarks/synthesizers/run.py). --generator names the folder of a saved synthesizer
with seed 0, fitted on the other seven tenths; without it one is fitted first. Prints the classifier's AUC and the share of the rare
outcome, two samples each, and the gain in log-likelihood of holdout rows. The intervals of AUCs take the five folds as independent:
somewhat too narrow.
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
from nearward.synth.optimization.account import paired_gain
from nearward.synth.optimization.discriminators import separation
from nearward.synth.optimization.improvement import ImproveConfig, ImprovementData, improve
from nearward.synth.policy.autoregressive import FREE, ObservedTokens
from nearward.synth.synthesizer import Synthesizer
from nearward.tabular.typing import Ints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort")
    parser.add_argument("--generator")
    parser.add_argument("--optimisers", default="tilt,awr,ppo")
    parser.add_argument("--rows", type=int, default=4000, help="rows sampled from the policy for discriminators and optimisers")
    args = parser.parse_args()
    train, test = split(args.cohort)
    if args.generator:
        fitted = Synthesizer.load(args.generator)
    else:
        fitted = Synthesizer(seed=0).fit(train, outcome=OUTCOME, groups=PATIENT)
    tokens, policy = fitted.generator_.tokenizer, fitted.generator_.policy
    event = (train[OUTCOME] == fitted.positive).to_numpy().astype(np.int64)
    patient = np.unique(train[PATIENT].to_numpy(), return_inverse=True)[1].astype(np.int64)
    part = split_by_role(event, patient, seed=0)
    column = tokens.column_index[OUTCOME]
    rare = int(tokens.column_tokenizers[column].encode(pl.Series(OUTCOME, [fitted.positive], dtype=train.schema[OUTCOME]))[0])
    groups = sorted({tuple(sorted(tokens.column_index[name] for name in rule.columns)) for rule in fitted.rules if len(rule.columns) > 1})
    coded = {role: tokens.encode(train[rows]) for role, rows in part.items()}
    discriminator_rows, rule_rows = ((coded[role], patient[part[role]]) for role in ("discriminator", "rules"))
    forbidden = violation_checks(fitted.rules.enforced, tokens)
    data = ImprovementData(
        coded["generator"],
        *discriminator_rows,
        *rule_rows,
        outcome_column=column,
        rare_token=rare,
        column_groups=groups,
        violation_checks=forbidden,
    )
    queries, patient_ids = tokens.encode(test), test[PATIENT].to_numpy()
    print(f"{args.cohort}: share of the rare outcome {(queries[:, column] == rare).mean():.4f} of the holdout")
    print("none:", *judgements(policy, queries, patient_ids, column, rare))
    for optimiser in args.optimisers.split(","):
        start = time.perf_counter()
        better, account = improve(copy.deepcopy(policy), data, optimiser, 0, ImproveConfig(rounds=2, rows=args.rows))
        print(f"{optimiser} ({time.perf_counter() - start:.0f} s):", *judgements(better, queries, patient_ids, column, rare))
        if optimiser != "tilt":  # its likelihoods have no known normaliser
            print(
                "  gain per holdout row, nats:", paired_gain((better.log_prob(queries) - policy.log_prob(queries)).sum(axis=1), patient_ids)
            )
        print(json.dumps(account.to_dict()))


def judgements(policy, real: Ints, patient_ids: NDArray, column: int, rare: int) -> list[str]:
    """Separate rows of two samples from holdout rows, five-fold, grouped by patient."""
    return [judgement(policy, real, patient_ids, column, rare, seed) for seed in (11, 12)]


def judgement(policy, real: Ints, patient_ids: NDArray, column: int, rare: int, seed: int) -> str:
    synthetic = policy.sample(np.full(real.shape, FREE), seed, lambda first: ObservedTokens(policy.token_counts))
    rng = np.random.default_rng(seed)
    number = np.unique(patient_ids, return_inverse=True)[1]
    folds = (rng.permutation(number.max() + 1) % 5)[number], rng.permutation(len(synthetic)) % 5
    scores = np.zeros(len(real)), np.zeros(len(synthetic))
    for fold in range(5):
        learn, ask = [(side[f != fold], side[f == fold]) for side, f in zip((real, synthetic), folds, strict=True)], folds
        model = HistGradientBoostingClassifier(max_iter=120, learning_rate=0.08, max_leaf_nodes=15, early_stopping=False, random_state=0)
        model.fit(np.concatenate([learn[0][0], learn[1][0]]), np.repeat([1, 0], [len(learn[0][0]), len(learn[1][0])]))
        for score, (_, rows), f in zip(scores, learn, ask, strict=True):
            score[f == fold] = model.decision_function(rows)
    result = separation(*scores, number)
    return f"AUC {result.auc:.3f} ({result.low:.3f} to {result.high:.3f}), share {(synthetic[:, column] == rare).mean():.4f};"


if __name__ == "__main__":
    main()
