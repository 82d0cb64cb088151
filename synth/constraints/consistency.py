"""Checks of rules before generation: contradictions between them, and columns that the table does not have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from nearward.tabular.errors import RuleError, did_you_mean, list_names
from nearward.tabular.rules.kinds import Depends, Domain, Implies, Linear, MissingWhere, Order, Range, RangeWhere
from nearward.tabular.rules.rule import Rule
from nearward.tabular.rules.rules import Rules

_Bound = tuple[float, tuple[Rule, ...]]  # a bound, and the rules that it follows from
_NO_LOW: _Bound = (-float("inf"), ())
_NO_HIGH: _Bound = (float("inf"), ())


def check_known_columns(rules: Rules, columns: Sequence[str]) -> None:
    """Raise ``RuleError`` where rules name other columns than these."""
    if unknown := sorted({name for rule in rules for name in rule.columns} - set(columns)):
        raise RuleError(f"rules name columns that the table does not have: {list_names(unknown)}. {did_you_mean(unknown, columns)}")


def check_consistent(rules: Rules) -> None:
    """Check that rules do not contradict each other.

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
    for check in (_domain_contradictions, _bound_contradictions, _implication_contradictions, _condition_contradictions):
        for contradiction in check(rules):
            raise RuleError(f"rules contradict each other: {' / '.join(dict.fromkeys(map(str, contradiction)))}")


def _domain_contradictions(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    domains = [rule for rule in rules if isinstance(rule, Domain)]
    for one, other in combinations(domains, 2):
        if one.column == other.column and not set(one.levels) & set(other.levels):
            yield one, other


def _bound_contradictions(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    """Propagate bounds along orders, and compare them with each other and with sums."""
    low: dict[str, _Bound] = {}
    high: dict[str, _Bound] = {}

    def raise_low(name: str, value: float, reasons: tuple[Rule, ...]) -> None:
        if value > low.get(name, _NO_LOW)[0]:
            low[name] = (value, reasons)

    def lower_high(name: str, value: float, reasons: tuple[Rule, ...]) -> None:
        if value < high.get(name, _NO_HIGH)[0]:
            high[name] = (value, reasons)

    for rule in rules:
        if isinstance(rule, Range):
            raise_low(rule.column, rule.low, (rule,))
            lower_high(rule.column, rule.high, (rule,))
    for _ in range(len(rules) + 1):  # a bound passes through each order once, unless orders form a circle
        for rule in rules:
            if isinstance(rule, Order):
                least, most = low.get(rule.lesser, _NO_LOW), high.get(rule.greater, _NO_HIGH)
                raise_low(rule.greater, least[0], (*least[1], rule))
                lower_high(rule.lesser, most[0], (rule, *most[1]))
    for name in low.keys() & high.keys():
        if low[name][0] > high[name][0]:
            yield (*low[name][1], *high[name][1])
    for rule in rules:
        if isinstance(rule, Linear):
            ends = [rule.constant, rule.constant]
            reasons: list[Rule] = []
            for name, weight in rule.terms:
                sides = (low.get(name, _NO_LOW), high.get(name, _NO_HIGH))
                least, most = sides if weight > 0 else sides[::-1]
                ends = [ends[0] + weight * least[0], ends[1] + weight * most[0]]
                reasons += [*least[1], *most[1]]
            slack = rule.tolerance + 1e-9 * max(1.0, 1.0, *(abs(end) for end in ends if abs(end) != float("inf")))
            least, most = low.get(rule.column, _NO_LOW), high.get(rule.column, _NO_HIGH)
            if ends[1] + slack < least[0] or ends[0] - slack > most[0]:
                yield (rule, *reasons, *least[1], *most[1])


def _condition_contradictions(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    """Compare the ranges and missing values of a column where another has a certain value."""
    ranges = [rule for rule in rules if isinstance(rule, RangeWhere)]
    missing = [rule for rule in rules if isinstance(rule, MissingWhere)]
    for rule in ranges:
        if rule.low > rule.high:
            yield (rule,)
    for one, other in combinations(ranges, 2):
        same = (one.where, one.level, one.column) == (other.where, other.level, other.column)
        if same and (one.low > other.high or other.low > one.high):
            yield one, other
    for first, second in combinations(missing, 2):
        same = (first.where, first.level, first.column) == (second.where, second.level, second.column)
        if same and first.never != second.never:
            yield first, second


def _implication_contradictions(rules: Rules) -> Iterator[tuple[Rule, ...]]:
    """Compare the rules on a column where another has a certain value."""
    implications: dict[tuple[str, str, str], list[tuple[str, bool, Rule]]] = {}
    for rule in rules:
        if isinstance(rule, Implies):
            implications.setdefault((rule.where, rule.level, rule.column), []).append((rule.then, rule.never, rule))
        elif isinstance(rule, Depends):
            for level, then in rule.pairs:
                implications.setdefault((rule.given, level, rule.column), []).append((then, False, rule))
    domains = {rule.column: rule for rule in rules if isinstance(rule, Domain)}
    for (where, level, column), same_condition in implications.items():
        for (then, never, one), (other_then, other_never, other) in combinations(same_condition, 2):
            if (not never and not other_never and then != other_then) or (never != other_never and then == other_then):
                yield one, other
        domain, condition = domains.get(column), domains.get(where)
        for then, never, rule in same_condition:
            if domain and not never and then not in domain.levels and (condition is None or level in condition.levels):
                yield rule, domain
