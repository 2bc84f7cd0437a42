"""Users, conversations, summaries, devices and ledgers in Firestore, by Google's own asynchronous client."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

from google.cloud.firestore import AsyncClient

from notifications.adapters.google_tokens import GoogleTokens, default_credentials
from notifications.adapters.stores.firestore.writing import Writing
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import ConfigFault


class FirestoreStore(Writing):
    """The Store port over one database of a project. It belongs to one event loop."""


async def connect(
    project: str, database: str, emulator: str | None, rules: LedgerRules, store_timeout: timedelta
) -> FirestoreStore:
    """The project's database; `emulator` (host:port) needs no credentials. Raises ConfigFault or DependencyDown."""
    named = "" if database == "(default)" else f", database {database}"
    where = f"Firestore ({f'emulator at {emulator}' if emulator else f'project {project}'}{named})"
    if emulator:
        return FirestoreStore(AsyncClient(project, database=database), None, where, rules, store_timeout)
    os.environ.pop("FIRESTORE_EMULATOR_HOST", None)  # set and empty, it means none to us and one to the client
    try:
        credentials, _ = await asyncio.to_thread(default_credentials, AsyncClient.SCOPE)
    except ConfigFault as fault:
        raise ConfigFault(f"{where}: {fault}") from fault
    tokens = GoogleTokens(credentials, where)
    await tokens.token()  # nothing is claimed yet: who gets none says so at once
    return FirestoreStore(AsyncClient(project, credentials, database), tokens, where, rules, store_timeout)
