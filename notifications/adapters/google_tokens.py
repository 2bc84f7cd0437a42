"""Bearer tokens from google-auth, which knows when they expire. Its refresh blocks, so it runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import google.auth
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request

from notifications.domain.errors import ConfigFault, DependencyDown

REQUEST_SECONDS = 10.0  # the library's default is two minutes


class GoogleTokens:
    """One set of credentials, refreshed once at a time. `where` names the server that the tokens are for."""

    def __init__(self, credentials: Any, where: str) -> None:
        self.credentials = credentials
        self._where = where
        self._refreshing = asyncio.Lock()

    async def token(self, refused: str | None = None) -> str:
        """A valid token, other than a `refused` one. Raises ConfigFault for refused credentials, DependencyDown."""
        async with self._refreshing:
            if not self.credentials.valid or self.credentials.token == refused:
                await asyncio.to_thread(self._refresh)
        return str(self.credentials.token)

    def _refresh(self) -> None:
        try:
            self.credentials.refresh(partial(Request(), timeout=REQUEST_SECONDS))
        except GoogleAuthError as cause:
            kind = type(cause).__name__
            if _is_refusal(cause):
                raise ConfigFault(
                    f"Google refuses the credentials for {self._where} ({kind}); see GOOGLE_APPLICATION_CREDENTIALS."
                ) from cause
            raise DependencyDown("google", f"Google gives no token for {self._where} now ({kind}).") from cause


def _is_refusal(cause: GoogleAuthError) -> bool:
    """Whether the credentials are invalid, not the server unavailable. A metadata server's error is in the cause."""
    answer = cause if isinstance(cause, TransportError) else cause.__cause__
    if not isinstance(answer, TransportError):
        return not cause.retryable
    return len(answer.args) > 1 and 400 <= getattr(answer.args[1], "status", 0) < 500


async def default_tokens(where: str, scopes: Sequence[str]) -> tuple[GoogleTokens, str | None]:
    """Tokens by the machine's own credentials, and the project that these name. Raises ConfigFault."""
    try:
        credentials, project = await asyncio.to_thread(google.auth.default, scopes=list(scopes))
    except GoogleAuthError as cause:
        kind = type(cause).__name__
        sentence = f"{where}: there are no usable credentials ({kind}); set GOOGLE_APPLICATION_CREDENTIALS."
        raise ConfigFault(sentence) from cause
    return GoogleTokens(credentials, where), project
