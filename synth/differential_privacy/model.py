"""A synthesizer's cells and policy under differential privacy at the level of the patient, with the ledger of what was told.

Everything that depends on patients goes through ``Mechanisms``: how many rows there are, ranges, levels, counts, pairs. What does not go
through it must not depend on them: a column's name and dtype, the seed of sampling, rules that the user wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.differential_privacy.tokenizer import private_cells
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.schema import Schema
from nearward.tabular.typing import Ints

DELTA = 1e-6  # far below one in the number of patients of any cohort that fits a laptop
_CELLS = 0.4  # of the budget; the rest chooses and counts pairs


@dataclass(frozen=True)
class PrivateGenerator:
    """What may be published about a table.

    Parameters
    ----------
    tokens : Tokens
    policy : Marginals
    ledger : Ledger
    """

    tokens: TableTokenizer
    policy: TreeMarginals
    ledger: PrivacyAccountant


def fit_private(
    frame: pl.DataFrame,
    outcome: str,
    patient: Ints | None,
    epsilon: float,
    delta: float = DELTA,
    rows_per_patient: int | None = None,
    public: Schema | None = None,
    noise_seed: int | None = None,
) -> PrivateGenerator:
    """Learn cells and marginals.

    Parameters
    ----------
    frame : n rows, without the patients' column
    outcome : str
    patient : (n,), patient numbers from 0, or None where every row is a patient of its own
    epsilon, delta : float
        What one patient's presence may change; see ``nearward.synth.differential_privacy.accountant``.
    rows_per_patient : int, optional
        Rows used of each patient, the table's first: noise grows with it. By default 1 where every row is a patient, else 2.
    public : Schema, optional
        Ranges and categories from a codebook: they cost nothing. A schema inferred from these rows is not public.
    noise_seed : int, optional
        For tests only. Without it the same call gives another result each time, and must.

    Raises
    ------
    InputError
        An epsilon or delta without meaning, or fewer than 50 rows for each encoded dimension.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> table = pl.DataFrame({"old": draw.random(2000) < 0.5}).with_columns(died=pl.col("old") & pl.Series(draw.random(2000) < 0.2))
    >>> print(str(fit_private(table, "died", None, epsilon=2.0).ledger).splitlines()[0])
    epsilon 1.85 of 2, delta 5e-07; per patient, at most 1 rows each
    """
    most = rows_per_patient or (1 if patient is None else 2)
    tell = Mechanisms(PrivacyAccountant(epsilon, delta, most), noise_seed)
    used = frame if patient is None else frame[_bounded(patient, most)]
    rho = tell.ledger.budget
    cells = private_cells(used, outcome, tell, rho * _CELLS, delta / 2, public)
    coded = cells.tokens.encode(used)
    policy = TreeMarginals.fit(coded, cells.counts, tell, rho * (1 - _CELLS), used.columns.index(outcome))
    return PrivateGenerator(cells.tokens, policy, tell.ledger)


def _bounded(patient: Ints, most: int) -> Ints:
    """Return the rows to use: the first of each patient.

    Which rows are used of a patient hangs on nobody else: a lot drawn over the whole table would fall otherwise for everyone when one
    patient more is in it, and the bound on what he changes would not hold.
    """
    order = np.argsort(patient, kind="stable")
    _, begin, size = np.unique(patient[order], return_index=True, return_counts=True)
    return np.sort(order[(np.arange(len(order)) - np.repeat(begin, size)) < most])
