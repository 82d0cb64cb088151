"""Whether somebody answers for a stamped table: it passed its audit, or a person accepted the risk and gave a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nearward.synth.provenance import verify
from nearward.tabular.errors import NoStamp, NotReleased

SHORTEST_REASON = 10  # letters
_KEYS: dict[str, type | tuple[type, ...]] = {
    "package_version": str,
    "rows": int,
    "generator": dict,
    "audit": (dict, type(None)),
    "passed": bool,
    "missed": list,
    "accepted_risk": (dict, type(None)),
    "sampled_prior": (dict, type(None)),
    "privacy": dict,
}


def verify_release(path: str | Path) -> dict[str, Any]:
    """Return the stamp of a table that was released: unchanged since its audit, and passed or accepted with a reason.

    Raises
    ------
    NotReleased
        Nobody answers for the table.
    NoStamp, StaleAudit, InputError
        As ``verify``; a stamp that no export wrote.
    """
    stamp = verify(path)
    wrong = [key for key, kind in _KEYS.items() if key not in stamp or not isinstance(stamp[key], kind)]
    if wrong:
        raise NoStamp(f"{path}: its stamp was written by no export (keys missing or of another kind: {wrong}); export the table")
    reasons = unmet(stamp)
    accepted = stamp["accepted_risk"] or {}
    if reasons and len(str(accepted.get("reason") or "").strip()) < SHORTEST_REASON:
        raise NotReleased(str(path), reasons)
    return stamp


def unmet(stamp: dict[str, Any]) -> list[str]:
    """Return why a stamp's table has not passed its audit, by all that the stamp says; none where it has."""
    reasons = [str(reason) for reason in stamp["missed"]]
    if stamp["audit"] is None:
        return reasons or ["there is no audit"]
    components = stamp["audit"].get("components")
    parts = components.values() if isinstance(components, dict) else []
    failed = [str(part.get("name")) for part in parts if part.get("status") != "passed"]
    if not reasons and (failed or not parts):
        reasons = [f"components that did not pass: {failed}" if failed else "the audit has no components"]
    return reasons or ([] if stamp["passed"] else ["the audit was not passed"])
