"""Bearer tokens for FCM, of google-auth: it knows when they end. Its refresh blocks, so it runs in a thread."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from notifications.domain.errors import ConfigFault, ProviderFault

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


class Credentials(Protocol):
    """Bearer tokens. `refused`: the push service did not take this one."""

    async def token(self, refused: str | None = None) -> str | None: ...


class NoCredentials:
    """What a loopback server needs."""

    async def token(self, refused: str | None = None) -> str | None:
        """None: no header is sent."""
        return None


class GoogleCredentials:
    """google-auth's credentials, refreshed once at a time."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._refreshing = asyncio.Lock()

    async def token(self, refused: str | None = None) -> str | None:
        """A token that is still valid, by the end that came with it; a new one where that one was refused.

        Raises ConfigFault where Google refuses these credentials, ProviderFault where it can't be asked.
        """
        async with self._refreshing:
            if not self._credentials.valid or self._credentials.token == refused:
                await asyncio.to_thread(self._refresh)
        return str(self._credentials.token)

    def _refresh(self) -> None:
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        try:
            self._credentials.refresh(Request())
        except GoogleAuthError as cause:
            kind = type(cause).__name__
            if isinstance(cause, TransportError) or cause.retryable:
                raise ProviderFault(f"Google gives no push token now ({kind}).", name="push") from cause
            raise ConfigFault(
                f"Google refuses the push credentials ({kind}); see GOOGLE_APPLICATION_CREDENTIALS."
            ) from cause


def default_credentials(project: str | None) -> tuple[Credentials, str]:
    """The machine's own credentials, and whose devices these are. Raises ConfigFault."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        found, own_project = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as cause:
        raise ConfigFault(
            f"There are no usable push credentials ({type(cause).__name__}); set GOOGLE_APPLICATION_CREDENTIALS."
        ) from cause
    if not (project or own_project):
        raise ConfigFault("GOOGLE_CLOUD_PROJECT must be set: FCM wants to know whose devices these are.")
    return GoogleCredentials(found), str(project or own_project)
