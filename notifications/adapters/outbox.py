"""Pushes into a file instead of to phones: one JSON line each, and shown on the terminal."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from notifications.domain.errors import DependencyDown
from notifications.domain.push import Answer, Message, Result


class Outbox:
    """The Push port over one file that many processes append to; each line is one write."""

    def __init__(self, path: Path, show: Callable[[Message, str], None]) -> None:
        self._path = path
        self._show = show

    async def send(self, token: str, message: Message, timeout: timedelta) -> Answer:
        """Always accepted. Raises DependencyDown where the file can't be written."""
        device = hashlib.sha256(token.encode()).hexdigest()[:16]
        line = {
            "device": device,
            "uid": message.uid,
            "collapse_id": message.collapse_id,
            "title": message.title,
            "body": message.body,
            "data": message.data,
        }
        try:
            self._append(f"{json.dumps(line, ensure_ascii=False)}\n".encode())
        except OSError as cause:
            raise DependencyDown("outbox", f"{self._path} can't be written ({cause.strerror}); make room.") from cause
        self._show(message, device)
        return Answer(Result.ACCEPTED, "200")

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, line) < len(line):
                os.ftruncate(descriptor, before)  # half a line would spoil the next one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    async def check(self) -> str:
        """Whether the file can be written."""
        return "" if os.access(self._path.parent, os.W_OK) else f"{self._path} can't be written; see its folder."

    async def aclose(self) -> None:
        """Nothing is open."""
