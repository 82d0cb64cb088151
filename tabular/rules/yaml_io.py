"""Rules as a YAML file that people read and edit: a format line, then one entry a rule, with the counts it rests on."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.errors import RuleError
from nearward.tabular.rules.rules import KINDS, Evidence, Rule, Rules

FORMAT = "nearward-rules/1"
_HEAD = "# Rules that a table keeps. Edit, delete, add (source: user); an unknown key is an error. Kinds and keys: docs/reference/faith-card.md\n"


def write_rules(rules: Rules, path: str | Path) -> None:
    """Write rules as YAML.

    Raises
    ------
    InputError
        The folder does not exist.
    """
    with replacing(Path(path)) as temporary:
        temporary.write_text(to_yaml(rules), encoding="utf-8")


def read_rules(path: str | Path) -> Rules:
    """Read rules from YAML.

    Raises
    ------
    RuleError
        No such file, not YAML, not of this format, or an entry with unknown, missing or unfit keys; the entry is named by its number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path} cannot be read: {type(error).__name__}") from error
    return from_yaml(text, str(path))


def to_yaml(rules: Rules) -> str:
    """Return the rules as YAML.

    Examples
    --------
    >>> from nearward.tabular.rules.rules import Order
    >>> print(to_yaml(Rules((Order("dbp", "sbp"),))).split(chr(10), 1)[1])
    format: nearward-rules/1
    rules:
    - kind: order
      lesser: dbp
      greater: sbp
      source: user
    <BLANKLINE>
    """
    import yaml

    listed = [_entry(rule) for rule in rules.rules]
    return _HEAD + str(yaml.safe_dump({"format": FORMAT, "rules": listed}, sort_keys=False, allow_unicode=True, width=120))


def from_yaml(text: str, name: str = "rules") -> Rules:
    """Read rules from YAML text; see ``read_rules``. ``name`` is what messages call it."""
    import yaml

    try:
        held = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise RuleError(f"{name} is not YAML" + (f": look at line {mark.line + 1}" if mark else "")) from error
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise RuleError(f"{name} is not a rules file: its first key must be 'format: {FORMAT}'")
    unknown = sorted(str(key) for key in held if key not in ("format", "rules"))
    if unknown:
        raise RuleError(f"{name}: unknown keys {unknown}; known: format, rules")
    listed = held.get("rules") or []
    if not isinstance(listed, list):
        raise RuleError(f"{name}: 'rules' must be a list")
    return Rules(tuple(_rule(entry, f"{name}, rule {number}") for number, entry in enumerate(listed, start=1)))


def _entry(rule: Rule) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": rule.kind}
    for one in fields(rule):
        value = getattr(rule, one.name)
        if one.name == "evidence":
            continue
        if one.name in ("pairs", "terms"):
            entry[one.name] = dict(value)
        else:
            entry[one.name] = list(value) if isinstance(value, tuple) else value
    proof = asdict(rule.evidence)
    if proof["enforced"]:
        del proof["enforced"]  # said only where it is not so
    return entry | {key: got for key, got in proof.items() if got is not None}


def _rule(entry: Any, where: str) -> Rule:
    if not isinstance(entry, dict) or entry.get("kind") not in KINDS:
        raise RuleError(f"{where}: needs a 'kind', one of {list(KINDS)}")
    kind = KINDS[entry["kind"]]
    own = [one for one in fields(kind) if one.name != "evidence"]
    known = ["kind", *(one.name for one in own), *(one.name for one in fields(Evidence))]
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise RuleError(f"{where}: unknown keys {unknown}; a rule of kind {entry['kind']!r} has {known}")
    lacking = [one.name for one in own if one.default is MISSING and one.name not in entry]
    if lacking:
        raise RuleError(f"{where}: lacks {lacking}")
    hints = get_type_hints(kind)
    given = {one.name: _value(entry[one.name], hints[one.name], f"{where}: {one.name!r}") for one in own if one.name in entry}
    proof_hints = get_type_hints(Evidence)
    proof = {
        one.name: _value(entry[one.name], proof_hints[one.name], f"{where}: {one.name!r}") for one in fields(Evidence) if one.name in entry
    }
    return kind(**given, evidence=Evidence(**proof))


def _value(value: Any, wanted: Any, where: str) -> Any:
    """Turn what YAML read into what the field holds, or say what is wrong with it; never quote it."""
    if isinstance(wanted, types.UnionType):  # optional
        return None if value is None else _value(value, wanted.__args__[0], where)
    if wanted in _SCALARS:
        return _SCALARS[wanted](value, where)
    if wanted == tuple[str, ...]:
        return tuple(_text(one, where) for one in (value if isinstance(value, list) and value else _unfit(where, "a list")))
    if wanted in (tuple[tuple[str, str], ...], tuple[tuple[str, float], ...]):
        read = _number if wanted == tuple[tuple[str, float], ...] else _text
        held = value if isinstance(value, dict) and value else _unfit(where, "a mapping")
        return tuple((_text(key, where), read(one, where)) for key, one in held.items())
    return value if value in ("mined", "user") else _unfit(where, "mined or user")  # the source


def _number(value: Any, where: str) -> float:
    fit = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    return float(value if fit else _unfit(where, "a number"))


def _whole(value: Any, where: str) -> int:
    return int(value if isinstance(value, int) and not isinstance(value, bool) else _unfit(where, "a whole number"))


def _flag(value: Any, where: str) -> bool:
    return bool(value if isinstance(value, bool) else _unfit(where, "true or false"))


def _text(value: Any, where: str) -> str:
    """Read names and levels; a yes or no without quotes has become something else in YAML, and which is not known."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        _unfit(where, "text: put quotes around yes, no, true, false and dates")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # as the columns write whole numbers
    return str(value)


def _unfit(where: str, wanted: str) -> Any:
    raise RuleError(f"{where} must be {wanted}")


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {float: _number, int: _whole, bool: _flag, str: _text}
