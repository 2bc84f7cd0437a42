"""The stored text of a recap, for channels that deliver more than its headline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from notifications.domain.model import Ledger, Recap
from notifications.ports import Store
from notifications.recap.document import recap_to, text_hash, text_to_deliver

log = structlog.get_logger()


class StoredText:
    """Call it for the text that the ledger's hash names: from memory, else read from the store, once.

    None if the app has rewritten or deleted the recap, or an older version stored it: no other text is delivered.
    Raises StoreDown.
    """

    def __init__(self, store: Store, uid: str, ledger: Ledger, recap: Recap | None) -> None:
        self._store = store
        self._uid = uid
        self._ledger = ledger
        self._recap = recap
        self._reading: asyncio.Task[Mapping[str, Any] | None] | None = None

    async def __call__(self) -> Mapping[str, Any] | None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> Mapping[str, Any] | None:
        if self._recap is not None:
            return text_to_deliver(recap_to(self._recap))
        ledger = self._ledger
        document = None
        if ledger.recap_hash:
            document = await self._store.summary_document(self._uid, ledger.date, ledger.summary_id)
        if document is None or text_hash(document) != ledger.recap_hash:
            log.warning("recap.text_changed", uid=self._uid, date=str(ledger.date), found=document is not None)
            return None
        return text_to_deliver(document)
