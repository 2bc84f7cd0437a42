"""Pushes into a file instead of to phones: one JSON line each."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path

from notifications.adapters.local.private_files import PRIVATE_FILE, lock, locked, private_folder
from notifications.domain.errors import DependencyDown
from notifications.domain.push import ACCEPTED, Message, PushAnswer, PushResult
from notifications.domain.target import Recipient, Target, device_targets
from notifications.ports import Channel


class Outbox(Channel):
    """The Channel port over one file that many processes append to; `show` is called after each line is written."""

    name = "outbox"
    has_addresses = False
    alerts = True

    def __init__(self, path: Path, show: Callable[[Message, str], None]) -> None:
        private_folder(path.parent)
        self.where = str(path)
        self.aside = f" (none: {path.name})"
        self._path = path
        self._show = show

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]:
        return device_targets(self.name, recipient.devices), []

    async def send(
        self, target: Target, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        """Accepted, or UNSENT if the file stays locked. Raises DependencyDown if it can't be written."""
        line = {
            "device": target.id,
            "uid": message.uid,
            "collapse_id": message.collapse_id,
            "title": message.title,
            "body": message.body,
            "data": message.data,
        }
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._append(json.dumps(line, ensure_ascii=False).encode(errors="replace"))
        except TimeoutError:
            return PushAnswer(PushResult.UNSENT, "LOCKED")
        except OSError as cause:
            raise DependencyDown("outbox", f"{self._path} can't be written ({cause.strerror}); make room.") from cause
        leaves()
        self._show(message, target.id)
        return ACCEPTED

    async def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
        try:
            await lock(descriptor)
            before = os.fstat(descriptor).st_size
            ended = before == 0 or os.pread(descriptor, 1, before - 1) == b"\n"
            text = (b"" if ended else b"\n") + line + b"\n"  # on a line of its own, even after half a line
            if os.write(descriptor, text) < len(text):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    async def check(self) -> str:
        return "" if os.access(self._path.parent, os.W_OK) else f"{self._path} can't be written; see its folder."

    async def aclose(self) -> None:
        """Do nothing: no file stays open."""


async def forget(path: Path, uids: Collection[str]) -> None:
    """Delete these users' lines, in place: other processes may be waiting for the lock of this very file."""
    names = [f'"uid": {json.dumps(uid, ensure_ascii=False)}'.encode() for uid in uids]
    if not names or not path.exists():
        return
    async with locked(path):
        kept = [line for line in path.read_bytes().splitlines(True) if not any(name in line for name in names)]
        path.write_bytes(b"".join(kept))
