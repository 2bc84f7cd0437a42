"""A store as somebody outside would wrap one: calls are counted by verb, and drafts are read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import date
from typing import Any

from notifications.domain.model import Draft
from notifications.ports import Store


class CachingStore:
    """Any store, with a cache for drafts: who keeps one says so, and nobody else writes there."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._drafts: dict[tuple[str, date, str], Draft] = {}
        self.calls: Counter[str] = Counter()

    def __getattr__(self, verb: str) -> Any:
        """Every other verb, and the figures of what was read and written."""
        found = getattr(self._inner, verb)
        return self._counted(verb, found) if callable(found) else found

    def _counted(self, verb: str, call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        async def counted(*given: Any, **named: Any) -> Any:
            self.calls[verb] += 1
            return await call(*given, **named)

        return counted

    async def kept_draft(self, uid: str, day: date, key: str) -> Draft | None:
        if (uid, day, key) not in self._drafts:
            found = await self._inner.kept_draft(uid, day, key)
            if found is None:
                return None
            self._drafts[uid, day, key] = found
        return self._drafts[uid, day, key]

    async def keep_draft(self, uid: str, day: date, key: str, draft: Draft) -> None:
        self._drafts.pop((uid, day, key), None)
        await self._inner.keep_draft(uid, day, key, draft)
