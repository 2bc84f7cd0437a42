"""Where a server is, and why nobody answered there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import openai
from httpx2 import URL, ConnectError, ConnectTimeout, PoolTimeout

NEVER_SENT = (ConnectError, ConnectTimeout, PoolTimeout)  # nothing of the question was written


def place(url: URL) -> str:
    """Host and port: of several servers on one machine it is the port that tells them apart."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def unreachable(cause: openai.APIError) -> str:
    """Why nobody answered, and what to do; the client says "timed out" of a refused connection too."""
    causes = list(_chain(cause))
    if any(isinstance(one, OSError) and one.errno == errno.ECONNREFUSED for one in causes):
        return "refuses the connection; check OPENAI_BASE_URL, and whether the server runs."
    if any(isinstance(one, socket.gaierror) for one in causes):
        return "has no address that is known here; check OPENAI_BASE_URL and the name server."
    return f"does not answer ({type(cause).__name__}); check OPENAI_BASE_URL and the network."
