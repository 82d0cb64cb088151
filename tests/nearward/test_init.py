"""The public names: each is importable from the package."""

from __future__ import annotations

import pytest

import nearward


@pytest.mark.parametrize("name", nearward.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(nearward, name) is not None
    assert name in dir(nearward)


def test_audit_is_the_function_also_after_its_module_was_imported() -> None:
    import nearward.release.audit

    assert nearward.audit is nearward.release.audit.audit


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Risk'"):
        nearward.Risk  # noqa: B018
