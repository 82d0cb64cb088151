"""Inverse-frequency reward shaping (our formulas; DISCO-TAB names the idea and gives none), as pure functions.

A rare outcome is kept alive by making its *advantages* larger, never its rewards: a positive reward times 1/frequency would pull the
sampled prior towards the rare outcome. Advantages have mean 0 within each outcome, so that weighing them moves no prior.

Letters: n rows, d columns, k outcomes.
"""

from __future__ import annotations

import numpy as np

from nearward.tabular.typing import Floats, Ints

_LEAST_SHARE = 1e-6
_LEAST_WEIGHT, _MOST_WEIGHT = 0.1, 10.0


def shares(outcome: Ints, outcomes: int) -> Floats:
    """Return the share of each outcome (k,)."""
    return np.bincount(outcome, minlength=outcomes) / max(len(outcome), 1)


def within_class(reward: Floats, outcome: Ints, outcomes: int) -> Floats:
    """Return (R − mean_y R) / (sd_y R + ε), mean and spread those of the row's outcome (n,).

    Examples
    --------
    >>> within_class(np.array([1.0, 3.0, 10.0, 30.0]), np.array([0, 0, 1, 1]), 2).round(3).tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    count = np.maximum(np.bincount(outcome, minlength=outcomes), 1)
    mean = np.bincount(outcome, weights=reward, minlength=outcomes) / count
    away = reward - mean[outcome]
    spread = np.sqrt(np.bincount(outcome, weights=away**2, minlength=outcomes) / count)
    return np.asarray(away / (spread[outcome] + 1e-8))


def class_weights(prior: Floats, running: Floats) -> Floats:
    """Return ω_y = clip((p_y k)^(−1/2), 1/10, 10), rescaled so that Σ q_y ω_y = 1 (k,).

    Parameters
    ----------
    prior : (k,), p, in the rows that were learned
    running : (k,), q, in the rows that are drawn now

    Examples
    --------
    >>> class_weights(np.array([0.5, 0.5]), np.array([0.5, 0.5])).tolist()
    [1.0, 1.0]
    """
    weight = (np.maximum(prior, _LEAST_SHARE) * len(prior)) ** -0.5
    weight = weight.clip(_LEAST_WEIGHT, _MOST_WEIGHT)
    total = float((running * weight).sum())
    return np.asarray(weight / total) if total > 0 else weight


def coverage_bonus(target: Floats, running: Floats, strength: float = 1.0) -> Floats:
    """Return λ log(τ_y / max(q_y, 1e-6)) (k,): what draws the sampled prior to the declared one, and zero where it is there.

    Parameters
    ----------
    target : (k,), τ; an outcome with τ = 0 gets no bonus
    running : (k,), q
    strength : float, λ
    """
    q = np.maximum(running, _LEAST_SHARE)
    return strength * np.where(target > 0, np.log(np.maximum(target, _LEAST_SHARE) / q), 0.0)


def density_bonus(real: Ints, made: Ints) -> Floats:
    """Return, for rows of one outcome, by how much their cells are rarer than among real rows of it, in nats a column (m,).

    Zero where both have the same shares; positive for what the policy neglects, negative for a prototype that it repeats.

    Parameters
    ----------
    real : (n, d), coarse tokens of real rows with the outcome
    made : (m, d), of made rows with it
    """
    bonus = np.zeros(len(made))
    for j in range(made.shape[1]):
        size = int(max(real[:, j].max(initial=0), made[:, j].max(initial=0))) + 1
        share = [(np.bincount(rows[:, j], minlength=size) + 0.5) / (len(rows) + 0.5 * size) for rows in (real, made)]
        bonus += np.log(share[0] / share[1])[made[:, j]]
    out: Floats = bonus / max(made.shape[1], 1)
    return out


def shaped(advantage: Floats, outcome: Ints, prior: Floats, target: Floats, strength: float = 1.0) -> Floats:
    """Return ω_y A + coverage bonus, A the within-class advantage (n,); with τ = q its mean is 0 in every outcome.

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


def shaped_steps(advantage: Floats, outcome: Ints, place: int, prior: Floats, target: Floats, strength: float = 1.0) -> Floats:
    """Return the shaped advantages of each step (n, d).

    Each step has mean 0 within an outcome, but the spread is one for all of an outcome's steps: a step that earns nothing must not be
    blown up to the size of one that does. At the outcome's own step stands the coverage bonus alone: nothing else may move the prior.

    Parameters
    ----------
    advantage : (n, d)
    outcome : (n,), 0 … k - 1
    place : int, the step that writes the outcome
    prior, target : (k,), p and τ
    strength : float, λ
    """
    n, d = advantage.shape
    running = shares(outcome, len(prior))
    count = np.maximum(np.bincount(outcome, minlength=len(prior)), 1)
    mean = np.stack([np.bincount(outcome, weights=advantage[:, t], minlength=len(prior)) / count for t in range(d)], axis=1)  # (k, d)
    others = np.delete(advantage - mean[outcome], place, axis=1)
    even = shaped(others.ravel(), np.repeat(outcome, d - 1), prior, running)
    bonus = coverage_bonus(target, running, strength)[outcome]
    return np.insert(even.reshape(n, d - 1), place, bonus - bonus.mean(), axis=1)
