"""Folders and files of the data folder: for their owner alone, and written whole or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from notifications.domain.errors import DependencyDown

ID_FILE, ID = "environment", re.compile(r"[0-9a-f]{16}", re.ASCII)
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
LOOK_AGAIN_SECONDS = 0.02


def private_folder(path: Path) -> None:
    """The folder, made where there is none, and closed to others where it is our own by its mark."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    if ours(path):
        with suppress(PermissionError):
            path.chmod(PRIVATE_FOLDER)


def ours(path: Path) -> bool:
    """Whether this job made the folder: nobody else's is touched."""
    return any((path / name).exists() for name in ("created", "users.lock", "recap.sqlite3"))


def write_whole(path: Path, text: str) -> None:
    """The file with this text, or as it was before: what a full disk cuts off never gets its name."""
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
    """The folder's random id, made once. Raises DependencyDown where the folder can't be used."""
    path = folder / ID_FILE
    try:
        if (found := _id_in(path)) is not None:
            return found
        private_folder(folder)
        async with locked(folder / "fill.lock"):
            if (found := _id_in(path)) is None:
                found = secrets.token_hex(8)
                write_whole(path, found)
            return found
    except OSError as cause:
        raise DependencyDown("disk", f"{folder} can't be used ({cause.strerror}); check the disk.") from cause


def _id_in(path: Path) -> str | None:
    try:
        found = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return found if ID.fullmatch(found) else None


@asynccontextmanager
async def locked(path: Path, how: int = fcntl.LOCK_EX) -> AsyncIterator[int]:
    """A lock file held, waited for without holding up the event loop: SIGTERM is heard meanwhile."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
    try:
        await lock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


async def lock(descriptor: int, how: int = fcntl.LOCK_EX) -> None:
    """Wait for the lock of an open file; cancelled, it was not taken."""
    while True:
        try:
            return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
