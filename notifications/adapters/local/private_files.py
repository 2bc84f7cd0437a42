"""The data folder's files: readable by their owner alone, and written completely or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

from notifications.domain.errors import DependencyDown

ID_FILE, ID = "environment", re.compile(r"[0-9a-f]{16}", re.ASCII)
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
MARKER = "created"  # of a data folder: when it was first filled
OUR_FILES = (MARKER, "users.lock", "recap.sqlite3")
POLL_SECONDS = 0.02


def created(folder: Path) -> datetime | None:
    """When the data folder was first filled; None if it was not, or its mark can't be read."""
    try:
        return datetime.fromisoformat((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def private_folder(path: Path) -> None:
    """Create the folder if it is missing; close it to others if one of our files is in it."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    if any((path / name).exists() for name in OUR_FILES):
        with suppress(PermissionError):
            path.chmod(PRIVATE_FOLDER)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file's text at once, so that a full disk leaves the file as it was."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(half, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


async def id_of(folder: Path) -> str:
    """The folder's random id, made once. Raises DependencyDown if the folder can't be used."""
    path = folder / ID_FILE
    try:
        if (stored := _id_in(path)) is not None:
            return stored
        private_folder(folder)
        async with locked(folder / "fill.lock"):
            if (stored := _id_in(path)) is not None:
                return stored
            made = secrets.token_hex(8)
            write_atomically(path, made)
            return made
    except OSError as cause:
        raise DependencyDown("disk", f"{folder} can't be used ({cause.strerror}); check the disk.") from cause


def _id_in(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return text if ID.fullmatch(text) else None


@asynccontextmanager
async def locked(path: Path, how: int = fcntl.LOCK_EX) -> AsyncIterator[int]:
    """Hold a lock file. The wait for it does not block the event loop, so that SIGTERM can end it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
    try:
        await lock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


async def lock(descriptor: int, how: int = fcntl.LOCK_EX) -> None:
    """Wait for the lock of an open file; if cancelled, it is not taken."""
    while True:
        try:
            return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(POLL_SECONDS)
