"""What the suites over LLM servers share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from notifications.adapters.llm.openai import OpenAISummarizer, Service, connect
from notifications.limits import Limits
from tests.support.web import FakeLLM

Connect = Callable[..., OpenAISummarizer]


@pytest.fixture
async def connected(llm: FakeLLM) -> AsyncIterator[Connect]:
    """Connects, and closes every connection at the end."""
    made: list[OpenAISummarizer] = []

    def connect_once_more(model: str = "test-model", **service: Any) -> OpenAISummarizer:
        made.append(connect("sk-very-secret", f"{llm.url}/v1", Service(model, **service), Limits(concurrency=4)))
        return made[-1]

    yield connect_once_more
    for one in made:
        await one.aclose()
