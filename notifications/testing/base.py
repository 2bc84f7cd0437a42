"""The base of the contract suites: async tests that pytest runs without a plugin."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Any

import pytest

SUITES = ("claims_suite", "documents_suite", "channel_suite", "store_suite", "summarizer_suite")
pytest.register_assert_rewrite(*(f"{__package__}.{name}" for name in SUITES))  # so that a failure shows its values


class Suite:
    """Each `async def test_…(self, port)` runs in an event loop of its own, with what `make` opens for it."""

    def make(self) -> AbstractAsyncContextManager[Any]:
        """The port under test, empty at first."""
        raise NotImplementedError

    def opened(self) -> AbstractAsyncContextManager[Any]:
        """The argument of each test, which a suite may prepare."""
        return self.make()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, member in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(member):
                setattr(cls, name, _in_a_loop(member))


def _in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    signature = inspect.signature(test)
    itself, _port, *others = signature.parameters.values()

    @wraps(test)
    def run(self: Suite, **given: Any) -> None:
        async def with_port() -> None:
            async with self.opened() as port:
                await test(self, port, **given)

        asyncio.run(with_port())

    run.__signature__ = signature.replace(parameters=[itself, *others])  # type: ignore[attr-defined]
    return run
