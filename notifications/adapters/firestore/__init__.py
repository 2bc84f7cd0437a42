"""Users, conversations, summaries, devices and ledgers in Firestore.

One AsyncClient, which belongs to one event loop. Pages are separate queries by document
id: no stream is held open across LLM work, since a stream has a deadline and no resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import AsyncClient

from notifications.adapters.firestore.directory import Reporting
from notifications.adapters.firestore.writing import Writing
from notifications.domain.delivery import Terms
from notifications.domain.errors import ConfigFault

if TYPE_CHECKING:
    pass


class FirestoreStore(Writing, Reporting):
    """The Store port over one project's default database."""


def connect(project: str, emulator: str | None, terms: Terms, timeout_seconds: float) -> FirestoreStore:
    """A store for the project; `emulator` (host:port) needs no credentials.

    The client library finds the emulator by FIRESTORE_EMULATOR_HOST itself.
    """
    where = f"Firestore ({f'emulator at {emulator}' if emulator else f'project {project}'})"
    try:
        client = AsyncClient(project=project, credentials=AnonymousCredentials() if emulator else None)
    except GoogleAuthError as cause:
        raise ConfigFault(
            f"{where}: there are no usable credentials ({type(cause).__name__}); set GOOGLE_APPLICATION_CREDENTIALS."
        ) from cause
    return FirestoreStore(client, where, terms, timeout_seconds)
