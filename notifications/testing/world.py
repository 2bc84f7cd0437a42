"""How a suite fills and reads a store's documents, past the adapter under test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

Doc = dict[str, Any]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def talk(uid: str, at: datetime, **changes: Any) -> Doc:
    """A conversation worth a recap; the fake LLM counts it for `uid`."""
    structured = {
        "title": "A talk",
        "overview": f"who={uid} talked about the garden.",
        "category": "social",
        "action_items": [{"description": "Buy seeds", "completed": False}],
        "events": [],
    }
    doc: Doc = {
        "created_at": at,
        "started_at": at - timedelta(minutes=20),
        "finished_at": at,
        "discarded": False,
        "is_locked": False,
        "structured": structured,
    }
    return doc | changes


class World(Protocol):
    """One store, empty at first."""

    name: str
    environment: str  # as part of Redis' keys

    def env(self) -> dict[str, str]: ...
    def put_user(self, uid: str, doc: Doc, tokens: Mapping[str, str], talks: Mapping[str, Doc]) -> None: ...
    def update_user(self, uid: str, changes: Doc) -> None: ...
    def delete_user(self, uid: str) -> None: ...
    def user(self, uid: str) -> Doc | None: ...
    def tokens(self, uid: str) -> dict[str, Doc]: ...
    def put_token(self, uid: str, key: str, token: str) -> None: ...
    def put_device(self, uid: str, key: str, doc: Doc) -> None: ...
    def ledgers(self, uid: str) -> dict[str, Doc]: ...
    def summaries(self, uid: str) -> dict[str, Doc]: ...
    def put_summary(self, uid: str, key: str, doc: Doc) -> None: ...
    def delete_summary(self, uid: str, key: str) -> None: ...
    def put_ledger(self, uid: str, day: str, doc: Doc) -> None: ...
    def delete_ledger(self, uid: str, day: str) -> None: ...
    def put_talk(self, uid: str, key: str, doc: Doc) -> None: ...
    def close(self) -> None: ...
