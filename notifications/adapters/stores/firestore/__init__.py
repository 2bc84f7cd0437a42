"""Users, conversations, summaries, devices and ledgers in Firestore.

One channel, which belongs to one event loop. Pages are separate queries by document id: no
stream is held open across LLM work, since a stream has a deadline and no resume.
"""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

from notifications.adapters.stores.firestore.client import OPTIONS
from notifications.adapters.stores.firestore.directory import Reporting
from notifications.adapters.stores.firestore.writing import Writing
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import ConfigFault

EMULATOR_OWNER = (("authorization", "Bearer owner"),)


class FirestoreStore(Writing, Reporting):
    """The Store port over one project's default database."""


def connect(project: str, emulator: str | None, rules: LedgerRules, store_timeout: timedelta) -> FirestoreStore:
    """A store for the project; `emulator` (host:port) needs no credentials."""
    where = f"Firestore ({f'emulator at {emulator}' if emulator else f'project {project}'})"
    if emulator:
        channel = grpc.aio.insecure_channel(emulator, options=OPTIONS)
        return FirestoreStore(channel, project, EMULATOR_OWNER, where, rules, store_timeout)
    try:
        channel = FirestoreGrpcAsyncIOTransport.create_channel(options=OPTIONS)
    except GoogleAuthError as cause:
        raise ConfigFault(
            f"{where}: there are no usable credentials ({type(cause).__name__}); set GOOGLE_APPLICATION_CREDENTIALS."
        ) from cause
    return FirestoreStore(channel, project, (), where, rules, store_timeout)
