"""Inverse-frequency reward shaping (our formulas; DISCO-TAB names the idea and gives none), as pure functions.

The *advantages* of a rare outcome are weighted, never its rewards: a positive reward times 1/frequency would shift the sampled prior
towards the rare outcome. Advantages have mean 0 within each outcome, so that weights do not shift the prior.

Shapes: n rows, d columns, k outcomes.
"""

from __future__ import annotations

import numpy as np

from nearward.tabular.typing import Floats, Ints

_MIN_SHARE = 1e-6
_MIN_WEIGHT, _MAX_WEIGHT = 0.1, 10.0


def shares(outcome: Ints, outcomes: int) -> Floats:
    """Return the share of each outcome (k,)."""
    return np.bincount(outcome, minlength=outcomes) / max(len(outcome), 1)


def within_class(reward: Floats, outcome: Ints, outcomes: int) -> Floats:
    """Standardise rewards within each outcome: (R − mean_y R) / (sd_y R + ε) (n,).

    Examples
    --------
    >>> within_class(np.array([1.0, 3.0, 10.0, 30.0]), np.array([0, 0, 1, 1]), 2).round(3).tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    count = np.maximum(np.bincount(outcome, minlength=outcomes), 1)
    mean = np.bincount(outcome, weights=reward, minlength=outcomes) / count
    deviation = reward - mean[outcome]
    sd = np.sqrt(np.bincount(outcome, weights=deviation**2, minlength=outcomes) / count)
    return np.asarray(deviation / (sd[outcome] + 1e-8))


def class_weights(prior: Floats, running: Floats) -> Floats:
    """Return ω_y = clip((p_y k)^(−1/2), 1/10, 10), rescaled so that Σ q_y ω_y = 1 (k,).

    Parameters
    ----------
    prior : (k,), p, outcome shares of the training rows
    running : (k,), q, of the rows sampled now

    Examples
    --------
    >>> class_weights(np.array([0.5, 0.5]), np.array([0.5, 0.5])).tolist()
    [1.0, 1.0]
    """
    weight = (np.maximum(prior, _MIN_SHARE) * len(prior)) ** -0.5
    weight = weight.clip(_MIN_WEIGHT, _MAX_WEIGHT)
    total = float((running * weight).sum())
    return np.asarray(weight / total) if total > 0 else weight


def coverage_bonus(target: Floats, running: Floats, strength: float = 1.0) -> Floats:
    """Return λ log(τ_y / max(q_y, 1e-6)) (k,): it moves the sampled prior towards the target, and is zero there.

    Parameters
    ----------
    target : (k,), τ; an outcome with τ = 0 gets no bonus
    running : (k,), q
    strength : float, λ
    """
    q = np.maximum(running, _MIN_SHARE)
    return strength * np.where(target > 0, np.log(np.maximum(target, _MIN_SHARE) / q), 0.0)


def density_bonus(real: Ints, synthetic: Ints) -> Floats:
    """Log ratio of real to synthetic marginals of the cells of synthetic rows with one outcome, mean over columns, in nats (m,).

    Zero where both have the same shares; positive for cells that the policy neglects, negative for a prototype that it repeats.

    Parameters
    ----------
    real : (n, d), coarse tokens of real rows with the outcome
    synthetic : (m, d), of synthetic rows with it
    """
    bonus = np.zeros(len(synthetic))
    for j in range(synthetic.shape[1]):
        size = int(max(real[:, j].max(initial=0), synthetic[:, j].max(initial=0))) + 1
        share = [(np.bincount(rows[:, j], minlength=size) + 0.5) / (len(rows) + 0.5 * size) for rows in (real, synthetic)]
        bonus += np.log(share[0] / share[1])[synthetic[:, j]]
    return np.asarray(bonus / max(synthetic.shape[1], 1))


def shape_advantage(advantage: Floats, outcome: Ints, prior: Floats, target: Floats, strength: float = 1.0) -> Floats:
    """Return ω_y A + coverage bonus, A the within-class advantage (n,); if τ = q its mean is 0 within every outcome.

    Parameters
    ----------
    advantage : (n,), any reward
    outcome : (n,), 0 … k - 1
    prior, target : (k,), p and τ
    strength : float, λ
    """
    running = shares(outcome, len(prior))
    weight, bonus = class_weights(prior, running), coverage_bonus(target, running, strength)
    return np.asarray(weight[outcome] * within_class(advantage, outcome, len(prior)) + bonus[outcome])


def shape_step_advantages(
    advantage: Floats, outcome: Ints, outcome_step: int, prior: Floats, target: Floats, strength: float = 1.0
) -> Floats:
    """Return the shaped advantages of each step (n, d).

    Each step has mean 0 within an outcome, but all steps of an outcome share one standard deviation: a step without reward must not be
    scaled up to the size of the others. The step of the outcome gets the coverage bonus alone: nothing else may shift the prior.

    Parameters
    ----------
    advantage : (n, d)
    outcome : (n,), 0 … k - 1
    outcome_step : int, the step that samples the outcome
    prior, target : (k,), p and τ
    strength : float, λ
    """
    n, d = advantage.shape
    running = shares(outcome, len(prior))
    count = np.maximum(np.bincount(outcome, minlength=len(prior)), 1)
    mean = np.stack([np.bincount(outcome, weights=advantage[:, t], minlength=len(prior)) / count for t in range(d)], axis=1)  # (k, d)
    others = np.delete(advantage - mean[outcome], outcome_step, axis=1)
    shaped = shape_advantage(others.ravel(), np.repeat(outcome, d - 1), prior, running)
    bonus = coverage_bonus(target, running, strength)[outcome]
    return np.insert(shaped.reshape(n, d - 1), outcome_step, bonus - bonus.mean(), axis=1)
