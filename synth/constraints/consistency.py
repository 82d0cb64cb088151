"""Finds rules that no row can keep together, and names them, before anybody waits for rows that cannot be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from nearward.tabular.errors import RuleError, did_you_mean
from nearward.tabular.rules.rules import Depends, Domain, Implies, Linear, Order, Range, Rule, Rules

_Bound = tuple[float, tuple[Rule, ...]]


def check_consistent(rules: Rules) -> None:
    """Refuse rules that contradict each other.

    Raises
    ------
    RuleError
        With the rules concerned.

    Examples
    --------
    >>> check_consistent(Rules((Range("age", 0, 120), Order("dbp", "sbp"))))
    >>> check_consistent(Rules((Range("dbp", 150, 200), Range("sbp", 50, 100), Order("dbp", "sbp"))))
    Traceback (most recent call last):
    nearward.tabular.errors.RuleError: rules contradict each other: dbp is from 150 to 200 / dbp is at most sbp / sbp is from 50 to 100
    """
    for found in _contradictions(rules):
        raise RuleError(f"rules contradict each other: {' / '.join(dict.fromkeys(map(str, found)))}")


def check_known_columns(rules: Rules, columns: Sequence[str]) -> None:
    """Refuse rules that speak of other columns.

    Raises
    ------
    RuleError
    """
    if unknown := sorted({name for rule in rules for name in rule.columns} - set(columns)):
        raise RuleError(f"rules speak of columns that the table does not have: {unknown}. {did_you_mean(unknown, columns)}")


def _contradictions(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    yield from _domains(rules)
    yield from _bounds(rules)
    yield from _levels(rules)


def _domains(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    domains = [rule for rule in rules if isinstance(rule, Domain)]
    for one, other in combinations(domains, 2):
        if one.column == other.column and not set(one.levels) & set(other.levels):
            yield one, other


def _bounds(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    """Carry bounds along orders and sums until nothing changes; each knows the rules it comes from."""
    low: dict[str, _Bound] = {}
    high: dict[str, _Bound] = {}
    nothing: tuple[_Bound, _Bound] = ((-float("inf"), ()), (float("inf"), ()))

    def raise_to(name: str, value: float, why: tuple[Rule, ...]) -> bool:
        if value > low.get(name, nothing[0])[0]:
            low[name] = (value, why)
            return True
        return False

    def lower_to(name: str, value: float, why: tuple[Rule, ...]) -> bool:
        if value < high.get(name, nothing[1])[0]:
            high[name] = (value, why)
            return True
        return False

    for rule in rules:
        if isinstance(rule, Range):
            raise_to(rule.column, rule.low, (rule,))
            lower_to(rule.column, rule.high, (rule,))
    for _ in range(len(rules) + 1):
        moved = False
        for rule in rules:
            if isinstance(rule, Order):
                least, most = low.get(rule.lesser, nothing[0]), high.get(rule.greater, nothing[1])
                moved |= raise_to(rule.greater, least[0], (*least[1], rule))
                moved |= lower_to(rule.lesser, most[0], (rule, *most[1]))
        if not moved:
            break
    for name in low.keys() & high.keys():
        if low[name][0] > high[name][0]:
            yield (*low[name][1], *high[name][1])
    for rule in rules:
        if isinstance(rule, Linear):
            ends = [rule.constant, rule.constant]
            why: list[Rule] = []
            for name, weight in rule.terms:
                sides = (low.get(name, nothing[0]), high.get(name, nothing[1]))
                least, most = sides if weight > 0 else sides[::-1]
                ends = [ends[0] + weight * least[0], ends[1] + weight * most[0]]
                why += [*least[1], *most[1]]
            slack = rule.tolerance + 1e-9 * max(1.0, *(abs(end) for end in ends if abs(end) != float("inf")), 1.0)
            least, most = low.get(rule.column, nothing[0]), high.get(rule.column, nothing[1])
            if ends[1] + slack < least[0] or ends[0] - slack > most[0]:
                yield (rule, *why, *least[1], *most[1])


def _levels(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    """Compare what rules say of a column where another has a certain level."""
    said: dict[tuple[str, str, str], list[tuple[str, bool, Rule]]] = {}
    for rule in rules:
        if isinstance(rule, Implies):
            said.setdefault((rule.where, rule.level, rule.column), []).append((rule.then, rule.never, rule))
        elif isinstance(rule, Depends):
            for level, due in rule.pairs:
                said.setdefault((rule.given, level, rule.column), []).append((due, False, rule))
    domains = {rule.column: rule for rule in rules if isinstance(rule, Domain)}
    for (where, level, column), each in said.items():
        for (then, never, one), (other_then, other_never, other) in combinations(each, 2):
            if (not never and not other_never and then != other_then) or (never != other_never and then == other_then):
                yield one, other
        domain, cause = domains.get(column), domains.get(where)
        for then, never, rule in each:
            if domain and not never and then not in domain.levels and (cause is None or level in cause.levels):
                yield rule, domain
