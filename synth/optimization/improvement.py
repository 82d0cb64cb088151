"""Improvement of a fitted policy by the rewards of discriminators, with one of three optimisers.

A round: sample rows, fit discriminators on them and on real rows that the policy never saw, and stop if none separates the two. Otherwise
optimise the policy, and start again with new discriminators, since the old ones are specific to the old policy. A round is undone unless it
raises the likelihood of real rows that neither policy nor discriminators were fitted on: the policy's likelihood is exact.

Shapes: n rows, d columns, k outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from nearward.synth.constraints.violations import ViolationCheck
from nearward.synth.optimization.account import ImprovementAccount, ImprovementRound, paired_gain
from nearward.synth.optimization.awr import AwrConfig, fit_weighted
from nearward.synth.optimization.discriminators import MIN_ROWS, Discriminators
from nearward.synth.optimization.granularities import TableShape
from nearward.synth.optimization.ppo import PpoConfig, improve_by_ppo
from nearward.synth.optimization.reward_shaping import (
    class_weights,
    coverage_bonus,
    density_bonus,
    shape_step_advantages,
    shares,
    within_class,
)
from nearward.synth.optimization.tilting import (
    TiltedPolicy,
    check_effective_share,
    class_tilt_weights,
    effective_share,
    fit_temperature,
    tilt_divergence,
)
from nearward.synth.policy.autoregressive import FREE, ObservedTokens, Policy
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints, Progress

Optimiser = Literal["none", "tilt", "awr", "ppo"]
OPTIMISERS = get_args(Optimiser)
_DENSITY = 5.0  # weight of the density bonus: rows whose cells are all a tenth too rare gain half a standard deviation
_MIN_EFFECTIVE = 0.2  # effective share of awr's rows in each outcome: it is fitted on a higher temperature than tilt accepts


@dataclass(frozen=True)
class ImproveConfig:
    """Settings of the improvement.

    Parameters
    ----------
    rounds : int
        Most rounds, each with new discriminators.
    rows : int
        Rows sampled from the policy for discriminators and optimisers.
    shaping : bool
        Inverse-frequency reward shaping and the density bonus; off for ablations.
    outcome : bool
        Whether the outcome is sampled again given the rest of the row (``nearward.synth.policy.outcome_model``); off for ablations.
    awr, ppo
        Settings of two of the optimisers.
    """

    rounds: int = 2
    rows: int = 8000
    shaping: bool = True
    outcome: bool = True
    awr: AwrConfig = field(default_factory=AwrConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)


@dataclass(frozen=True)
class ImprovementData:
    """Real rows for an improvement, as tokens.

    Parameters
    ----------
    train : (n, d), rows that the policy was fitted on: only shares are taken from them
    real : (m, d), rows of other patients for the discriminators
    patient_ids : (m,) or None, their patients
    validation : (r, d), rows of yet other patients: they alone decide whether a round is kept
    validation_patient_ids : (r,) or None, their patients
    outcome_column : int
    rare_token : int, token of the rare outcome
    column_groups : tuples of columns, those of mined rules and strong associations
    violation_checks : checks of the hard rules
    target : dict of outcome token -> declared share, or None for that of ``train``
    """

    train: Ints
    real: Ints
    patient_ids: Ints | None
    validation: Ints
    validation_patient_ids: Ints | None
    outcome_column: int
    rare_token: int
    column_groups: Sequence[Sequence[int]] = ()
    violation_checks: Sequence[ViolationCheck] = ()
    target: dict[int, float] | None = None

    def prior(self, size: int) -> Floats:
        """Return the share of each outcome token in ``train`` (k,)."""
        return shares(self.train[:, self.outcome_column], size)

    def target_shares(self, size: int) -> Floats:
        """Return the declared share of each outcome token, by default the prior (k,)."""
        if self.target is None:
            return self.prior(size)
        return np.array([self.target.get(token, 0.0) for token in range(size)])

    def rare_share(self, tokens: Ints) -> float:
        """Return the share of rows with the rare outcome."""
        return float((tokens[:, self.outcome_column] == self.rare_token).mean())


def improve(
    policy: Policy,
    data: ImprovementData,
    optimiser: Optimiser,
    seed: int,
    config: ImproveConfig | None = None,
    progress: Progress | None = None,
) -> tuple[Policy | TiltedPolicy, ImprovementAccount]:
    """Improve a policy.

    Parameters
    ----------
    policy : Policy
        Changed in place by awr and ppo.
    data : ImprovementData
    optimiser : str
        ``none``, ``tilt``, ``awr`` or ``ppo``.
    seed : int
    config : ImproveConfig, optional
    progress : callable, optional
        Called with a message after each step.

    Returns
    -------
    policy : the same, or, for ``tilt``, a sampler around it
    account : ImprovementAccount

    Raises
    ------
    InputError
        An unknown optimiser; a declared target with ``tilt``, which keeps the policy's shares; a tilt whose effective sample size is
        under 5 %.
    """
    if optimiser not in OPTIMISERS:
        raise InputError(f"optimiser must be one of {list(OPTIMISERS)}, got {optimiser!r}")
    config = config or ImproveConfig()
    if optimiser == "none":
        return policy, ImprovementAccount(optimiser)
    if optimiser == "tilt" and data.target is not None:
        raise InputError("optimiser='tilt' keeps the policy's own shares of the outcome: a declared target needs 'awr' or 'ppo'")
    if min(len(data.real), len(data.validation)) < MIN_ROWS:
        stopped = f"{len(data.real)} real rows for discriminators, {len(data.validation)} for validation: {MIN_ROWS} of each are needed"
        return policy, ImprovementAccount(optimiser, (ImprovementRound(stopped=stopped),))
    shape = TableShape.of(policy.token_counts, policy.order, data.column_groups, data.violation_checks)
    rng = np.random.default_rng(seed)
    synthetic = _sample(policy, config.rows, _new_seed(rng))
    rare_share = {"learned": data.rare_share(data.train), "before": data.rare_share(synthetic)}
    improved: Policy | TiltedPolicy = policy
    rounds = []
    for _ in range(1 if optimiser == "tilt" else config.rounds):
        discriminators = Discriminators.fit(shape, data.real, synthetic, data.patient_ids, _new_seed(rng))
        if progress is not None:
            progress(f"discriminators: {', '.join(discriminators.active) or 'none'} above chance")
        if optimiser == "tilt":
            improved, round_ = _tilt(policy, discriminators, data, synthetic)
        else:
            round_ = _optimise(policy, discriminators, data, synthetic, optimiser, rng, config, progress)
        rounds.append(round_)
        if round_.stopped is not None:
            break
        synthetic = _sample(improved, config.rows, _new_seed(rng))
    rare_share["after"] = data.rare_share(synthetic)
    return improved, ImprovementAccount(optimiser, tuple(rounds), rare_share)


def _start_round(discriminators: Discriminators) -> ImprovementRound:
    """Fit the temperature; the round stops where the discriminators are no better than chance."""
    round_ = ImprovementRound(discriminators.separations)
    if not discriminators.active:
        return replace(round_, stopped="no discriminator separates held-out real rows from synthetic ones better than chance")
    beta, gain = fit_temperature(discriminators.real_rewards, discriminators.synthetic_rewards)
    if not np.isfinite(beta):
        return replace(round_, stopped="no tilt makes held-out real rows likelier")
    return replace(round_, beta=beta, gain=gain)


def _tilt(
    policy: Policy, discriminators: Discriminators, data: ImprovementData, synthetic: Ints
) -> tuple[Policy | TiltedPolicy, ImprovementRound]:
    round_ = _start_round(discriminators)
    if round_.beta is None:
        return policy, round_
    outcome = synthetic[:, data.outcome_column]
    target = shares(outcome, discriminators.shape.sizes[data.outcome_column])
    effective = check_effective_share(class_tilt_weights(discriminators.synthetic_rewards, outcome, round_.beta, target))
    return TiltedPolicy(policy, discriminators, round_.beta, data.outcome_column), replace(round_, effective=effective)


def _optimise(
    policy: Policy,
    discriminators: Discriminators,
    data: ImprovementData,
    synthetic: Ints,
    optimiser: Optimiser,
    rng: np.random.Generator,
    config: ImproveConfig,
    progress: Progress | None,
) -> ImprovementRound:
    """Run awr or ppo, and undo it unless the validation rows became likelier."""
    round_ = _start_round(discriminators)
    beta = round_.beta
    if beta is None:
        return round_
    before = {name: value.clone() for name, value in policy.network.state_dict().items()}
    log_likelihood = _log_likelihood(policy, data)
    if optimiser == "awr":
        round_ = _run_awr(policy, discriminators, data, synthetic, round_, _new_seed(rng), config, progress)
    else:
        round_ = replace(round_, ppo=_run_ppo(policy, discriminators, data, beta, _new_seed(rng), config, progress))
    gain = paired_gain(_log_likelihood(policy, data) - log_likelihood, data.validation_patient_ids)
    if gain.low > 0:
        return replace(round_, gain_found=gain)
    policy.network.load_state_dict(before)
    return replace(round_, gain_found=gain, stopped="undone: real rows did not become likelier")


def _run_awr(
    policy: Policy,
    discriminators: Discriminators,
    data: ImprovementData,
    synthetic: Ints,
    round_: ImprovementRound,
    seed: int,
    config: ImproveConfig,
    progress: Progress | None,
) -> ImprovementRound:
    outcome, size = synthetic[:, data.outcome_column], discriminators.shape.sizes[data.outcome_column]
    reward, beta = discriminators.synthetic_rewards, round_.beta or 0.0
    if config.shaping:
        reward = reward + _rare_density_bonus(discriminators.shape, data, synthetic)
        weights = class_weights(data.prior(size), shares(outcome, size))
        reward = weights[outcome] * within_class(reward, outcome, size) * reward.std()
    target = data.target_shares(size)
    weight = class_tilt_weights(reward, outcome, beta, target)
    with_target = [y for y in np.unique(outcome) if target[y] > 0]
    while min(effective_share(weight[outcome == y]) for y in with_target) < _MIN_EFFECTIVE:
        beta *= 1.25
        weight = class_tilt_weights(reward, outcome, beta, target)
    awr = fit_weighted(policy.network, synthetic[:, policy.order], weight, seed, config.awr, progress)
    return replace(round_, awr=awr, beta_used=beta, effective=effective_share(weight))


def _run_ppo(
    policy: Policy,
    discriminators: Discriminators,
    data: ImprovementData,
    beta: float,
    seed: int,
    config: ImproveConfig,
    progress: Progress | None,
) -> list[dict[str, float]]:
    shape, size = discriminators.shape, discriminators.shape.sizes[data.outcome_column]
    prior, target = data.prior(size), data.target_shares(size)
    step_of_column = np.argsort(policy.order)
    outcome_step = int(step_of_column[data.outcome_column])

    def rollout(n: int, seed: int) -> Ints:
        return _sample(policy, n, seed)[:, policy.order]

    def reward(tokens: Ints) -> tuple[Floats, dict[str, float]]:
        rows = tokens[:, step_of_column]
        rewards = discriminators.rewards(rows) / beta
        if config.shaping:
            outcome = rows[:, data.outcome_column]
            rewards[:, policy.order[-1]] += _rare_density_bonus(shape, data, rows) / beta
            rewards[:, data.outcome_column] += coverage_bonus(target, shares(outcome, size))[outcome]
        means = {name: float(scores.sum(axis=1).mean()) for name, scores in discriminators.scores(rows).items()}
        return rewards[:, policy.order], means

    def shape_advantage(advantage: Floats, tokens: Ints) -> Floats:
        if not config.shaping:
            return np.asarray((advantage - advantage.mean()) / (advantage.std() + 1e-8))
        return shape_step_advantages(advantage, tokens[:, outcome_step], outcome_step, prior, target)

    divergence = tilt_divergence(discriminators.synthetic_rewards, beta) / len(policy.order)  # nats per column, of PPO's own target
    settings = replace(config.ppo, kl_target=min(config.ppo.kl_target, divergence))
    return improve_by_ppo(policy.network, rollout, reward, shape_advantage, seed, settings, progress)


def _rare_density_bonus(shape: TableShape, data: ImprovementData, synthetic: Ints) -> Floats:
    """Return the density bonus of rows with the rare outcome, 0 for the others (n,)."""
    rare = synthetic[:, data.outcome_column] == data.rare_token
    bonus = np.zeros(len(synthetic))
    if rare.any():
        real = data.train[data.train[:, data.outcome_column] == data.rare_token]
        bonus[rare] = _DENSITY * density_bonus(shape.coarse(real), shape.coarse(synthetic[rare]))
    return bonus


def _log_likelihood(policy: Policy, data: ImprovementData) -> Floats:
    """Return the log probability of each validation row given its outcome (r,): a declared target does not count as a loss."""
    return np.asarray(np.delete(policy.log_prob(data.validation), data.outcome_column, axis=1).sum(axis=1))


def _sample(policy: Policy | TiltedPolicy, n: int, seed: int) -> Ints:
    conditions = np.full((n, len(policy.sizes)), FREE)
    return policy.sample(conditions, seed, lambda start: ObservedTokens(policy.token_counts))


def _new_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
