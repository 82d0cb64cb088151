"""Rules as a YAML file that people read and edit: a format line, then one entry a rule, with its evidence."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, Field, asdict, fields
from datetime import date
from pathlib import Path
from typing import Any, get_args, get_type_hints

import polars as pl

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.limited_reading import read_at_most
from nearward.tabular.errors import RuleError
from nearward.tabular.rules.kinds import KINDS
from nearward.tabular.rules.rule import Evidence, Rule, Source, read_numbers
from nearward.tabular.rules.rules import Rules

FORMAT = "nearward-rules/1"
_MAX_DEPTH = 16  # of nested lists and mappings; rules need four
_MAX_BYTES = 4 * 2**20  # of a rules file: some ten thousand rules
_SCALARS: dict[Any, tuple[Any, str]] = {
    float: (int | float, "a number or a date"),
    int: (int, "a whole number"),
    bool: (bool, "true or false"),
}
_HEAD = "# Rules of a table. Edit, delete, add (source: user); an unknown key is an error. Kinds and keys: docs/reference/faith-card.md\n"


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
        No such file, not YAML, not of this format, or an entry with unknown, missing or invalid keys; the entry is named by its number.
    """
    path = Path(path)
    try:
        text = read_at_most(path, _MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path} cannot be read: {type(error).__name__}") from error
    return from_yaml(text, str(path))


def to_yaml(rules: Rules) -> str:
    """Return the rules as YAML.

    Examples
    --------
    >>> from nearward.tabular.rules.kinds import Order
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

    entries = [_to_entry(rule) for rule in rules.rules]
    return _HEAD + str(yaml.safe_dump({"format": FORMAT, "rules": entries}, sort_keys=False, allow_unicode=True, width=120))


def from_yaml(text: str, name: str = "rules") -> Rules:
    """Read rules from YAML text; see ``read_rules``. ``name`` is how messages call the file."""
    import yaml

    try:
        _check_structure(text, name)
        body = yaml.safe_load(text)
    except RuleError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date that no calendar has
        mark = getattr(error, "problem_mark", None)
        raise RuleError(f"{name} is not YAML" + (f": see line {mark.line + 1}" if mark else "")) from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise RuleError(f"{name} is not a rules file: its first key must be 'format: {FORMAT}'")
    unknown = sorted(str(key) for key in body if key not in ("format", "rules"))
    if unknown:
        raise RuleError(f"{name}: unknown keys {unknown}; known: format, rules")
    entries = body.get("rules") or []
    if not isinstance(entries, list):
        raise RuleError(f"{name}: 'rules' must be a list")
    return Rules(tuple(_from_entry(entry, f"{name}, rule {number}") for number, entry in enumerate(entries, start=1)))


def _check_structure(text: str, name: str) -> None:
    """Refuse aliases and deep nesting while the text is read: the first of them ends the reading."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise RuleError(f"{name} holds an alias (*name), which could repeat itself without end: write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise RuleError(f"{name} is not a rules file: it is nested more than {_MAX_DEPTH} levels deep")


def _to_entry(rule: Rule) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": rule.kind}
    for field in _own_fields(type(rule)):
        value = getattr(rule, field.name)
        if field.name in ("pairs", "terms", "powers"):
            entry[field.name] = dict(value)
        else:
            entry[field.name] = list(value) if isinstance(value, tuple) else value
    evidence = asdict(rule.evidence)
    if evidence["enforced"]:
        del evidence["enforced"]  # written only where it is False
    return entry | {key: value for key, value in evidence.items() if value is not None}


def _from_entry(entry: Any, where: str) -> Rule:
    if not isinstance(entry, dict) or entry.get("kind") not in KINDS:
        raise RuleError(f"{where}: needs a 'kind', one of {list(KINDS)}")
    kind = KINDS[entry["kind"]]
    known = ["kind", *(field.name for field in _own_fields(kind)), *(field.name for field in fields(Evidence))]
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise RuleError(f"{where}: unknown keys {unknown}; a rule of kind {entry['kind']!r} has {known}")
    missing = [field.name for field in _own_fields(kind) if field.default is MISSING and field.name not in entry]
    if missing:
        raise RuleError(f"{where}: lacks {missing}")
    evidence = Evidence(**_arguments(Evidence, list(fields(Evidence)), entry, where))
    return kind(**_arguments(kind, _own_fields(kind), entry, where), evidence=evidence)


def _own_fields(kind: type[Rule]) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.name != "evidence"]


def _arguments(cls: type, own: list[Field[Any]], entry: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the constructor arguments that an entry has for these fields of a class."""
    hints = get_type_hints(cls)
    return {field.name: _parse(entry[field.name], hints[field.name], f"{where}: {field.name!r}") for field in own if field.name in entry}


def _parse(value: Any, hint: Any, where: str) -> Any:
    """Turn a YAML value into one of the field's type; errors name the type that is required, never the value."""
    if isinstance(hint, types.UnionType):  # optional
        return None if value is None else _parse(value, hint.__args__[0], where)
    if hint is str:
        return _text(value, where)
    if hint is float and isinstance(value, date):  # a datetime is a date too
        value = float(read_numbers(pl.Series([value]))[0])
    if hint in _SCALARS:
        accepted, required = _SCALARS[hint]
        valid = isinstance(value, accepted) and isinstance(value, bool) == (hint is bool) and not math.isnan(value)
        return hint(value if valid else _unfit(where, required))
    if hint == tuple[str, ...]:
        return tuple(_text(item, where) for item in (value if isinstance(value, list) and value else _unfit(where, "a list")))
    if hint in (tuple[tuple[str, str], ...], tuple[tuple[str, float], ...]):
        mapping = value if isinstance(value, dict) and value else _unfit(where, "a mapping")
        return tuple((_text(key, where), _parse(item, get_args(get_args(hint)[0])[1], where)) for key, item in mapping.items())
    return value if value in get_args(Source) else _unfit(where, "mined or user")


def _text(value: Any, where: str) -> str:
    """Read names and categories; YAML reads an unquoted yes or no as a boolean, and which of them it was is not known."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        _unfit(where, "text: put quotes around yes, no, true, false and dates")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # as the columns write whole numbers
    return str(value)


def _unfit(where: str, required: str) -> Any:
    raise RuleError(f"{where} must be {required}")
