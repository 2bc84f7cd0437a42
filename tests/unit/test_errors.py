"""What an error tells: its sentence to a person, and its fields to the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from notifications.domain.errors import ClaimsDown, DependencyDown, ItemFault, ItemReason, ProviderFault, StoreDown


@pytest.mark.parametrize("kind", [DependencyDown, ClaimsDown, StoreDown])
def test_a_dependency_that_is_down_is_named(kind: type[DependencyDown]) -> None:
    error = kind("redis", "Redis does not answer.")
    assert (error.name, str(error)) == ("redis", "Redis does not answer.")


@pytest.mark.parametrize("reason", ItemReason)
def test_an_items_fault_has_its_reason(reason: ItemReason) -> None:
    error = ItemFault(reason, "The LLM refuses this day's notes.")
    assert (error.reason, str(error)) == (reason, "The LLM refuses this day's notes.")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, ("llm", None, False, False)),
        ({"name": "push", "retry_after": timedelta(seconds=7)}, ("push", timedelta(seconds=7), False, False)),
        ({"opens": True}, ("llm", None, True, False)),
        ({"config": True}, ("llm", None, True, True)),  # what a person must mend is not waited for in this run
        ({"opens": True, "config": True}, ("llm", None, True, True)),
    ],
)
def test_a_providers_fault_says_whether_waiting_helps(given: dict[str, Any], told: tuple[Any, ...]) -> None:
    error = ProviderFault("The provider answers 503.", **given)
    assert (error.name, error.retry_after, error.opens, error.config) == told
    assert str(error) == "The provider answers 503."
