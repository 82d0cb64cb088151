"""A generator with patient-level differential privacy: tokenizer, tree marginals and the accountant of their releases.

Everything that depends on patients goes through ``Mechanisms``: the number of rows, ranges, categories, counts, pairs. Everything else must
not depend on them: a column's name and dtype, the sampling seed, the user's rules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.differential_privacy.tokenizer import fit_private_tokenizer
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.schema import Schema
from nearward.tabular.typing import Ints

DELTA = 1e-6  # far below one in the number of patients of any cohort that fits a laptop
_TOKENIZER = 0.4  # share of the budget; the rest selects and counts pairs


@dataclass(frozen=True)
class PrivateGenerator:
    """A generator that may be published.

    Parameters
    ----------
    tokenizer : TableTokenizer
    policy : TreeMarginals
    accountant : PrivacyAccountant
    """

    tokenizer: TableTokenizer
    policy: TreeMarginals
    accountant: PrivacyAccountant


def fit_private(
    frame: pl.DataFrame,
    outcome: str,
    patient_ids: Ints | None,
    epsilon: float,
    delta: float = DELTA,
    rows_per_patient: int | None = None,
    public: Schema | None = None,
    noise_seed: int | None = None,
) -> PrivateGenerator:
    """Fit tokenizer and marginals within a privacy budget.

    Parameters
    ----------
    frame : n rows, without the column of patients
    outcome : str
    patient_ids : (n,), patient numbers from 0, or None where every row is a patient
    epsilon, delta : float
        Privacy budget; see ``nearward.synth.differential_privacy.accountant``.
    rows_per_patient : int, optional
        Contribution bound: the first rows of each patient are used. Noise grows with it. By default 1 where every row is a patient, else 2.
    public : Schema, optional
        Ranges and categories from a codebook, without privacy loss. A schema inferred from these rows is not public.
    noise_seed : int, optional
        For tests only. Without it the same call gives another result each time, as it must.

    Raises
    ------
    InputError
        An invalid epsilon or delta, or fewer than 50 rows for each encoded dimension.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pl.DataFrame({"old": rng.random(2000) < 0.5}).with_columns(died=pl.col("old") & pl.Series(rng.random(2000) < 0.2))
    >>> print(str(fit_private(table, "died", None, epsilon=2.0).accountant).splitlines()[0])
    epsilon 1.85 of 2, delta 5e-07; per patient, at most 1 rows each
    """
    bound = rows_per_patient or (1 if patient_ids is None else 2)
    mechanisms = Mechanisms(PrivacyAccountant(epsilon, delta, bound), noise_seed)
    bounded = frame if patient_ids is None else frame[_first_rows(patient_ids, bound)]
    rho = mechanisms.accountant.budget
    private = fit_private_tokenizer(bounded, outcome, mechanisms, rho * _TOKENIZER, delta / 2, public)
    tokens = private.tokenizer.encode(bounded)
    policy = TreeMarginals.fit(tokens, private.counts, mechanisms, rho * (1 - _TOKENIZER), bounded.columns.index(outcome))
    return PrivateGenerator(private.tokenizer, policy, mechanisms.accountant)


def _first_rows(patient_ids: Ints, bound: int) -> Ints:
    """Return the first ``bound`` rows of each patient.

    The selection must not depend on other patients: a random sample over the whole table would differ for everyone in a neighbouring
    table, and the sensitivity would not be bounded.
    """
    order = np.argsort(patient_ids, kind="stable")
    _, start, size = np.unique(patient_ids[order], return_index=True, return_counts=True)
    return np.sort(order[(np.arange(len(order)) - np.repeat(start, size)) < bound])
