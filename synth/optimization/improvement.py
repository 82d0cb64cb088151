"""Improves a fitted policy by what critics tell it, with one of three optimisers, and gives an account of what that did.

A round: draw rows, fit the critics on them and on real rows that the policy never saw, and stop where no critic can tell them apart;
else improve, and begin again with fresh critics, for the old ones know the old policy only. What a round did is undone unless it made
real rows likelier that neither policy nor critics learned from: the policy tells exactly how likely a row is, and the critics' gain is a
gain of likelihood or it is noise.

Letters: n rows, d columns, k outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from nearward.synth.constraints.violations import ViolationCheck
from nearward.synth.optimization.awr import AwrConfig, fit_again
from nearward.synth.optimization.discriminator_levels import Shape
from nearward.synth.optimization.discriminators import FEWEST, Discriminators
from nearward.synth.optimization.gain import paired
from nearward.synth.optimization.ppo import PpoConfig, improve_by_ppo
from nearward.synth.optimization.reward_shaping import class_weights, coverage_bonus, density_bonus, shaped_steps, shares, within_class
from nearward.synth.optimization.tilt import class_tilted, effective_share, refuse_thin, temperature, tilt_divergence
from nearward.synth.optimization.tilted import Tilted
from nearward.synth.policy.autoregressive import FREE, ObservedTokens, Policy
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints

Optimiser = Literal["none", "tilt", "awr", "ppo"]
OPTIMISERS = get_args(Optimiser)
_DENSITY = 5.0  # of the density bonus: a row of cells neglected by a tenth each gains half a standard deviation
_LEAST_EFFECTIVE = 0.2  # of the rows that awr learns from, in each outcome: a cooler target than tilt dares


@dataclass(frozen=True)
class ImproveConfig:
    """How a policy is improved.

    Parameters
    ----------
    rounds : int
        Critics fitted, at most.
    rows : int
        Rows that critics and optimisers get of the policy.
    shaping : bool
        Inverse-frequency reward shaping and the density bonus; off for ablations.
    outcome : bool
        Whether the outcome is drawn once more given the rest of the row (``nearward.synth.policy.outcome_model``); off for ablations.
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
    """Real rows behind an improvement, as tokens.

    Parameters
    ----------
    learned : (n, d), what the policy learned from: nothing but shares is taken from these
    real : (m, d), rows for the critics, of other patients
    patient : (m,) or None, whose rows these are
    judges : (r, d), rows of yet other patients: whether a round is kept is decided on these alone
    judge : (r,) or None, whose rows these are
    outcome : int, the outcome's column
    rare : int, the rare outcome's token
    groups : tuples of columns, those of mined rules and strong associations
    violation_checks : what hard rules forbid
    target : dict of outcome's token -> declared share, or None for that of ``learned``
    """

    learned: Ints
    real: Ints
    patient: Ints | None
    judges: Ints
    judge: Ints | None
    outcome: int
    rare: int
    groups: Sequence[Sequence[int]] = ()
    violation_checks: Sequence[ViolationCheck] = ()
    target: dict[int, float] | None = None


def improve(
    policy: Policy,
    ground: ImprovementData,
    optimiser: Optimiser,
    seed: int,
    config: ImproveConfig | None = None,
    progress: Callable[..., None] | None = None,
) -> tuple[Policy | Tilted, dict[str, Any]]:
    """Improve a policy.

    Parameters
    ----------
    policy : Policy
        Changed in place by awr and ppo.
    ground : Ground
    optimiser : str
        ``none``, ``tilt``, ``awr`` or ``ppo``.
    seed : int
    config : ImproveConfig, optional
    progress : callable, optional
        Called with a few words after each piece of work.

    Returns
    -------
    policy : the same, or, for ``tilt``, a sampler around it
    account : dict, JSON-able: per round each critic's held-out AUC, which are open, temperature, the gain foreseen and found, effective
        share, PPO's diagnostics; the rare outcome's share before and after

    Raises
    ------
    InputError
        An unknown optimiser; a declared target with ``tilt``, which keeps the policy's shares; a tilt whose effective sample size is
        under 5 %.
    """
    if optimiser not in OPTIMISERS:
        raise InputError(f"optimiser must be one of {list(OPTIMISERS)}, got {optimiser!r}")
    config = config or ImproveConfig()
    account: dict[str, Any] = {"optimiser": optimiser, "rounds": []}
    if optimiser == "none":
        return policy, account
    if optimiser == "tilt" and ground.target is not None:
        raise InputError("optimiser='tilt' keeps the policy's own shares of the outcome: a declared target needs 'awr' or 'ppo'")
    if min(len(ground.real), len(ground.judges)) < FEWEST:
        left = f"{len(ground.real)} real rows are left for critics, {len(ground.judges)} to judge a round by: {FEWEST} are needed"
        return policy, account | {"rounds": [{"stopped": left}]}
    shape = Shape.of(policy.token_counts, policy.order, ground.groups, ground.violation_checks)
    draw = np.random.default_rng(seed)
    made = _drawn(policy, config.rows, int(draw.integers(2**31)))
    account["rare share"] = {"learned": _rare(ground, ground.learned), "before": _rare(ground, made)}
    result: Policy | Tilted = policy
    nats = _nats(policy, ground)
    for _ in range(1 if optimiser == "tilt" else config.rounds):
        critics = Discriminators.fit(shape, ground.real, made, ground.patient, int(draw.integers(2**31)))
        told: dict[str, Any] = {"critics": {name: asdict(held) for name, held in critics.held_out.items()}, "open": critics.open}
        account["rounds"].append(told)
        if progress is not None:
            progress(f"critics: {', '.join(critics.open) or 'none'} can tell")
        if not critics.open:
            told["stopped"] = "no critic tells held-out real rows from synthetic ones better than chance"
            break
        beta, gain = temperature(critics.real, critics.made)
        if not np.isfinite(beta):
            told["stopped"] = "no tilt makes held-out real rows likelier"
            break
        told |= {"beta": beta, "gain": gain}
        if optimiser == "tilt":
            outcome = made[:, ground.outcome]
            told["effective"] = refuse_thin(class_tilted(critics.made, outcome, beta, shares(outcome, shape.sizes[ground.outcome])))
            result = Tilted(policy, critics, beta, ground.outcome)
            made = _drawn(result, config.rows, int(draw.integers(2**31)))
            continue
        before = {name: value.clone() for name, value in policy.network.state_dict().items()}
        if optimiser == "awr":
            told |= _awr(policy, critics, ground, made, beta, int(draw.integers(2**31)), config, progress)
        else:
            told["ppo"] = _ppo(policy, critics, ground, beta, int(draw.integers(2**31)), config, progress)
        won = _nats(policy, ground) - nats
        found = paired(won, ground.judge)
        told["gain found"] = asdict(found)
        if found.low <= 0:
            policy.network.load_state_dict(before)
            told["stopped"] = "undone: real rows did not become likelier"
            break
        nats = nats + won
        made = _drawn(result, config.rows, int(draw.integers(2**31)))
    account["rare share"]["after"] = _rare(ground, made)
    return result, account


def _awr(
    policy: Policy,
    critics: Discriminators,
    ground: ImprovementData,
    made: Ints,
    beta: float,
    seed: int,
    config: ImproveConfig,
    progress: Callable[..., None] | None,
) -> dict[str, Any]:
    outcome = made[:, ground.outcome]
    reward = critics.made
    if config.shaping:
        reward = reward + _spread_minority(critics.shape, ground, made)
        prior = _prior(ground, critics.shape.sizes[ground.outcome])
        weigh = class_weights(prior, shares(outcome, len(prior)))
        reward = weigh[outcome] * within_class(reward, outcome, len(prior)) * reward.std()
    target = _target(ground, critics.shape.sizes[ground.outcome])
    weight = class_tilted(reward, outcome, beta, target)
    wanted = [y for y in np.unique(outcome) if target[y] > 0]
    while min(effective_share(weight[outcome == y]) for y in wanted) < _LEAST_EFFECTIVE:
        beta *= 1.25  # a cooler target, rather than one that a few rows stand for
        weight = class_tilted(reward, outcome, beta, target)
    told = fit_again(policy.network, made[:, policy.order], weight, seed, config.awr, progress)
    return {"awr": told, "beta used": beta, "effective": effective_share(weight)}


def _ppo(
    policy: Policy,
    critics: Discriminators,
    ground: ImprovementData,
    beta: float,
    seed: int,
    config: ImproveConfig,
    progress: Callable[..., None] | None,
) -> list[dict[str, float]]:
    size = critics.shape.sizes[ground.outcome]
    prior, target = _prior(ground, size), _target(ground, size)
    back = np.argsort(policy.order)
    place = int(back[ground.outcome])

    def draw_rows(n: int, seed: int) -> Ints:
        return _drawn(policy, n, seed)[:, policy.order]

    def reward(tokens: Ints) -> tuple[Floats, dict[str, float]]:
        rows = tokens[:, back]
        earned = critics.rewards(rows) / beta
        if config.shaping:
            outcome = rows[:, ground.outcome]
            earned[:, policy.order[-1]] += _spread_minority(critics.shape, ground, rows) / beta
            earned[:, ground.outcome] += coverage_bonus(target, shares(outcome, size))[outcome]
        levels = {name: float(scores.sum(axis=1).mean()) for name, scores in critics.each(rows).items()}
        return earned[:, policy.order], levels

    def shape_advantage(advantage: Floats, tokens: Ints) -> Floats:
        outcome = tokens[:, place]
        if not config.shaping:
            return np.asarray((advantage - advantage.mean()) / (advantage.std() + 1e-8))
        return shaped_steps(advantage, outcome, place, prior, target)

    far = tilt_divergence(critics.made, beta) / len(policy.order)  # nats a column: where the tilted rows lie; no farther
    settings = replace(config.ppo, kl_target=min(config.ppo.kl_target, far))
    return improve_by_ppo(policy.network, draw_rows, reward, shape_advantage, seed, settings, progress)


def _nats(policy: Policy, ground: ImprovementData) -> Floats:
    """Return the log probability of each judge given its outcome (r,): a declared target is no mistake of the policy."""
    return np.asarray(np.delete(policy.log_prob(ground.judges), ground.outcome, axis=1).sum(axis=1))


def _drawn(policy: Policy | Tilted, n: int, seed: int) -> Ints:
    given = np.full((n, len(policy.sizes)), FREE)
    return policy.sample(given, seed, lambda first: ObservedTokens(policy.token_counts))


def _spread_minority(shape: Shape, ground: ImprovementData, made: Ints) -> Floats:
    """Return the density bonus of rows with the rare outcome, 0 for the others (n,)."""
    rare = made[:, ground.outcome] == ground.rare
    bonus = np.zeros(len(made))
    if rare.any():
        real = ground.learned[ground.learned[:, ground.outcome] == ground.rare]
        bonus[rare] = _DENSITY * density_bonus(shape.coarse(real), shape.coarse(made[rare]))
    return bonus


def _prior(ground: ImprovementData, size: int) -> Floats:
    return shares(ground.learned[:, ground.outcome], size)


def _target(ground: ImprovementData, size: int) -> Floats:
    if ground.target is None:
        return _prior(ground, size)
    return np.array([ground.target.get(token, 0.0) for token in range(size)])


def _rare(ground: ImprovementData, tokens: Ints) -> float:
    return float((tokens[:, ground.outcome] == ground.rare).mean())
